import pytest

from inverters.encoders.names import (
    DEFAULT_ENCODER,
    ENCODERS,
    VGG_NAMES,
    default_weights,
    find_layers,
    input_multiple,
    last_of_each_stage,
    list_layers,
    perceptual_layers,
)
from inverters.encoders.registry import create_encoder
from inverters.errors import UnknownNameError


@pytest.mark.parametrize("encoder", VGG_NAMES)
def test_encoders_have_the_layers_and_input_multiple_listed_for_them(encoder: str) -> None:
    table = list_layers(encoder)
    network = create_encoder(encoder, "random", table)
    assert network.name == encoder
    assert dict(network.layers) == table
    assert network.input_multiple == input_multiple(encoder)
    assert set(perceptual_layers(encoder)) <= set(table)


def test_an_encoder_without_named_weights_takes_its_default() -> None:
    assert create_encoder("vgg19", None, ["conv1_1"]).weights == default_weights("vgg19") == "original"
    assert default_weights("vgg16") == "IMAGENET1K_V1"
    assert DEFAULT_ENCODER in ENCODERS


def test_find_layers_sorts_and_deduplicates() -> None:
    found = find_layers(iter(["pool5", "relu1_1", "relu4_2", "relu1_1"]), "vgg19")
    assert [layer.name for layer in found] == ["relu1_1", "relu4_2", "pool5"]
    assert find_layers([], "vgg19") == []


def test_the_last_of_each_stage() -> None:
    names = ["relu2_1", "relu1_2", "relu1_1", "conv2_2", "relu2_2", "pool4", "relu5_1"]
    assert last_of_each_stage(names, "vgg19") == ["relu1_2", "relu2_2", "pool4", "relu5_1"]
    assert last_of_each_stage(list_layers("vgg16"), "vgg16") == [f"pool{block}" for block in range(1, 6)]
    assert last_of_each_stage([], "vgg19") == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("relu4-2", "relu4_2"), ("con4_2", "conv4_2"), ("relu42", "relu4_2"), ("pol3", "pool3"), ("relu5_5", "relu5_4")],
)
def test_an_unknown_layer_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        find_layers(["relu1_1", name], "vgg19")
    names = ", ".join(list_layers("vgg19"))
    assert str(error.value) == f"unknown layer of vgg19 {name!r}: did you mean {nearest!r}? Valid: {names}"


def test_batch_normalisation_is_no_layer() -> None:
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19_bn 'norm1_1': "):
        find_layers(["norm1_1"], "vgg19_bn")


def test_an_unknown_encoder() -> None:
    for function in (list_layers, perceptual_layers, input_multiple, default_weights):
        with pytest.raises(UnknownNameError) as error:
            function("vgg-19")
        assert str(error.value) == (
            "unknown encoder 'vgg-19': did you mean 'vgg19'? Valid: vgg16, vgg16_bn, vgg19, vgg19_bn, "
            "efficientnet-lite0, timm/MODEL, torchvision/MODEL, MODULE:FUNCTION"
        )
    with pytest.raises(UnknownNameError, match="unknown encoder 'vgg-19'"):
        create_encoder("vgg-19", "random", ["relu1_1"])
