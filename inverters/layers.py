"""The layers of the VGG networks (Simonyan & Zisserman 2015, Table 1): names, channels, strides, receptive fields.

A name says what the tensor is: `conv4_2` is the convolution's output before its ReLU, `relu4_2` after it, `pool4` after
the block's max pooling. The style-transfer papers' "conv4_2" is Caffe's blob after its in-place ReLU: here `relu4_2`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from inverters.errors import unknown_name

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # per block
CHANNELS = (64, 128, 256, 512, 512)
ENCODERS = ("vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
GATYS_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")  # Gatys et al. 2016, Fig. 1
INPUT_MULTIPLE = 32  # an image whose sides are multiples of this loses no border pixel to any pooling


@dataclass(frozen=True)
class Layer:
    """One layer of an encoder.

    `index` is its place in torchvision's `features`; `stride` and `receptive_field` count input pixels.
    """

    name: str
    index: int
    channels: int
    stride: int
    receptive_field: int

    @property
    def reach(self) -> int:
        """How many pixels beyond its own `stride`×`stride` a place of the features sees, on each side."""
        return (self.receptive_field - self.stride) // 2

    @property
    def block(self) -> int:
        """Of which block, the convolutions between two poolings and the pooling after them: 1 to 5."""
        return int(self.name.partition("_")[0][-1])

    @property
    def kind(self) -> str:
        """`conv`, `norm`, `relu` or `pool`."""
        return self.name.rstrip("0123456789_")


@cache
def network(encoder: str) -> tuple[Layer, ...]:
    """Every module of `encoder`'s feature extractor in order, batch normalisation included.

    Raises:
        UnknownNameError: there is no such encoder.
    """
    if encoder not in ENCODERS:
        raise unknown_name("encoder", encoder, ENCODERS)
    layers: list[Layer] = []
    stride, field = 1, 1
    for block, (convolutions, channels) in enumerate(
        zip(CONVOLUTIONS[encoder.removesuffix("_bn")], CHANNELS, strict=True), start=1
    ):
        for number in range(1, convolutions + 1):
            field += 2 * stride  # a 3×3 kernel adds one step on each side
            for kind in ("conv", "norm", "relu") if encoder.endswith("_bn") else ("conv", "relu"):
                layers.append(Layer(f"{kind}{block}_{number}", len(layers), channels, stride, field))
        field += stride  # a 2×2 pooling window adds one step
        stride *= 2
        layers.append(Layer(f"pool{block}", len(layers), channels, stride, field))
    return tuple(layers)


@cache
def layer_table(encoder: str) -> dict[str, Layer]:
    """The layers of `encoder` that features can be taken from, by name, shallowest first."""
    return {layer.name: layer for layer in network(encoder) if layer.kind != "norm"}


def find_layers(names: Iterable[str], encoder: str) -> list[Layer]:
    """The layers of these names, shallowest first, each once.

    Raises:
        UnknownNameError: a name is not a layer of `encoder`.
    """
    table = layer_table(encoder)
    wanted = set(names)
    for name in sorted(wanted - table.keys()):
        raise unknown_name(f"layer of {encoder}", name, table)
    return [layer for layer in table.values() if layer.name in wanted]


def deepest_of_each_block(names: Iterable[str], encoder: str) -> list[str]:
    """Of the layers of these names the last of each block, shallowest first.

    Raises:
        UnknownNameError: a name is not a layer of `encoder`.
    """
    return list({layer.block: layer.name for layer in find_layers(names, encoder)}.values())
