"""Creating encoders by name."""

from collections.abc import Iterable

from inverters.encoders.base import Encoder
from inverters.encoders.names import (
    DEFAULT_ENCODER,
    ENCODERS,
    check_weights,
    default_weights,
    find_layers,
    input_multiple,
    last_of_each_stage,
    list_layers,
    perceptual_layers,
    require_encoder,
    weights_label,
)
from inverters.encoders.vgg import VGGEncoder

__all__ = [
    "DEFAULT_ENCODER",
    "ENCODERS",
    "check_weights",
    "create_encoder",
    "default_weights",
    "find_layers",
    "input_multiple",
    "last_of_each_stage",
    "list_layers",
    "perceptual_layers",
    "require_encoder",
    "weights_label",
]


def create_encoder(name: str, weights: str | None, layers: Iterable[str]) -> Encoder:
    """Create an encoder with all layers up to the deepest of `layers`.

    Args:
        name: one of `ENCODERS`.
        weights: see `VGGEncoder`; None takes `default_weights(name)`.
        layers: names from `list_layers(name)`; at least one.

    Raises:
        UnknownNameError: an encoder, layer or set of weights does not exist.
        WeightsError: the weights cannot be found, downloaded or used.
        InverterError: `layers` is empty.
    """
    require_encoder(name)
    return VGGEncoder(layers, name, weights)
