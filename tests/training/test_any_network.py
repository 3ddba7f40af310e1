"""Any network through the command line: training, publication, prediction, optimisation; what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Outcome, photographs
from PIL import Image

Run = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS = {  # by encoder: the layers, and the strides of those that form grids
    "timm/resnet18": ("layer1.1,layer3.1,pooled,logits", (4, 16)),
    "timm/vit_tiny_patch16_224": ("block.2,logits", (16,)),
    "timm/convnext_atto": ("stages.0.blocks.1,stages.2.blocks.5,head.fc", (4, 16)),
    "timm/swin_tiny_patch4_window7_224": ("layers.0.blocks.1,logits", (4,)),
    "torchvision/mobilenet_v3_small": ("features.1,features.12", (4, 32)),
}


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments that train a tiny version of configs/network.yaml on four photographs."""

    def made(encoder: str, layers: str, crop: int, *changes: str) -> list[str]:
        folder = photographs(tmp_path / "photographs", 4)
        sets = [
            *(f"encoder.name={encoder}", "encoder.weights=random", f"layers={layers}"),
            *(f"data.train={folder}", f"data.validation={folder}", f"data.crop_size={crop}", "data.resize=null"),
            *("data.batch_size=2", "data.workers=0", "optimizer.algorithm=adamw", "trainer.accelerator=cpu"),
            *("trainer.steps=20", "trainer.validate_every=20", "decoder.vector_stages=[[4, 0]]", *changes),
        ]
        config = Path(__file__).parents[2] / "configs" / "network.yaml"
        return ["train", str(config), "-o", str(tmp_path / "run"), *(part for one in sets for part in ("--set", one))]

    return made


@pytest.mark.parametrize(
    "encoder", [pytest.param(name, marks=pytest.mark.slow if "swin" in name else ()) for name in NETWORKS]
)
def test_a_network_is_trained_published_loaded_and_predicts(
    invert: Run, configured: Callable[..., list[str]], tmp_path: Path, encoder: str
) -> None:
    layers, strides = NETWORKS[encoder]
    stages = ", ".join(f"{stride}: [[8, 0]]" for stride in strides)
    assert invert(*configured(encoder, layers, 32, f"decoder.stages={{{stages}}}")).status == 0
    root = tmp_path / "run" / "checkpoints"
    folder = root / f"{encoder.replace('/', '-')}-random"
    cards = [json.loads(path.read_text()) for path in folder.glob("*/config.json")]
    assert len(cards) == layers.count(",") + 1
    assert {card["encoder"] for card in cards} == {encoder}
    options = ["--encoder", encoder, "--weights", "random", "--checkpoints", root]
    result = invert("predict", tmp_path / "photographs" / "0.png", *options, "--layers", "all", "-o", tmp_path / "out")
    assert result.status == 0, result.err
    with Image.open(tmp_path / "out" / "0" / f"{cards[0]['layer']}.png") as image:
        assert image.size == ((32, 32) if len(cards) > len(strides) else (48, 40))


@pytest.mark.slow
def test_the_dense_layers_of_vgg(invert: Run, configured: Callable[..., list[str]], tmp_path: Path) -> None:
    """fc6, fc7 and fc8, which torchvision calls `classifier.0`, `.3` and `.6`."""
    layers = "classifier.1,classifier.4,classifier.6"
    arguments = configured("torchvision/vgg19", layers, 32, "trainer.steps=2", "data.batch_size=1")
    assert invert(*arguments).status == 0
    folder = tmp_path / "run" / "checkpoints" / "torchvision-vgg19-random"
    assert sorted(path.name for path in folder.iterdir()) == layers.split(",")


@pytest.fixture
def one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A vision transformer for 32×32 pixels only, as a function of the user's."""
    (tmp_path / "one_size.py").write_text(
        "import timm, torch\n"
        "from inverters.encoders.network import NetworkEncoder, Preprocessing\n\n"
        "def vit():\n"
        "    torch.manual_seed(0)\n"
        "    module = timm.create_model('test_vit', img_size=32, dynamic_img_size=False)\n"
        "    return NetworkEncoder(module, Preprocessing((0.5,) * 3, (0.5,) * 3, size=32, crop=0.8), weights='fresh')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "one_size:vit"


def test_a_network_of_one_size_inverts_the_crop_that_it_sees(
    invert: Run, configured: Callable[..., list[str]], tmp_path: Path, one_size: str
) -> None:
    train = configured(
        one_size, "blocks.1", 32, "encoder.weights=null", "trainer.steps=2", "decoder.stages={16: [[4, 0]]}"
    )
    assert invert(*train).status == 0
    options = ["--encoder", one_size, "--checkpoints", "run/checkpoints", "--layers", "blocks.1"]
    photo = tmp_path / "photographs" / "0.png"
    methods = ["--methods", "decoder,lbfgs", "--iterations", "1"]
    assert invert("predict", photo, *options, *methods, "-o", "out").status == 0
    metrics = json.loads((tmp_path / "out" / "0" / "metrics.json").read_text())
    assert (metrics["width"], metrics["height"], metrics["methods"]["decoder"]["size"]) == (32, 32, 32)
    with Image.open("out/0/blocks.1.png") as image:
        assert image.size == (32, 32)
    assert invert("optimize", photo, *options[:2], "--layer", "blocks.1", "--iterations", "1", "-o", "slow").status == 0
    with Image.open("slow/0/blocks.1-lbfgs.png") as image:
        assert image.size == (32, 32)
    evaluation = ["evaluate", "--data", tmp_path / "photographs", *options, "--methods", "decoder", "-o", "report"]
    assert invert(*evaluation, "--size", "32").status == 0
    result = invert(*evaluation[:-1], "other", "--size", "64")
    assert (result.status, result.err) == (1, f"error: size must be 32, the one size that {one_size} takes, not 64\n")
    result = invert(*configured(one_size, "blocks.1", 64, "encoder.weights=null"))
    assert result.status == 1
    assert f"data.crop_size: must be 32, the one size that {one_size} takes (got 64)" in result.err


def test_the_linear_decoders_of_a_network(invert: Run, configured: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = configured("timm/test_resnet", "layer2,pooled,logits", 32, "objective=linear", "trainer.steps=4")
    assert invert(*arguments).status == 0
    options = [
        "--encoder",
        "timm/test_resnet",
        "--weights",
        "random",
        "--checkpoints",
        tmp_path / "run" / "checkpoints",
    ]
    data, output = tmp_path / "photographs", tmp_path / "report"
    methods = ["--methods", "linear,lbfgs", "--iterations", "2", "--size", "32", "--limit", "1"]
    result = invert("evaluate", "--data", data, *options, "--layers", "layer2,logits", *methods, "-o", output)
    assert result.status == 0, result.err
    summary = json.loads((output / "results.json").read_text())["summary"]
    assert {layer: set(methods) for layer, methods in summary.items()} == {
        "layer2": {"linear", "lbfgs"},
        "fc": {"linear", "lbfgs"},
    }


def test_tiles_where_the_receptive_field_is_finite(
    invert: Run, configured: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Tiles change nothing, although a ResNet sees more to the left of a position than to its right."""
    arguments = configured(
        "timm/test_resnet", "layer2,layer4", 32, "trainer.steps=2", "decoder.stages={8: [[4, 0]], 32: [[4, 0]]}"
    )
    assert invert(*arguments).status == 0
    photo = tmp_path / "photo.png"
    Image.effect_noise((416, 320), 90).convert("RGB").save(photo)
    options = [
        "--encoder",
        "timm/test_resnet",
        "--weights",
        "random",
        "--checkpoints",
        tmp_path / "run" / "checkpoints",
    ]
    for name, tile in (("whole", []), ("tiles", ["--tile", "96"])):
        result = invert("predict", photo, *options, "--layers", "all", "--size", "full", *tile, "-o", tmp_path / name)
        assert result.status == 0, result.err
    for layer in ("layer2", "layer4"):
        with (
            Image.open(tmp_path / "whole/photo" / f"{layer}.png") as one,
            Image.open(tmp_path / "tiles/photo" / f"{layer}.png") as other,
        ):
            difference = torch.tensor(list(one.tobytes())).int() - torch.tensor(list(other.tobytes())).int()
            assert difference.abs().max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["layers=blocks.1"], "layers.0: unknown layer of timm/test_resnet 'blocks.1': did you mean '"),
        (
            ["encoder.name=timm/test_resnetz"],
            "encoder.name: unknown encoder 'timm/test_resnetz': did you mean 'timm/test_resnet'?",
        ),
        (["data.crop_size=40"], "data.crop_size: must be a multiple of 32 (got 40)"),
        (["decoder.vector_stages=[]"], "decoder.vector_stages: has 0 stages; possible are 1 to 6 (got [])"),
        (
            ["decoder.stages={3: [[4, 0]]}"],
            "decoder.stages.3: no layer of timm/test_resnet has this stride. Valid: 2, 4, ",
        ),
    ],
)
def test_mistakes_in_configurations(
    invert: Run, configured: Callable[..., list[str]], changes: list[str], message: str
) -> None:
    result = invert(*configured("timm/test_resnet", "layer2", 32, *changes))
    assert result.status == 1
    assert message in result.err.splitlines()[0]


def test_an_encoder_that_returns_nan(invert: Run, configured: Callable[..., list[str]], tmp_path: Path) -> None:
    import timm

    module = timm.create_model("test_resnet")
    with torch.no_grad():
        module.layer1[0].conv1.weight.fill_(torch.nan)
    torch.save(module.state_dict(), tmp_path / "broken.pth")
    encoder = ["timm/test_resnet", "layer2", 32, f"encoder.weights={tmp_path / 'broken.pth'}"]
    problem = "gives features at layer2 that are not finite: check its weights and its preprocessing"
    message = f"error: timm/test_resnet {problem}\n"
    result = invert(*configured(*encoder))
    assert (result.status, result.err) == (1, message)
    photo = tmp_path / "photographs" / "0.png"
    options = ["--encoder", "timm/test_resnet", "--weights", tmp_path / "broken.pth", "--layer", "layer2"]
    result = invert("optimize", photo, *options, "-o", tmp_path / "out")
    assert (result.status, result.err) == (1, message.replace("error: ", f"error: {photo}: "))
