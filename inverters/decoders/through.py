"""`ThroughDecoder`: a deep layer decoded through the features of a shallower one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from inverters.decoders.base import Decoder, Encode, SubPixel
from inverters.decoders.convolutional import LogCompression, ResidualBlock
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.names import MOST_BLOCKS
from inverters.encoders.layers import Layer
from inverters.errors import InverterError


class ThroughDecoder(Decoder):
    """A translator from the features of a layer to those of a shallower target layer, then a decoder of these.

    The translator T is a convolution, residual blocks at the stride of the layer, and sub-pixel upsampling to the
    stride of the target. It predicts the features as the target's decoder D prepares them, p(f), standardised and
    perhaps log-compressed. The whole is trained on the error of its pixels, D(T(f)), and on ‖T(f) − p(f_target)‖², a
    deep supervision (Lee et al. 2015) by which it learns from fewer images.

    Args:
        layer: the layer whose features it decodes.
        target: a decoder of the target layer.
        width: channels of the translator.
        blocks: its residual blocks.

    Raises:
        InverterError: the target layer's stride does not divide that of the layer, one of them is a vector, or the
            target's decoder has corrections.
    """

    architecture = "through"
    arguments: dict[str, Any]
    width: int
    blocks: int
    translator: nn.Sequential

    def __init__(self, layer: Layer, target: Decoder, width: int = 320, blocks: int = 4) -> None:
        super().__init__(layer)
        if isinstance(target, CorrectedDecoder):
            raise InverterError("a decoder with corrections cannot be decoded through: take its base")
        if layer.stride is None or target.layer.stride is None:
            raise InverterError(f"{layer.name} cannot be decoded through {target.layer.name}: one is a vector")
        stride, finer = layer.stride, target.layer.stride
        if stride % finer:
            raise InverterError(
                f"{layer.name} cannot be decoded through {target.layer.name}, "
                f"since its stride {stride} is no multiple of {finer}"
            )
        if blocks > MOST_BLOCKS:
            raise InverterError(f"a translator can have at most {MOST_BLOCKS} residual blocks")
        self.width, self.blocks = width, blocks
        self.arguments = {
            "target": target.description | {"layer": asdict(target.layer)},
            "width": width,
            "blocks": blocks,
        }
        self.target = target
        self.translator = nn.Sequential(
            LogCompression(),
            nn.Conv2d(layer.channels, width, kernel_size=3, padding=1),
            *(ResidualBlock(width) for _ in range(blocks)),
            SubPixel(width, target.layer.channels, stride // finer),
        )

    @property
    def halo(self) -> int:
        return (2 + 2 * self.blocks) * self.layer.spatial_stride + self.target.halo

    def forward(self, features: Tensor, encode: Encode | None = None) -> Tensor:  # noqa: ARG002
        return self.decode(self.prepare(features))

    def decode(self, prepared: Tensor) -> Tensor:
        return self.target.decode(self.translator(prepared))


def find_through(decoder: Decoder) -> ThroughDecoder | None:
    """The decoder itself or the base of its corrections, if that is a `ThroughDecoder`."""
    base = decoder.base if isinstance(decoder, CorrectedDecoder) else decoder
    return base if isinstance(base, ThroughDecoder) else None


@contextmanager
def watch_predictions(decoder: Decoder) -> Iterator[list[Tensor]]:
    """Collect the features of the target layer that a `ThroughDecoder`, or one with corrections, predicts meanwhile."""
    predicted: list[Tensor] = []
    through = find_through(decoder)
    if through is None:
        yield predicted
        return
    handle = through.translator.register_forward_hook(lambda _module, _inputs, output: predicted.append(output))
    try:
        yield predicted
    finally:
        handle.remove()
