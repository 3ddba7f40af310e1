"""Names of the VGGs' weights; imports no torch."""

import os
import re
from pathlib import Path

from inverters.errors import WeightsError, unknown_name
from inverters.files import no_such_path

WEIGHT_FILES = (".safetensors", ".pth", ".pt")
LICENSES = {("vgg19", "original"): "CC-BY-4.0"}  # by encoder and weights
RANDOM = re.compile(r"random(?:-([0-9]{1,18}))?")  # a seed that fits into 64 bits


def weights_label(weights: str) -> str:
    """Return what folders and tables call a set of weights: its name, or the stem of a file."""
    return Path(weights).stem if weights.endswith(WEIGHT_FILES) else weights


def default_weights(encoder: str) -> str:
    """Return the name of the default weights: those of Gatys et al. 2016 for VGG-19, else torchvision's first."""
    return "original" if encoder == "vgg19" else "IMAGENET1K_V1"


def check_weights(encoder: str, weights: str) -> None:
    """Check that `weights` is the path of an existing file or names a set of weights of `encoder`.

    Raises:
        UnknownNameError: there is no such set of weights.
        WeightsError: there is no such file.
    """
    if weights.endswith(WEIGHT_FILES):
        if not os.path.exists(weights):  # noqa: PTH110 (Path.exists raises where a name is too long)
            raise WeightsError(no_such_path(weights))
    elif not RANDOM.fullmatch(weights) and weights not in (names := weight_names(encoder)):
        raise unknown_name(f"weights of {encoder}", weights, [*names, "random-SEED", f"FILE{'|'.join(WEIGHT_FILES)}"])


def weight_names(encoder: str) -> list[str]:
    """List the named sets of weights of `encoder`."""
    from torchvision.models import get_model_weights  # imports torch

    original = ["original"] if encoder == "vgg19" else []
    return [*original, *(entry.name for entry in get_model_weights(encoder)), "random"]  # without the alias DEFAULT
