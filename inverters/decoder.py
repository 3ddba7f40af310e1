"""The networks that invert one layer: features in, pixels out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.errors import InverterError
from inverters.layers import find_layers

Stages = Sequence[tuple[int, int]]  # (width, residual blocks), at the layer's stride first, then at half of it, …

DEFAULT_STAGES: dict[int, Stages] = {  # by the layer's stride; the work stays at low resolution
    1: [(48, 1)],
    2: [(64, 2)],
    4: [(128, 2), (64, 1)],
    8: [(256, 3), (128, 1)],
    16: [(256, 4), (192, 1), (96, 1)],
    32: [(256, 3), (256, 1), (128, 1), (96, 1)],
}


class Decoder(nn.Module):
    """Maps the features of one layer, N×C×h×w, to the image that caused them, N×3×(h·stride)×(w·stride).

    The features are standardised per channel (VGG's reach into the hundreds); what follows is the `body`. The output is
    meant to lie in [0, 1] but is not clamped, so that gradients survive. `arguments` are what a decoder of this class
    and layer is made of.
    """

    mean: Tensor
    std: Tensor
    body: nn.Module
    arguments: dict[str, Any]

    def __init__(self, layer: str, encoder: str) -> None:
        super().__init__()
        (self.layer,) = find_layers([layer], encoder)
        self.register_buffer("mean", torch.zeros(1, self.layer.channels, 1, 1))
        self.register_buffer("std", torch.ones(1, self.layer.channels, 1, 1))

    @property
    def reach(self) -> int:
        """How many pixels beyond its own stride×stride a place of the features is decoded to, on each side."""
        pixels, reach = self.layer.stride, 0
        for module in self.body.modules():  # in the order of their use
            if isinstance(module, nn.Conv2d):
                reach += module.kernel_size[0] // 2 * pixels
            elif isinstance(module, nn.Upsample):
                pixels //= 2
        return reach

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Stores the mean and standard deviation of each channel (C values each) by which features are standardised."""
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.view_as(self.std).clamp_min(1e-6 * float(std.max()) + 1e-12))

    def forward(self, features: Tensor) -> Tensor:
        x = torch.addcmul(-self.mean / self.std, features, 1 / self.std)  # (features − mean) / std in one pass, N×C×h×w
        pixels: Tensor = self.body(x)
        return pixels.add_(0.5)  # the middle of the range: what an untrained decoder answers


class FeatureDecoder(Decoder):
    """A decoder of residual blocks at the layer's own resolution, upsampled stage by stage.

    The last stage goes to pixels in one sub-pixel step (Shi et al. 2016), initialised so that it starts without a
    checkerboard (ICNR, Aitken et al. 2017).

    Args:
        layer: a name from `layer_table(encoder)`.
        encoder: the network that `layer` belongs to.
        stages: (width, number of residual blocks) of each stage: the first at the layer's stride, each further one at
            half the stride before it. None takes `DEFAULT_STAGES`.
        compress: whether standardised features x are replaced by sign(x)·ln(1 + |x|): after a ReLU, deep features are
            mostly near zero and now and then very large.

    Raises:
        UnknownNameError: an encoder or layer that does not exist.
        InverterError: more stages than the stride has halvings.
    """

    def __init__(
        self, layer: str, encoder: str = "vgg19", stages: Stages | None = None, compress: bool = False
    ) -> None:
        super().__init__(layer, encoder)
        self.stages = [(width, blocks) for width, blocks in stages or DEFAULT_STAGES[self.layer.stride]]
        self.arguments = {"stages": self.stages, "compress": compress}
        stride = self.layer.stride >> (len(self.stages) - 1)
        if stride < 1:
            raise InverterError(
                f"decoder for {layer} has {len(self.stages)} stages; its stride {self.layer.stride} allows at most "
                f"{self.layer.stride.bit_length()}"
            )
        modules: list[nn.Module] = [SignedLogarithm()] if compress else []
        channels = self.layer.channels
        for number, (width, blocks) in enumerate(self.stages):
            if number > 0:
                modules.append(nn.Upsample(scale_factor=2, mode="nearest"))
            modules.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            modules.extend(ResidualBlock(width) for _ in range(blocks))
            channels = width
        self.body = nn.Sequential(*modules, SubPixel(channels, 3, stride))


class LinearDecoder(Decoder):
    """One convolution from the features to the stride×stride pixels of each place: what is linearly decodable.

    Its weights come in closed form from `fit_linear_decoders`, not from training.

    Args:
        layer: a name from `layer_table(encoder)`.
        encoder: the network that `layer` belongs to.
        kernel_size: the side of the neighbourhood of features that a place's pixels are decoded from; odd.

    Raises:
        UnknownNameError: an encoder or layer that does not exist.
        InverterError: the kernel size is even.
    """

    def __init__(self, layer: str, encoder: str = "vgg19", kernel_size: int = 3) -> None:
        super().__init__(layer, encoder)
        if kernel_size % 2 == 0:
            raise InverterError(f"a decoder's kernel_size must be odd, not {kernel_size}")
        self.kernel_size = kernel_size
        self.arguments = {"kernel_size": kernel_size}
        self.body = SubPixel(self.layer.channels, 3, self.layer.stride, kernel_size)


class SignedLogarithm(nn.Module):
    """sign(x)·ln(1 + |x|), element by element."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().log1p_().copysign_(x)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation (Lim et al. 2017): it starts close to the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        return residual.add_(x)


class SubPixel(nn.Sequential):
    """A convolution at low resolution whose channels become `factor`×`factor` pixels; all equal at the start (ICNR)."""

    def __init__(self, channels: int, out_channels: int, factor: int, kernel_size: int = 3) -> None:
        convolution = nn.Conv2d(channels, out_channels * factor**2, kernel_size, padding=kernel_size // 2)
        with torch.no_grad():
            first = convolution.weight[:: factor**2]  # one kernel for each output channel
            convolution.weight.copy_(first.repeat_interleave(factor**2, dim=0))
            convolution.bias.zero_()  # type: ignore[union-attr]
        super().__init__(convolution, nn.PixelShuffle(factor))
