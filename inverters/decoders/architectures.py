"""The architectures of decoders by name, as cards describe them."""

from collections.abc import Callable, Mapping
from typing import Any

from inverters.decoders.base import Decoder
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.through import ThroughDecoder
from inverters.encoders.layers import Layer


def create_decoder(layer: Layer, architecture: str, arguments: Mapping[str, Any]) -> Decoder:
    """Create a decoder with random weights from its `Decoder.description`.

    Raises:
        KeyError: there is no such architecture.
    """
    return ARCHITECTURES[architecture](layer, **arguments)


def _corrected(layer: Layer, base: Mapping[str, Any], **arguments: Any) -> CorrectedDecoder:
    """A corrected decoder by its card, where `base` is a description."""
    return CorrectedDecoder(create_decoder(layer, **base), **arguments)


def _through(layer: Layer, target: Mapping[str, Any], **arguments: Any) -> ThroughDecoder:
    """A decoder through another layer by its card, where `target` is a description with its layer."""
    decoder = create_decoder(Layer(**target["layer"]), target["architecture"], target["arguments"])
    return ThroughDecoder(layer, decoder, **arguments)


ARCHITECTURES: dict[str, Callable[..., Decoder]] = {
    "conv": ConvDecoder,
    "linear": LinearDecoder,
    "corrected": _corrected,
    "through": _through,
}
