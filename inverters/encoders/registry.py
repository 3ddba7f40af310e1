"""Creating encoders by name."""

from collections.abc import Iterable

from inverters.encoders.base import Encoder
from inverters.encoders.names import VGG_NAMES, find_layers, named_weights, require_encoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import InverterError


def create_encoder(name: str, weights: str | None, layers: Iterable[str]) -> Encoder:
    """Create an encoder with all layers up to the deepest of `layers`, or with all that it has.

    Args:
        name: `vgg16`, `vgg16_bn`, `vgg19`, `vgg19_bn`, `efficientnet-lite0`, `timm/MODEL`, `torchvision/MODEL`, or
            `MODULE:FUNCTION`, a function that returns a `NetworkEncoder`.
        weights: for a VGG see `VGGEncoder`. For a network `default`, a tag or name of its library, `random`,
            `random-SEED`, or the path of a `.safetensors`, `.pth` or `.pt` file with its state dict. None takes
            `default_weights(name)`.
        layers: names from `list_layers(name)`; at least one.

    Raises:
        UnknownNameError: an encoder, layer or set of weights does not exist.
        WeightsError: the weights cannot be found, downloaded or used.
        InverterError: `layers` is empty, or the output of one cannot be inverted.
    """
    require_encoder(name)
    if name in VGG_NAMES:
        return VGGEncoder(layers, name, weights)
    from inverters.encoders.networks import find_source

    if not find_layers(layers, name):
        raise InverterError(f"no layer of {name} was named")
    return find_source(name).create(named_weights(name, weights))
