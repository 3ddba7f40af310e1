"""`ConvDecoder`: residual blocks and upsampling, stage by stage."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.decoders.base import Decoder, SubPixel, by_stride, vector_size
from inverters.decoders.names import MOST_BLOCKS, VECTOR_STRIDE, most_stages
from inverters.encoders.layers import Layer
from inverters.errors import InverterError

Stages = Sequence[tuple[int, int]]  # (width, residual blocks): at the layer's stride, at half of it, …

DEFAULT_STAGES: dict[int, Stages] = {  # by the layer's stride; most of the computation is at low resolution
    1: [(48, 1)],
    2: [(64, 2)],
    4: [(128, 2), (64, 1)],
    8: [(256, 3), (128, 1)],
    16: [(256, 4), (192, 1), (96, 1)],
    32: [(256, 3), (256, 1), (128, 1), (96, 1)],
}


DENSE_WIDTH = 32  # channels of the grid that a vector is laid out on; the dense layer has 49 times as many outputs
LEAK = 0.2  # of the dense layer's leaky ReLU
SMOOTHED_STEP = 8  # from this sub-pixel step on, its cells would be visible


def default_stages(layer: Layer) -> Stages:
    """The stages of the most similar stride, as many as the stride can be halved for."""
    stride = layer.stride or VECTOR_STRIDE
    return by_stride(DEFAULT_STAGES, stride)[: most_stages(stride)]


class ConvDecoder(Decoder):
    """Stages of residual blocks, each at twice the resolution of the one before, and a sub-pixel convolution to pixels.

    The last step takes what is left of the stride: 7 of 14, after two stages. From 8 on, its pixels are smoothed, which
    hides the borders of its cells. A vector is first laid out on a grid by a dense layer, as by Dosovitskiy & Brox 2016
    (fc6–fc8), and is then decoded like features of stride 32.

    Args:
        layer: the layer whose features it decodes.
        stages: (width, number of residual blocks) of each stage, the first at the stride of the layer and each further
            one at half the stride of the one before. None takes `default_stages(layer)`.
        log_compress: replace each standardised feature x by sign(x)·ln(1 + |x|). After a ReLU, most deep features are
            near zero and a few are very large.
        size: side of the images in pixels, for a vector.
        dense_width: channels of the grid, for a vector.

    Raises:
        InverterError: the stride cannot be halved for every stage, a stage has more than 64 blocks, or a vector has no
            size.
    """

    architecture = "conv"
    body: nn.Sequential
    stages: list[tuple[int, int]]
    width: int
    size: int | None
    arguments: dict[str, Any]

    def __init__(
        self,
        layer: Layer,
        stages: Stages | None = None,
        log_compress: bool = False,
        size: int | None = None,
        dense_width: int = DENSE_WIDTH,
    ) -> None:
        super().__init__(layer)
        self.stages = [(width, blocks) for width, blocks in stages or default_stages(layer)]
        self.width = self.stages[0][0]
        self.size = vector_size(layer, size)
        self.arguments = {"stages": self.stages, "log_compress": log_compress}
        stride = layer.stride or VECTOR_STRIDE
        if len(self.stages) > most_stages(stride):
            raise InverterError(
                f"a decoder of {layer.name} cannot have {len(self.stages)} stages: its stride {stride} allows at "
                f"most {most_stages(stride)}"
            )
        if max(blocks for _, blocks in self.stages) > MOST_BLOCKS:
            raise InverterError(f"a stage can have at most {MOST_BLOCKS} residual blocks")
        self.log_compress = log_compress
        modules: list[nn.Module] = [LogCompression()] if log_compress else []
        channels = layer.channels
        if self.size:
            self.arguments |= {"size": self.size, "dense_width": dense_width}
            modules.append(Dense(channels, dense_width, -(-self.size // stride)))
            channels = dense_width
        for number, (width, blocks) in enumerate(self.stages):
            if number > 0:
                modules.append(nn.Upsample(scale_factor=2, mode="nearest"))
            modules.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            modules.extend(ResidualBlock(width) for _ in range(blocks))
            channels = width
        self.last_step = stride >> (len(self.stages) - 1)
        self.smoothing = self.last_step // 2 if self.last_step >= SMOOTHED_STEP else 0
        modules.append(SubPixel(channels, 3, self.last_step))
        if self.smoothing:
            modules.append(Smooth(self.smoothing))
        if self.size and self.size % stride:
            modules.append(Crop(self.size))
        self.body = nn.Sequential(*modules)

    @property
    def halo(self) -> int:
        stride, halo = self.layer.spatial_stride, 0
        for number, (_, blocks) in enumerate(self.stages):
            halo += (1 + 2 * blocks) * (stride >> number)  # each 3×3 convolution adds one step
        return halo + self.last_step + 2 * self.smoothing  # the sub-pixel convolution, and two box filters

    def prepare(self, features: Tensor) -> Tensor:
        """Features as `decode` takes them: standardised, and log-compressed where the decoder does so."""
        standardized = self.standardized(features)
        prepared: Tensor = self.body[0](standardized) if self.log_compress else standardized
        return prepared

    def decode(self, prepared: Tensor) -> Tensor:
        for module in self.body[int(self.log_compress) :]:
            prepared = module(prepared)
        return prepared.add_(0.5)


class Dense(nn.Sequential):
    """A dense layer from vectors, N×C×1×1, to a grid, N×`width`×`side`×`side`, with a leaky ReLU."""

    def __init__(self, channels: int, width: int, side: int) -> None:
        dense = nn.Conv2d(channels, width * side**2, kernel_size=1)
        super().__init__(dense, nn.PixelShuffle(side), nn.LeakyReLU(LEAK, inplace=True))


class Smooth(nn.Module):
    """Two box filters, each over `radius` pixels to every side; the border is repeated."""

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.avg_pool2d(F.pad(x, [self.radius] * 4, mode="replicate"), 2 * self.radius + 1, stride=1)
        return x


class Crop(nn.Module):
    """The first `size` rows and columns."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.size, : self.size]


class LogCompression(nn.Module):
    """sign(x)·ln(1 + |x|), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().log1p_().copysign_(x)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation (Lim et al. 2017). It starts close to the identity."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        return residual.add_(x)
