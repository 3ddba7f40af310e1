"""The layers of the VGG networks (Simonyan & Zisserman 2015, Table 1).

`conv4_2` is the output of a convolution before its ReLU, `relu4_2` after it, and `pool4` the output of the block's max
pooling. What papers on style transfer call conv4_2 is `relu4_2`: Caffe applies the ReLU in place.
"""

from functools import cache
from typing import NamedTuple

from inverters.encoders.layers import Layer

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # per block
CHANNELS = (64, 128, 256, 512, 512)
VGG_NAMES = ("vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
DEFAULT_ENCODER = "vgg19"
GATYS_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")  # Gatys et al. 2016, Fig. 1
INPUT_MULTIPLE = 32  # pixels: the stride of pool5


class VGGModule(NamedTuple):
    """A module of torchvision's `features`: its kind (`conv`, `norm`, `relu` or `pool`) and the layer it outputs."""

    kind: str
    layer: Layer


@cache
def vgg_modules(name: str) -> tuple[VGGModule, ...]:
    """List all modules of the feature extractor in order, including batch normalisation."""
    modules: list[VGGModule] = []
    stride, field = 1, 1
    for block, (convolutions, channels) in enumerate(
        zip(CONVOLUTIONS[name.removesuffix("_bn")], CHANNELS, strict=True), start=1
    ):
        for number in range(1, convolutions + 1):
            field += 2 * stride  # a 3×3 kernel adds one step on each side
            for kind in ("conv", "norm", "relu") if name.endswith("_bn") else ("conv", "relu"):
                layer = Layer(f"{kind}{block}_{number}", channels, stride, field, f"block{block}")
                modules.append(VGGModule(kind, layer))
        field += stride  # a 2×2 pooling window adds one step
        stride *= 2
        modules.append(VGGModule("pool", Layer(f"pool{block}", channels, stride, field, f"block{block}")))
    return tuple(modules)


@cache
def vgg_layers(name: str) -> dict[str, Layer]:
    """Return the layers by name, in order of execution; batch normalisation is none of them."""
    return {layer.name: layer for kind, layer in vgg_modules(name) if kind != "norm"}
