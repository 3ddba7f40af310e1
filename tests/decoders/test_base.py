"""What every decoder keeps: names with dots, and the halo that it declares."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from inverters.decoders.base import Decoder, LayerDict
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.encoders.layers import Layer

# LayerDict


def dotted() -> LayerDict[nn.Linear]:
    return LayerDict({"layer1.0": nn.Linear(2, 3), "layer1": nn.Linear(2, 2), "blocks.11.mlp": nn.Linear(1, 1)})


def test_a_layer_dict_is_keyed_by_names_with_dots() -> None:
    layers = dotted()
    names = ["layer1.0", "layer1", "blocks.11.mlp"]
    assert list(layers) == list(layers.keys()) == [name for name, _ in layers.items()] == names
    assert [layers[name] for name in names] == list(layers.values()) == [module for _, module in layers.items()]
    assert "layer1.0" in layers
    assert "layer1.1" not in layers
    assert 0 not in layers
    assert len(layers) == 3
    with pytest.raises(KeyError):
        layers["layer1.1"]


def test_a_layer_dict_changes_as_a_dictionary() -> None:
    layers, other = dotted(), nn.Linear(5, 5)
    layers["layer2.0"] = other
    layers.update({"layer2.1": nn.Identity()})
    del layers["layer2.1"]
    assert layers.pop("layer2.0") is other
    assert list(layers) == list(dotted())


def test_the_modules_of_a_layer_dict_are_saved_and_loaded() -> None:
    layers, loaded = dotted(), dotted()
    assert not torch.equal(layers["layer1.0"].weight, loaded["layer1.0"].weight)
    loaded.load_state_dict(layers.state_dict())
    for name, module in layers.items():
        assert torch.equal(loaded[name].weight, module.weight)
    assert len(list(layers.parameters())) == 6


def test_names_without_dots_are_the_keys_of_the_state() -> None:
    """So the checkpoints of earlier runs go on loading."""
    assert list(LayerDict({"relu1_1": nn.Linear(1, 1)}).state_dict()) == ["relu1_1.weight", "relu1_1.bias"]


# Halos

STAGES = {
    1: [[(2, 0)], [(2, 1)], [(2, 3)]],
    2: [[(2, 1)], [(2, 2), (3, 0)]],
    4: [[(2, 0)], [(2, 2), (2, 1)], [(2, 0), (3, 1), (2, 2)]],
    8: [[(2, 3)], [(2, 3), (2, 1)], [(2, 0), (2, 0), (2, 0), (2, 1)]],
    16: [[(2, 4), (2, 1), (2, 1)], [(2, 6), (2, 2), (2, 1)]],
    32: [[(2, 1)], [(2, 3), (2, 1), (2, 1), (2, 1)], [(2, 1)] * 6],
}


def decoders() -> Iterator[Decoder]:
    for stride, architectures in STAGES.items():
        layer = Layer("layer1.0", 3, stride, 3 * stride, "stage")
        for number, stages in enumerate(architectures):
            yield ConvDecoder(layer, stages, log_compress=number == 1)
        for kernel_size in (1, 3, 5):
            yield LinearDecoder(layer, kernel_size)


def name(decoder: Decoder) -> str:
    return f"{type(decoder).__name__}-{decoder.layer.stride}-{next(iter(decoder.arguments.values()))}"


def beyond(changed: Tensor, first: int, last: int) -> tuple[int, int]:
    """How far true values lie before `first` and from `last` on."""
    positions = changed.nonzero().flatten().tolist()
    return first - positions[0], positions[-1] + 1 - last


@pytest.mark.parametrize("decoder", list(decoders()), ids=name)
@torch.no_grad()
def test_the_halo_is_how_far_a_feature_reaches(decoder: Decoder) -> None:
    """With weights of 1 no two paths cancel out, and without biases not even a faint one is rounded away."""
    for parameter_name, parameter in decoder.named_parameters():
        nn.init.constant_(parameter, float(parameter_name.endswith("weight")))
    stride, halo = decoder.layer.spatial_stride, decoder.halo
    position = -(-halo // stride) + 1
    features = torch.zeros(1, 3, 2 * position + 1, 2 * position + 1, dtype=torch.float64)
    features[..., position, position] = 1
    changed = decoder.double().body(features)[0].any(dim=0)  # rows × columns; without the feature they are zero
    for axis in (0, 1):
        assert beyond(changed.any(dim=axis), position * stride, (position + 1) * stride) == (halo, halo)


@pytest.mark.parametrize("decoder", list(decoders()), ids=name)
def test_the_gradient_of_a_cell_reaches_the_features_within_the_halo(decoder: Decoder) -> None:
    for parameter_name, parameter in decoder.named_parameters():
        nn.init.constant_(parameter, float(parameter_name.endswith("weight")))
    stride = decoder.layer.spatial_stride
    steps = -(-decoder.halo // stride)
    position = steps + 1
    features = torch.ones(1, 3, 1, 2 * position + 1, dtype=torch.float64, requires_grad=True)
    pixels = decoder.double()(features)[..., position * stride : (position + 1) * stride]
    (gradient,) = torch.autograd.grad(pixels.sum(), features)
    assert gradient.any(dim=1).flatten().nonzero().flatten().tolist() == list(range(1, 2 * position))
