from functools import cache

import pytest
import torch
import torchvision
from torch import Tensor, nn

from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import GATYS_LAYERS, INPUT_MULTIPLE, VGG_NAMES, vgg_layers, vgg_modules

MODULES = {"conv": nn.Conv2d, "norm": nn.BatchNorm2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}


@cache
def torchvision_features(encoder: str) -> nn.Sequential:
    """torchvision's network without weights."""
    with torch.device("meta"):
        return getattr(torchvision.models, encoder)().features


@pytest.mark.parametrize("encoder", VGG_NAMES)
def test_the_network_is_torchvisions(encoder: str) -> None:
    modules = list(torchvision_features(encoder))
    assert len(vgg_modules(encoder)) == len(modules)
    for (kind, _), module in zip(vgg_modules(encoder), modules, strict=True):
        assert type(module) is MODULES[kind]


@pytest.mark.parametrize("encoder", VGG_NAMES)
def test_channels_and_strides_are_those_of_real_features(encoder: str) -> None:
    images = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    features = VGGEncoder(vgg_layers(encoder), encoder, "random")(images, vgg_layers(encoder))
    assert list(features) == list(vgg_layers(encoder))
    for name, tensor in features.items():
        layer = vgg_layers(encoder)[name]
        assert tensor.shape == (1, layer.channels, 32 // layer.stride, 64 // layer.stride)


def one_channel(module: nn.Module) -> nn.Module:
    """A module of the same kernel, stride and padding with positive weights, so that no gradients cancel."""
    if isinstance(module, nn.Conv2d):
        convolution = nn.Conv2d(1, 1, module.kernel_size, module.stride, module.padding, bias=False)
        nn.init.ones_(convolution.weight)
        return convolution.double()
    if isinstance(module, nn.MaxPool2d):  # any pixel of the window can be the maximum
        return nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
    return nn.Identity()


@pytest.mark.parametrize("encoder", VGG_NAMES)
def test_receptive_fields_are_those_of_real_gradients(encoder: str) -> None:
    side = 320
    image = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    x: Tensor = image
    for (_, layer), module in zip(vgg_modules(encoder), torchvision_features(encoder), strict=True):
        x = one_channel(module)(x)
        middle = x.shape[-1] // 2
        (gradient,) = torch.autograd.grad(x[0, 0, middle, middle], image, retain_graph=True)
        rows, columns = (gradient[0, 0] != 0).nonzero().unbind(1)
        for touched in (rows, columns):
            assert touched.min() > 0
            assert touched.max() < side - 1
            assert touched.max() - touched.min() + 1 == layer.receptive_field


def test_known_receptive_fields() -> None:
    """Those of pool1 … pool5 in VGG-16 are in many tables, such as Araujo et al. 2019, "Computing receptive fields"."""
    assert [vgg_layers("vgg16")[f"pool{block}"].receptive_field for block in range(1, 6)] == [6, 16, 44, 100, 212]


def test_names_and_their_order() -> None:
    names = list(vgg_layers("vgg16"))
    assert names[:7] == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1", "relu2_1"]
    assert names[-7:] == ["conv5_1", "relu5_1", "conv5_2", "relu5_2", "conv5_3", "relu5_3", "pool5"]
    assert len(names) == 2 * 13 + 5
    assert len(vgg_layers("vgg19")) == 2 * 16 + 5
    assert set(names) < set(vgg_layers("vgg19"))
    assert list(vgg_layers("vgg16_bn")) == names  # batch normalisation adds no layer
    assert set(GATYS_LAYERS) < set(names)
    assert max(layer.spatial_stride for layer in vgg_layers("vgg19").values()) == INPUT_MULTIPLE
    assert {layer.stage for layer in vgg_layers("vgg16").values()} == {f"block{block}" for block in range(1, 6)}
    assert vgg_layers("vgg16")["relu4_2"].stage == vgg_layers("vgg16")["pool4"].stage == "block4"
