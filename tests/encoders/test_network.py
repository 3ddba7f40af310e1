"""Encoders of networks with random weights: the features that hooks see, the layers that a run shows."""

import warnings
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlockConfig

from inverters.encoders.layers import Layer
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
from inverters.errors import InverterError, UnknownNameError

HALVES = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 64)

pytestmark = pytest.mark.usefixtures("one_thread")


def encoder(module: nn.Module, size: int = 64) -> NetworkEncoder:
    return NetworkEncoder(module, HALVES._replace(size=size), "mine")


def swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=2, embed_dim=24, depths=(1, 2, 2, 1)
    )


def dinov2() -> nn.Module:
    """Patches of 14 pixels, a class token and four register tokens."""
    options = {"img_size": 28, "embed_dim": 32, "depth": 2, "num_heads": 2, "dynamic_img_size": True}
    return timm.create_model("vit_small_patch14_reg4_dinov2", **options)


# --- features, against timm's own ---


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("test_resnet", ["layer1", "layer2", "layer3", "layer4"]),
        ("test_convnext", ["stages.0", "stages.1", "stages.2", "stages.3"]),
        ("test_vit", ["blocks.0", "blocks.3", "blocks.5"]),
        ("swin", ["layers.0", "layers.1", "layers.2", "layers.3"]),
        ("dinov2", ["blocks.0", "blocks.1"]),
    ],
)
def test_features_are_those_of_timms_forward_intermediates(name: str, layers: list[str]) -> None:
    torch.manual_seed(0)
    module = {"swin": swin, "dinov2": dinov2}.get(name, lambda: timm.create_model(name))()
    size = {"test_vit": 160, "dinov2": 28}.get(name, 64)
    network = encoder(module, size)
    images = torch.rand(2, 3, size, size)
    indices = [int(layer[-1]) for layer in layers]
    expected = module.forward_intermediates(
        (images - 0.5) / 0.25, indices=indices, intermediates_only=True, output_fmt="NCHW"
    )
    found = network(images, layers)
    for layer, features in zip(layers, expected, strict=True):
        assert found[layer].shape[1] == network.layers[layer].channels
        torch.testing.assert_close(found[layer], features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(28, 28), (42, 70)])
def test_tokens_become_the_grid_of_images_of_any_size(size: tuple[int, int]) -> None:
    network = encoder(dinov2(), 28)
    assert network.input_size is None and network.input_multiple == 14
    layer = network.layers["blocks.1"]
    assert (layer.channels, layer.stride, layer.receptive_field) == (32, 14, None)
    images = torch.rand(1, 3, *size)
    tokens = network.module.forward_intermediates(
        (images - 0.5) / 0.25, indices=[1], intermediates_only=True, output_fmt="NCHW"
    )
    torch.testing.assert_close(network(images, ["blocks.1"])["blocks.1"], tokens[0])


def test_vgg_as_a_network_has_the_features_and_layers_of_vgg() -> None:
    reference = VGGEncoder(["pool2"], weights="random")
    names = list(reference.layers)
    module = torchvision.models.vgg19()
    module.features.load_state_dict(reference.features.state_dict(), strict=False)
    preprocessing = Preprocessing(tuple(reference.mean.flatten().tolist()), tuple(reference.std.flatten().tolist()), 32)
    network = NetworkEncoder(module, preprocessing)
    images = torch.rand(1, 3, 32, 32)
    expected = reference(images, names)
    for index, name in enumerate(names):
        found = network(images, [f"features.{index}"])[f"features.{index}"]
        torch.testing.assert_close(found, expected[name])
        layer, other = network.layers[f"features.{index}"], vgg_layers("vgg19")[name]
        assert (layer.channels, layer.stride) == (other.channels, other.stride)


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (lambda: torchvision.models.ConvNeXt(blocks()), "features.1.0.block.2"),
        (lambda: torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [2, 2], [2, 2]), "features.1.0"),
    ],
    ids=["convnext", "swin"],
)
def test_grids_with_channels_last(module: Callable[[], nn.Module], layer: str) -> None:
    """Torchvision's are N×h×w×C within blocks of ConvNeXt, and everywhere in Swin."""
    network = encoder(module())
    seen = []
    network.module.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    images = torch.rand(1, 3, 32, 64)
    network.module((images - 0.5) / 0.25)
    assert seen[0].shape == (1, 8, 16, 24)
    assert (network.layers[layer].channels, network.layers[layer].stride) == (24, 4)
    torch.testing.assert_close(network(images, [layer])[layer], seen[0].permute(0, 3, 1, 2))


def blocks() -> list[CNBlockConfig]:
    return [CNBlockConfig(24, 32, 1), CNBlockConfig(32, None, 1)]


# --- what hooks see ---


class Awkward(nn.Module):
    """A ReLU that runs twice and in place, a tuple, vectors of several shapes, and what is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.last = nn.Conv2d(4, 6, 2, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fixed = nn.AdaptiveAvgPool2d(3)
        self.head = nn.Linear(6, 5)
        self.listed = Listed()
        self.idle = nn.Conv2d(3, 3, 1)
        self.reached: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        x = self.pair(x)[0]
        x = self.relu(self.last(x))
        self.reached.append("grid")
        self.fixed(x)
        self.listed(x)
        return self.head(self.pool(x).flatten(1))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x - 0.5, 1


class Listed(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x]


def test_a_relu_in_place_does_not_change_what_was_seen_before_it() -> None:
    network = encoder(Awkward())
    images = torch.rand(1, 3, 8, 8)
    found = network(images, ["first", "relu", "pair"])
    convolved = F.conv2d((images - 0.5) / 0.25, network.module.first.weight, network.module.first.bias, padding=1)
    torch.testing.assert_close(found["first"], convolved)
    torch.testing.assert_close(found["relu"], convolved.relu())
    torch.testing.assert_close(found["pair"], convolved.relu() - 0.5)
    assert found["first"].min() < 0


def test_gradients_pass_through_a_layer_before_a_relu_in_place() -> None:
    network = encoder(Awkward())
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    found = network(images, ["first", "relu#2"])
    (gradient,) = torch.autograd.grad(found["first"].square().sum() + found["relu#2"].sum(), images)
    assert gradient.abs().sum() > 0


def test_each_call_of_a_module_is_a_layer() -> None:
    network = encoder(Awkward())
    images = torch.rand(1, 3, 8, 8)
    assert [network.layers[name].stride for name in ("relu", "relu#2")] == [1, 2]
    found = network(images, ["last", "relu#2"])
    torch.testing.assert_close(found["relu#2"], found["last"].relu())
    residual = encoder(torchvision.models.resnet18())
    assert {"layer1.0.relu", "layer1.0.relu#2"} <= residual.layers.keys()
    found = residual(torch.rand(1, 3, 32, 32), ["layer1.0.relu#2", "layer1.0"])
    torch.testing.assert_close(found["layer1.0.relu#2"], found["layer1.0"])


def test_the_pass_ends_at_the_deepest_layer() -> None:
    module = Awkward()
    network = encoder(module)
    module.reached.clear()
    network(torch.rand(1, 3, 8, 8), ["pair", "first"])
    assert module.reached == []
    assert not any(child._forward_hooks for child in module.modules())


def test_vectors_are_n_c_1_1() -> None:
    network = encoder(Awkward())
    found = network(torch.rand(2, 3, 8, 8), ["pool", "head"])
    assert {name: tuple(features.shape) for name, features in found.items()} == {
        "pool": (2, 6, 1, 1),
        "head": (2, 5, 1, 1),
    }
    assert [network.layers[name].stride for name in ("pool", "head")] == [None, None]
    assert [network.layers[name].receptive_field for name in ("pool", "head")] == [None, None]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fixed", "its output 2×6×3×3 for images of 64×64 is neither a grid nor tokens nor a vector"),
        ("listed", "it returns a list of 2 values"),
    ],
)
def test_outputs_that_are_no_images(name: str, reason: str) -> None:
    with pytest.raises(InverterError) as error:
        encoder(Awkward())(torch.rand(1, 3, 8, 8), [name])
    assert str(error.value) == f"{name} of mine cannot be inverted: {reason}"


@pytest.mark.parametrize(
    ("name", "hint"), [("frist", "did you mean 'first'? "), ("idle", ""), ("relu#3", "did you mean 'relu#2'? ")]
)
def test_an_unknown_layer_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        encoder(Awkward())(torch.rand(1, 3, 8, 8), [name])
    assert str(error.value) == (
        f"unknown layer of mine {name!r}: {hint}`invert layers --encoder mine` lists them, with --depth 9 also their "
        "parts"
    )


def test_compiled_networks_are_refused() -> None:
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.trace(nn.Conv2d(3, 3, 1), torch.rand(1, 3, 8, 8))
    for module in (scripted, torch.compile(nn.Conv2d(3, 3, 1))):
        with pytest.raises(InverterError, match="mine is compiled, which leaves out hooks: pass the module before"):
            encoder(module)


def test_a_network_of_one_size() -> None:
    network = encoder(timm.create_model("test_vit", img_size=32, dynamic_img_size=False), 32)
    assert network.input_size == 32
    assert network(torch.rand(1, 3, 32, 32), ["blocks.2"])["blocks.2"].shape == (1, 64, 2, 2)
    with pytest.raises(InverterError, match="mine takes images of 32×32 pixels only, not 64×32"):
        network(torch.rand(1, 3, 32, 64), ["blocks.2"])
    with pytest.raises(InverterError, match="the network does not take images of 64×64 pixels: "):
        encoder(timm.create_model("test_vit", img_size=32, dynamic_img_size=False), 64)


def test_layers_of_stride_1_are_computed_in_float32() -> None:
    network = encoder(Awkward())
    images = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images, ["first"])["first"].dtype == torch.float32
        assert network(images, ["last"])["last"].dtype == torch.bfloat16


# --- layers ---


def rows(network: NetworkEncoder, *names: str) -> list[tuple[int, int | None, int | None]]:
    layers: list[Layer] = [network.layers[name] for name in names]
    return [(layer.channels, layer.stride, layer.receptive_field) for layer in layers]


def test_the_layers_of_resnet() -> None:
    network = encoder(torchvision.models.resnet18())
    assert network.structure.listed() == [
        *("conv1", "bn1", "relu", "maxpool"),
        *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)),
        *("avgpool", "fc"),
    ]
    assert rows(network, "conv1", "maxpool", "layer1.1", "layer2.1", "layer3.1", "layer4.1", "avgpool", "fc") == [
        (64, 2, 7),
        (64, 4, 11),
        (64, 4, 43),
        (128, 8, 99),
        (256, 16, 211),
        (512, 32, 435),
        (512, None, None),
        (1000, None, None),
    ]  # receptive fields of Araujo et al. 2019, "Computing receptive fields", and of arithmetic by hand
    assert network.structure.aliases | {"block.7": "layer4.1", "pooled": "avgpool", "logits": "fc"} == (
        network.structure.aliases
    )
    assert list(network.layers).index("layer1.0.conv2") < list(network.layers).index("layer1.0")


def test_a_network_without_padding_keeps_its_grid() -> None:
    network = encoder(torchvision.models.alexnet(), 64)
    names = [f"features.{index}" for index in (0, 2, 3, 5, 12)]
    assert rows(network, *names) == [(64, 4, 11), (64, 8, 19), (192, 8, 51), (192, 16, 67), (256, 32, 195)]
    found = network(torch.rand(1, 3, 64, 96), names)
    assert [tuple(found[name].shape[2:]) for name in names] == [(16, 24), (8, 12), (8, 12), (4, 6), (2, 3)]


def test_what_lies_between_the_blocks_is_listed() -> None:
    network = encoder(timm.create_model("test_convnext"))
    listed = network.structure.listed()
    assert {"stem.0", "stages.1.downsample.1", "stages.2.blocks.1", "head.fc"} <= set(listed)
    assert not any(".conv_dw" in name or "drop" in name for name in listed)
    assert network.structure.listed(depth=1) == ["stem", "stages", "head"]
    assert "stages.0.blocks.0.conv_dw" in network.structure.listed(depth=5)


def test_attention_in_windows_cannot_be_tiled() -> None:
    network = encoder(swin())
    assert rows(network, "patch_embed", "layers.0", "norm") == [(24, 4, 4), (24, 4, None), (192, 32, None)]


def test_squeeze_and_excitation_depends_on_the_whole_image() -> None:
    network = encoder(torchvision.models.mobilenet_v3_small())
    assert rows(network, "features.0", "features.1") == [(16, 2, 3), (16, 4, None)]


def test_the_stages_of_a_vision_transformer_are_quarters() -> None:
    network = encoder(timm.create_model("test_vit", img_size=32, depth=8), 32)
    stages = {network.layers[f"blocks.{number}"].stage: number for number in range(8)}
    assert list(stages.values()) == [1, 3, 5, 7]


class Rectangular(nn.Module):
    """Kernels and strides that see more of the rows than of the columns, and more to the left than to the right."""

    def __init__(self) -> None:
        super().__init__()
        self.tall = nn.Conv2d(3, 2, (7, 1), padding=(3, 0))
        self.strided = nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.dilated = nn.Conv2d(2, 2, 3, dilation=3, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dilated(self.strided(self.tall(x)).relu())


def test_receptive_fields_by_perturbation() -> None:
    """Against the gradient of one feature, which all random weights let through."""
    torch.manual_seed(0)
    network = encoder(Rectangular())
    for name, layer in network.layers.items():
        images = torch.rand(1, 3, 96, 96, dtype=torch.float32, requires_grad=True)
        features = network(images, [name])[name]
        cell = 48 // layer.spatial_stride
        (gradient,) = torch.autograd.grad(features[0, :, cell, cell].exp().sum(), images)
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert layer.receptive_field == rows[-1] - rows[0] + 1
        assert layer.halo == max(48 - rows[0], rows[-1] - 48 - (layer.spatial_stride - 1))


# --- fingerprints ---


def test_the_fingerprint_depends_on_the_weights_up_to_the_layer() -> None:
    torch.manual_seed(0)
    network = encoder(timm.create_model("test_resnet"))
    before = {name: network.fingerprint(name) for name in ("bn1", "layer2.0", "fc")}
    assert len(set(before.values())) == 3
    with torch.no_grad():
        network.module.layer3[0].conv1.weight[0, 0, 0, 0] += 1
    assert network.fingerprint("layer2.0") == before["layer2.0"]
    assert network.fingerprint("fc") != before["fc"]
    with torch.no_grad():
        network.module.bn1.running_var[0] += 1
    assert network.fingerprint("layer2.0") != before["layer2.0"]


def test_the_fingerprint_depends_on_position_embeddings_and_preprocessing() -> None:
    torch.manual_seed(0)
    module = timm.create_model("test_vit", img_size=32)
    network = encoder(module, 32)
    before = network.fingerprint("blocks.0")
    assert NetworkEncoder(module, HALVES._replace(size=32, std=(0.2, 0.2, 0.2))).fingerprint("blocks.0") != before
    with torch.no_grad():
        module.pos_embed[0, 0, 0] += 1
    assert network.fingerprint("blocks.0") != before


def test_the_fingerprint_depends_on_weights_of_modules_that_are_never_called() -> None:
    """The projection in torch's attention is a module whose weights another one uses."""
    torch.manual_seed(0)
    network = encoder(torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16), 32)
    layer = "encoder.layers.encoder_layer_0"
    before = network.fingerprint(layer)
    with torch.no_grad():
        network.module.encoder.layers[0].self_attention.out_proj.weight[0, 0] += 1
    assert network.fingerprint(layer) != before
