"""`CorrectedDecoder`: a decoder whose output is encoded again and corrected by the error of its features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.decoders.base import Decoder, Encode, by_stride
from inverters.decoders.convolutional import LogCompression, ResidualBlock
from inverters.decoders.names import MOST_BLOCKS
from inverters.errors import InverterError

ERROR_SCALE = 4.0  # standardised feature errors are small: brings them to the scale of the features
DEFAULT_SIZES = {1: (32, 2), 2: (64, 3), 4: (128, 3), 8: (256, 3), 16: (256, 3), 32: (256, 3)}  # by the layer's stride


class CorrectedDecoder(Decoder):
    """A base decoder D, then learned corrections with the encoder φ in the loop.

    From features f it computes y₀ = D(f) and yₖ₊₁ = yₖ + Cₖ(f − φ(yₖ); f, y₀): learned gradient descent (Adler & Öktem
    2017), with a network in place of the gradient. Deviation: a correction is *linear* in the feature error. Its
    convolutions are multiplied by gates, which see f and y₀. So it acts as a local inverse of the encoder: errors
    shrink by a factor from correction to correction, and without an error nothing changes.

    Args:
        base: D.
        corrections: their number.
        width: channels of the corrections, and of the network that the gates see.
        depth: gated convolutions of each correction, at the layer's stride. None takes `DEFAULT_SIZES` for both.

    Attributes:
        active: number of corrections that `forward` applies, `corrections` unless lowered.

    Raises:
        InverterError: there are none or more than 64 corrections, the base has corrections itself, or its features are
            a vector.
    """

    architecture = "corrected"
    arguments: dict[str, Any]
    width: int
    depth: int
    compress: LogCompression
    context: nn.Sequential
    corrections: nn.ModuleList

    def __init__(self, base: Decoder, corrections: int, width: int | None = None, depth: int | None = None) -> None:
        super().__init__(base.layer)
        if not 1 <= corrections <= MOST_BLOCKS:
            raise InverterError(f"corrections must be from 1 to {MOST_BLOCKS}, not {corrections}")
        if isinstance(base, CorrectedDecoder):
            raise InverterError("a decoder with corrections cannot be corrected: take its base")
        if base.layer.stride is None:
            raise InverterError(f"{base.layer.name} is a vector: corrections need features that form a grid")
        channels, stride = base.layer.channels, base.layer.stride
        default_width, default_depth = by_stride(DEFAULT_SIZES, stride)
        self.width, self.depth = width or default_width, depth or default_depth
        if self.depth > MOST_BLOCKS:
            raise InverterError(f"a correction can have at most {MOST_BLOCKS} convolutions")
        self.arguments = {
            "base": base.description,
            "corrections": corrections,
            "width": self.width,
            "depth": self.depth,
        }
        self.active = corrections
        self.base = base
        self.mean.copy_(base.mean)
        self.std.copy_(base.std)
        self.compress = LogCompression()
        self.context = nn.Sequential(
            nn.Conv2d(channels + 3 * stride**2, self.width, kernel_size=3, padding=1),
            ResidualBlock(self.width),
            nn.ReLU(),
        )
        self.corrections = nn.ModuleList(
            GatedCorrection(channels, self.width, self.depth, stride) for _ in range(corrections)
        )

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        super().set_statistics(mean, std)
        self.base.set_statistics(mean, std)

    @property
    def needs_float32(self) -> bool:
        return False  # corrections mend rounding errors too: only features, errors and images are float32 at stride 1

    @property
    def halo(self) -> int:
        if not self.active:
            return self.base.halo
        stride, of_layer = self.layer.spatial_stride, self.layer.halo
        if of_layer is None:
            raise InverterError(f"{self.layer.name} depends on the whole image: its corrections have no halo")
        halo = self.base.halo
        for _ in range(self.active):
            # A correction sees errors `depth` + 1 steps away; these see pixels of the image before. The context sees
            # cells of the first image 3 steps away.
            halo = max((self.depth + 1) * stride + of_layer + halo, (3 + 1) * stride + self.base.halo)
        return halo

    def forward(self, features: Tensor, encode: Encode | None = None) -> Tensor:
        return self.steps(features, encode)[-1]

    def steps(self, features: Tensor, encode: Encode | None) -> list[Tensor]:
        """Return the image of the base, and that after each active correction, N×3×H×W each.

        Each is computed from the one before without its gradient. So no gradient runs through the encoder, and each
        correction is trained by its own loss.

        Raises:
            InverterError: there are corrections, but no `encode`.
        """
        images: Tensor = self.base(features, encode).float()  # bfloat16 could not hold small corrections
        steps = [images]
        if not self.active:
            return steps
        if encode is None:
            raise InverterError("a decoder with corrections needs the encoder: pass `encode`")
        # The first image at the layer's stride, pixels as channels, in the range of the standardised features.
        unshuffled = F.pixel_unshuffle(images.detach() * 4 - 2, self.layer.spatial_stride)
        context = self.context(torch.cat([self.compress(self.standardized(features)), unshuffled], dim=1))
        for correction in self.corrections[: self.active]:
            before = steps[-1].detach()
            with torch.no_grad():
                error = (features - encode(before)) * (ERROR_SCALE / self.std)
            steps.append(before + correction(error, context))
        return steps


class GatedCorrection(nn.Module):
    """Feature errors, N×C×h×w, to a change of the pixels; linear in the errors, with gates that see a context.

    Args:
        channels: C.
        width: of the convolutions and of the context.
        depth: number of gated convolutions.
        stride: of the features.
    """

    first: nn.Conv2d
    convolutions: nn.ModuleList
    gates: nn.Conv2d
    last: nn.Conv2d
    shuffle: nn.PixelShuffle

    def __init__(self, channels: int, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False) for _ in range(depth - 1)
        )
        self.gates = nn.Conv2d(width, width * depth, kernel_size=1)
        self.last = nn.Conv2d(width, 3 * stride**2, kernel_size=3, padding=1, bias=False)
        self.shuffle = nn.PixelShuffle(stride)
        with torch.no_grad():  # starts as a small step with half-open, nearly constant gates
            self.gates.weight.mul_(0.5)
            nn.init.ones_(self.gates.bias)  # type: ignore[arg-type]
            self.last.weight.mul_(0.1)
            for convolution in self.convolutions:
                convolution.weight.mul_(0.3)  # type: ignore[operator]

    def forward(self, errors: Tensor, context: Tensor) -> Tensor:
        first, *others = self.gates(context).chunk(1 + len(self.convolutions), dim=1)
        x = self.first(errors) * first
        for convolution, gates in zip(self.convolutions, others, strict=True):
            x = torch.addcmul(x, convolution(x), gates)
        pixels: Tensor = self.shuffle(self.last(x))
        return pixels
