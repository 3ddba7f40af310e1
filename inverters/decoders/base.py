"""`Decoder`: the interface of the decoders, and what they are built from."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from inverters.encoders.layers import Layer
from inverters.errors import InverterError

ValueT = TypeVar("ValueT")
Encode = Callable[[Tensor], Tensor]  # from images, N×3×H×W, to the features of the decoder's layer


class Decoder(nn.Module):
    """A map from the features of one layer, N×C×h×w, to images, N×3×(h·stride)×(w·stride).

    It standardises the features per channel, since those of VGG reach into the hundreds, and applies its `body`. The
    images are meant to lie in [0, 1], but are not clamped, so that gradients survive.

    Attributes:
        layer: the layer whose features it decodes.
        architecture: what cards call the class.
        arguments: the arguments of the constructor without the layer, as JSON stores them.
        width: the channels of what is trained, by which learning rates are scaled.
        size: the side in pixels of the square images that it makes from a vector, N×C×1×1; None where features form a
            grid.
        error_quantiles: of the feature error over photographs, see `DecoderCard`; None if unknown.
    """

    architecture: ClassVar[str]

    mean: Tensor
    std: Tensor
    body: nn.Module
    arguments: dict[str, Any]
    width: int
    size: int | None = None
    error_quantiles: tuple[float, ...] | None = None

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("mean", torch.zeros(1, layer.channels, 1, 1))
        self.register_buffer("std", torch.ones(1, layer.channels, 1, 1))

    @property
    def description(self) -> dict[str, Any]:
        """The `architecture` and the `arguments`, from which `architectures.create_decoder` builds such a decoder."""
        return {"architecture": self.architecture, "arguments": self.arguments}

    @property
    def needs_float32(self) -> bool:
        """Whether bfloat16 would limit its reconstructions, which at stride 1 are almost lossless."""
        return self.layer.stride == 1

    @property
    def halo(self) -> int:
        """How many pixels beyond its own stride×stride cell a feature influences, on each side."""
        raise NotImplementedError

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of each channel, C values each, that features are standardised by."""
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.view_as(self.std).clamp_min(1e-6 * float(std.max()) + 1e-12))

    def forward(self, features: Tensor, encode: Encode | None = None) -> Tensor:  # noqa: ARG002
        """Decode features.

        Args:
            features: N×C×h×w, of `self.layer`.
            encode: computes the features of images, for decoders that compare those of their output with `features`.
        """
        return self.decode(self.prepare(features))

    def prepare(self, features: Tensor) -> Tensor:
        """Features as `decode` takes them: standardised."""
        return self.standardized(features)

    def decode(self, prepared: Tensor) -> Tensor:
        """Images from features that `prepare` returns."""
        pixels: Tensor = self.body(prepared)
        return pixels.add_(0.5)  # the middle of the range, which is the output of an untrained decoder

    def steps(self, features: Tensor, encode: Encode | None) -> list[Tensor]:
        """Return the images on the way to the reconstruction, N×3×H×W each; the last is that of `forward`.

        In training, each has a loss of its own.
        """
        return [self(features, encode)]

    def standardized(self, features: Tensor) -> Tensor:
        """(features − mean) / std, in one pass."""
        return torch.addcmul(-self.mean / self.std, features, 1 / self.std)


def vector_size(layer: Layer, size: int | None) -> int | None:
    """Check that the decoder of a vector is given the size of its images, and return that; None for a grid.

    Raises:
        InverterError: the size is missing, or not positive.
    """
    if layer.stride is not None:
        return None
    if size is None or size < 1:
        raise InverterError(f"{layer.name} is a vector: its decoder needs a positive size of its images, not {size}")
    return size


def by_stride(table: Mapping[int, ValueT], stride: int) -> ValueT:
    """The value of this stride, or of the one in the table that differs by the smallest factor."""
    return table[min(table, key=lambda other: max(other / stride, stride / other))]


class SubPixel(nn.Sequential):
    """Sub-pixel convolution (Shi et al. 2016), from N×C×h×w to N×`out_channels`×(h·`factor`)×(w·`factor`).

    ICNR initialisation (Aitken et al. 2017) makes all pixels of a cell equal at the start, without a checkerboard.
    """

    def __init__(self, channels: int, out_channels: int, factor: int, kernel_size: int = 3) -> None:
        convolution = nn.Conv2d(channels, out_channels * factor**2, kernel_size, padding=kernel_size // 2)
        with torch.no_grad():
            first = convolution.weight[:: factor**2]  # one kernel per output channel
            convolution.weight.copy_(first.repeat_interleave(factor**2, dim=0))
            convolution.bias.zero_()  # type: ignore[union-attr]
        super().__init__(convolution, nn.PixelShuffle(factor))


def module_key(layer: str) -> str:
    """The name of a layer as that of a module or buffer, which must not contain dots."""
    return layer.replace(".", "/")


NetworkT = TypeVar("NetworkT", bound=nn.Module)


class LayerDict(nn.ModuleDict, Generic[NetworkT]):
    """An `nn.ModuleDict` by layer, whose names may contain dots."""

    def __init__(self, modules: Mapping[str, NetworkT] | None = None) -> None:
        super().__init__(modules)

    def __getitem__(self, layer: str) -> NetworkT:
        return cast("NetworkT", super().__getitem__(module_key(layer)))

    def __setitem__(self, layer: str, module: nn.Module) -> None:
        super().__setitem__(module_key(layer), module)

    def __delitem__(self, layer: str) -> None:
        super().__delitem__(module_key(layer))

    def __contains__(self, layer: object) -> bool:
        return isinstance(layer, str) and super().__contains__(module_key(layer))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        return self._by_layer().keys()

    def values(self) -> ValuesView[NetworkT]:
        return self._by_layer().values()

    def items(self) -> ItemsView[str, NetworkT]:
        return self._by_layer().items()

    def _by_layer(self) -> dict[str, NetworkT]:
        return {key.replace("/", "."): cast("NetworkT", module) for key, module in super().items()}
