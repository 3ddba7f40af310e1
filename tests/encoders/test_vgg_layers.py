from functools import cache

import pytest
import torch
import torchvision
from torch import Tensor, nn

from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import (
    ENCODERS,
    GATYS_LAYERS,
    INPUT_MULTIPLE,
    deepest_of_each_block,
    find_layers,
    layer_table,
    network,
)
from inverters.errors import UnknownNameError, unknown_name

MODULES = {"conv": nn.Conv2d, "norm": nn.BatchNorm2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}


@cache
def torchvision_features(encoder: str) -> nn.Sequential:
    """torchvision's network, without values."""
    with torch.device("meta"):
        return getattr(torchvision.models, encoder)().features


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_network_is_torchvisions(encoder: str) -> None:
    modules = list(torchvision_features(encoder))
    assert len(network(encoder)) == len(modules)
    for number, (layer, module) in enumerate(zip(network(encoder), modules, strict=True)):
        assert layer.index == number
        assert type(module) is MODULES[layer.kind]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_channels_and_stride_are_what_a_run_shows(encoder: str) -> None:
    images = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    features = VGGEncoder(layer_table(encoder), encoder, "random")(images)
    assert list(features) == list(layer_table(encoder))
    for name, tensor in features.items():
        layer = layer_table(encoder)[name]
        assert tensor.shape == (1, layer.channels, 32 // layer.stride, 64 // layer.stride)


def one_channel(module: nn.Module) -> nn.Module:
    """A module of the same kernel, stride and padding whose every weight is positive, so that no influence is lost."""
    if isinstance(module, nn.Conv2d):
        convolution = nn.Conv2d(1, 1, module.kernel_size, module.stride, module.padding, bias=False)
        nn.init.ones_(convolution.weight)
        return convolution.double()
    if isinstance(module, nn.MaxPool2d):  # all of its window's pixels can become the largest: the mean shows them all
        return nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
    return nn.Identity()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_receptive_field_is_what_gradients_show(encoder: str) -> None:
    side = 320
    image = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    x: Tensor = image
    for layer, module in zip(network(encoder), torchvision_features(encoder), strict=True):
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
    assert [layer_table("vgg16")[f"pool{block}"].receptive_field for block in range(1, 6)] == [6, 16, 44, 100, 212]


def test_the_tables_order_and_names() -> None:
    names = list(layer_table("vgg16"))
    assert names[:7] == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1", "relu2_1"]
    assert names[-7:] == ["conv5_1", "relu5_1", "conv5_2", "relu5_2", "conv5_3", "relu5_3", "pool5"]
    assert len(names) == 2 * 13 + 5
    assert len(layer_table("vgg19")) == 2 * 16 + 5
    assert set(names) < set(layer_table("vgg19"))
    assert list(layer_table("vgg16_bn")) == names  # batch normalisation is no layer to take features from
    assert [layer.index for layer in layer_table("vgg19").values()] == list(range(37))
    assert layer_table("vgg19_bn")["relu1_2"].index == 5
    assert set(GATYS_LAYERS) < set(names)
    assert max(layer.stride for layer in layer_table("vgg19").values()) == INPUT_MULTIPLE
    assert {layer.kind for layer in layer_table("vgg19_bn").values()} == {"conv", "relu", "pool"}


def test_find_layers_sorts_and_deduplicates() -> None:
    found = find_layers(iter(["pool5", "relu1_1", "relu4_2", "relu1_1"]), "vgg19")
    assert [layer.name for layer in found] == ["relu1_1", "relu4_2", "pool5"]
    assert find_layers([], "vgg19") == []


def test_the_deepest_of_each_block() -> None:
    names = ["relu2_1", "relu1_2", "relu1_1", "conv2_2", "relu2_2", "pool4", "relu5_1"]
    assert deepest_of_each_block(names, "vgg19") == ["relu1_2", "relu2_2", "pool4", "relu5_1"]
    assert deepest_of_each_block(layer_table("vgg16"), "vgg16") == [f"pool{block}" for block in range(1, 6)]
    assert deepest_of_each_block([], "vgg19") == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("relu4-2", "relu4_2"), ("con4_2", "conv4_2"), ("relu42", "relu4_2"), ("pol3", "pool3"), ("relu5_5", "relu5_4")],
)
def test_an_unknown_layer_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        find_layers(["relu1_1", name], "vgg19")
    names = ", ".join(layer_table("vgg19"))
    assert str(error.value) == f"unknown layer of vgg19 {name!r}: did you mean {nearest!r}? Valid: {names}"


def test_batch_normalisation_is_no_layer() -> None:
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19_bn 'norm1_1': "):
        find_layers(["norm1_1"], "vgg19_bn")


def test_an_unknown_encoder() -> None:
    for function in (network, layer_table):
        with pytest.raises(UnknownNameError) as error:
            function("vgg-19")
        assert str(error.value) == (
            "unknown encoder 'vgg-19': did you mean 'vgg19'? Valid: vgg16, vgg16_bn, vgg19, vgg19_bn"
        )


def test_a_name_without_a_neighbour() -> None:
    assert str(unknown_name("fruit", "xyz", iter(["apple", "pear"]))) == (
        "unknown fruit 'xyz': there is no such name. Valid: apple, pear"
    )
