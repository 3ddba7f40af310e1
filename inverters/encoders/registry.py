"""Creating encoders by name."""

from collections.abc import Iterable

from inverters.encoders.base import Encoder
from inverters.encoders.names import require_encoder
from inverters.encoders.vgg import VGGEncoder


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
