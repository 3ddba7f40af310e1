"""Names of encoders, of their layers and of their weights; imports no torch."""

from collections.abc import Iterable

from inverters.encoders import vgg_weight_names
from inverters.encoders.layers import Layer
from inverters.encoders.vgg_layers import DEFAULT_ENCODER, GATYS_LAYERS, INPUT_MULTIPLE, VGG_NAMES, vgg_layers
from inverters.encoders.vgg_weight_names import weights_label
from inverters.errors import unknown_name

__all__ = [
    "DEFAULT_ENCODER",
    "ENCODERS",
    "check_weights",
    "default_weights",
    "find_layers",
    "input_multiple",
    "last_of_each_stage",
    "list_layers",
    "perceptual_layers",
    "require_encoder",
    "weights_label",
]

ENCODERS = VGG_NAMES


def require_encoder(name: str) -> None:
    """Raise UnknownNameError unless there is an encoder of this name."""
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)


def list_layers(encoder: str) -> dict[str, Layer]:
    """Return the layers of an encoder by name, in order of execution, without loading its weights.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return vgg_layers(encoder)


def find_layers(names: Iterable[str], encoder: str) -> list[Layer]:
    """Return the layers of these names in order of execution, without duplicates.

    Raises:
        UnknownNameError: there is no such encoder, or it has no such layer.
    """
    table = list_layers(encoder)
    wanted = set(names)
    for name in sorted(wanted - table.keys()):
        raise unknown_name(f"layer of {encoder}", name, table)
    return [layer for layer in table.values() if layer.name in wanted]


def last_of_each_stage(names: Iterable[str], encoder: str) -> list[str]:
    """Return the last of these layers in each stage, in order of execution.

    Raises:
        UnknownNameError: there is no such encoder, or it has no such layer.
    """
    return list({layer.stage: layer.name for layer in find_layers(names, encoder)}.values())


def default_weights(encoder: str) -> str:
    """Return the name of the default weights of `encoder`.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return vgg_weight_names.default_weights(encoder)


def check_weights(encoder: str, weights: str) -> None:
    """Check that `weights` is the path of an existing file or names a set of weights of `encoder`.

    Raises:
        UnknownNameError: there is no such encoder or set of weights.
        WeightsError: there is no such file.
    """
    require_encoder(encoder)
    vgg_weight_names.check_weights(encoder, weights)


def perceptual_layers(encoder: str) -> tuple[str, ...]:
    """Return the layers whose features a perceptual loss compares; for a VGG those of Gatys et al. 2016.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return GATYS_LAYERS


def input_multiple(encoder: str) -> int:
    """Return `Encoder.input_multiple` without loading weights.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return INPUT_MULTIPLE
