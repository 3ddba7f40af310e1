"""Names of encoders, of their layers and of their weights.

This module imports no torch, and its functions do so for networks only: for the VGGs they look into tables.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inverters.encoders import vgg_weight_names
from inverters.encoders.layers import Layer
from inverters.encoders.network_names import LITE0, LITE0_LICENSE, is_network
from inverters.encoders.vgg_layers import DEFAULT_ENCODER, GATYS_LAYERS, INPUT_MULTIPLE, VGG_NAMES, vgg_layers
from inverters.encoders.vgg_weight_names import weights_label
from inverters.errors import unknown_name

if TYPE_CHECKING:
    from inverters.encoders.network_sources import Source

__all__ = [
    "DEFAULT_ENCODER",
    "ENCODERS",
    "ENCODER_FORMS",
    "VGG_NAMES",
    "check_weights",
    "default_weights",
    "find_layers",
    "input_crop",
    "input_multiple",
    "input_size",
    "last_of_each_stage",
    "list_layers",
    "named_weights",
    "perceptual_layers",
    "require_encoder",
    "show_layers",
    "weights_label",
    "weights_license",
]

ENCODERS = (*VGG_NAMES, LITE0)
ENCODER_FORMS = (*ENCODERS, "timm/MODEL", "torchvision/MODEL", "MODULE:FUNCTION")  # of the user's own


def require_encoder(name: str) -> None:
    """Raise UnknownNameError unless there is an encoder of this name."""
    if name in VGG_NAMES:
        return
    if not is_network(name):
        raise unknown_name("encoder", name, ENCODER_FORMS)
    _source(name)


def _source(network: str) -> "Source":
    from inverters.encoders.networks import find_source

    return find_source(network)


def list_layers(encoder: str) -> dict[str, Layer]:
    """Return all layers of an encoder by name, in order of execution, without loading its weights.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return vgg_layers(encoder) if encoder in VGG_NAMES else _source(encoder).structure.layers


def show_layers(encoder: str, depth: int | None = None) -> dict[str, Layer]:
    """Return the layers that users are shown, and mean by `all`; see `NetworkLayers.listed`. A VGG shows all.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    table = list_layers(encoder)
    return table if encoder in VGG_NAMES else {name: table[name] for name in _source(encoder).structure.listed(depth)}


def find_layers(names: Iterable[str], encoder: str) -> list[Layer]:
    """Return the layers of these names or aliases in order of execution, without duplicates.

    Raises:
        UnknownNameError: there is no such encoder, or it has no such layer.
        InverterError: the output of a network's module cannot be inverted.
    """
    table = list_layers(encoder)
    wanted = set(names)
    if encoder in VGG_NAMES:
        for name in sorted(wanted - table.keys()):
            raise unknown_name(f"layer of {encoder}", name, table)
    else:
        structure = _source(encoder).structure
        wanted = {structure.canonical(name) for name in wanted}
        for name in sorted(wanted):
            structure.require(name, encoder)
    return [layer for name, layer in table.items() if name in wanted]


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
    return vgg_weight_names.default_weights(encoder) if encoder in VGG_NAMES else _source(encoder).default_weights


def named_weights(encoder: str, weights: str | None) -> str:
    """Return `weights`, or the name of the default weights of `encoder` for None and for a network's `default`.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    if weights is None or (weights == "default" and encoder not in VGG_NAMES):
        return default_weights(encoder)
    return weights


def check_weights(encoder: str, weights: str) -> None:
    """Check that `weights` is the path of an existing file or names a set of weights of `encoder`.

    Raises:
        UnknownNameError: there is no such encoder or set of weights.
        WeightsError: there is no such file.
    """
    require_encoder(encoder)
    if encoder in VGG_NAMES:
        vgg_weight_names.check_weights(encoder, weights)
    else:
        _source(encoder).check_weights(named_weights(encoder, weights))


def weights_license(encoder: str, weights: str) -> str | None:
    """Return the license of a set of weights as SPDX names it, where this package comes with the weights; else None."""
    if encoder in VGG_NAMES:
        return vgg_weight_names.LICENSES.get((encoder, weights))
    return LITE0_LICENSE if encoder == LITE0 and weights == default_weights(encoder) else None


def perceptual_layers(encoder: str) -> tuple[str, ...]:
    """Return the layers whose features a perceptual loss compares.

    For a VGG those of Gatys et al. 2016, for other networks the last one of each stage that forms a grid.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    if encoder in VGG_NAMES:
        return GATYS_LAYERS
    grids = [name for name, layer in show_layers(encoder).items() if layer.stride is not None]
    return tuple(last_of_each_stage(grids, encoder))


def input_multiple(encoder: str) -> int:
    """Return `Encoder.input_multiple` without loading weights.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return INPUT_MULTIPLE if encoder in VGG_NAMES else _source(encoder).structure.input_multiple


def input_size(encoder: str) -> int | None:
    """Return `Encoder.input_size` without loading weights.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    return None if encoder in VGG_NAMES else _source(encoder).structure.input_size


def input_crop(encoder: str) -> float:
    """Return `Encoder.input_crop` without loading weights.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    require_encoder(encoder)
    if encoder in VGG_NAMES:
        return 1.0
    source = _source(encoder)
    return source.preprocessing(source.default_weights).crop
