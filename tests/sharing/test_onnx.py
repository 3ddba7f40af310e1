"""`invert export`: what onnxruntime computes equals PyTorch."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Outcome, publish_tiny

from inverters.decoders.base import Decoder
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.through import ThroughDecoder
from inverters.encoders.base import Encoder
from inverters.encoders.registry import create_encoder
from inverters.errors import InverterError
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.sharing import onnx as exporting
from inverters.sharing import onnx_names
from inverters.sharing.onnx import export

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
Run = Callable[..., Outcome]
SIZES = ((1, 32, 48), (2, 37, 51), (3, 65, 31))  # two of them odd
GRID, VECTOR = "blocks.1", "global_pool"  # of EfficientNet-Lite0


def computed(path: Path, values: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: values.numpy()})[0])


def require_equal(inverter: Inverter, layer: str, path: Path, sizes: tuple[tuple[int, int, int], ...] = SIZES) -> None:
    """Compare the reconstructions of a file of both parts with those of the inverter."""
    for batch, height, width in sizes:
        images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height))
        expected = inverter.reconstruct(images)[layer]
        torch.testing.assert_close(computed(path, images), expected, rtol=0, atol=1e-4)


def lite0(layer: str, make: Callable[[Encoder], Decoder]) -> Inverter:
    """EfficientNet-Lite0 with its weights, and an untrained decoder."""
    encoder = create_encoder("efficientnet-lite0", None, [layer])
    torch.manual_seed(0)
    return Inverter(encoder, {layer: make(encoder).eval()}, torch.device("cpu"))


def test_the_command_writes_a_file_that_says_what_it_is(invert: Run, tmp_path: Path) -> None:
    """With corrections, so that the decoder holds the encoder."""
    root = publish_tiny(tmp_path / "decoders", ("relu2_1",), corrections=1)
    file = tmp_path / "folder" / "decoder.onnx"
    options = ("--layer", "relu2_1", "--weights", "random", "--checkpoints", root)
    status, out, _ = invert("export", file, *options, "--json")
    assert status == 0
    assert json.loads(out)["difference"] < 1e-4
    assert [path.name for path in file.parent.iterdir()] == ["decoder.onnx"]
    inverter = load_inverter("relu2_1", weights="random", checkpoints=root, device="cpu")
    require_equal(inverter, "relu2_1", file)
    model = onnx.load(file)
    onnx.checker.check_model(model)
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties["layer"] == "relu2_1"
    assert (properties["encoder"], properties["weights"], properties["part"]) == ("vgg19", "random", "both")
    assert properties["fingerprint"] == inverter.encoder.fingerprint("relu2_1")
    assert json.loads(properties["preprocessing"])["input"] == "RGB, 0 to 1"
    assert json.loads(properties["decoder"])["architecture"] == "corrected"
    assert properties["license"] == "mit"
    assert [one.version for one in model.opset_import if not one.domain] == [int(properties["opset"])]
    again = invert("export", file, *options)
    assert again == (1, "", f"error: {file} exists: replace it with --overwrite, or take another name\n")


def test_the_part_of_the_encoder_needs_no_decoder(invert: Run, tmp_path: Path) -> None:
    file = tmp_path / "encoder.onnx"
    assert invert("export", file, "--layer", "relu1_2", "--part", "encoder", "--weights", "random").status == 0
    encoder = create_encoder("vgg19", "random", ["relu1_2"])
    inverter = Inverter(encoder, {}, torch.device("cpu"))
    images = torch.rand(2, 3, 37, 51)
    expected = inverter.encode(images, ["relu1_2"])["relu1_2"]
    assert (computed(file, images) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "objective"),
    [("relu1_2", "pixel"), ("relu4_2", "pixel"), ("relu5_2", "perceptual"), ("relu3_2", "linear")],
)
def test_the_shipped_decoders(layer: str, objective: str, tmp_path: Path) -> None:
    inverter = load_inverter(layer, objective=objective, device="cpu")
    file = tmp_path / "both.onnx"
    assert export(inverter, layer, file) < 1e-4
    require_equal(inverter, layer, file)
    properties = {item.key: item.value for item in onnx.load(file).metadata_props}
    assert properties["encoder_license"] == "CC-BY-4.0"


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["blocks.0.0", "blocks.6.0", "classifier"])
def test_the_shipped_decoders_of_efficientnet_lite0(layer: str, tmp_path: Path) -> None:
    """With corrections; with a smoothed last step; of a vector, whose network sees images of one size."""
    inverter = load_inverter(layer, "efficientnet-lite0", device="cpu")
    assert export(inverter, layer, tmp_path / "both.onnx") < 1e-4
    require_equal(inverter, layer, tmp_path / "both.onnx", ((1, 224, 224), (2, 224, 224)))


@pytest.mark.slow
def test_two_files_make_what_one_makes(tmp_path: Path) -> None:
    inverter = load_inverter("relu4_2", device="cpu")
    for part in ("encoder", "decoder"):
        export(inverter, "relu4_2", tmp_path / f"{part}.onnx", part)
    for batch, height, width in SIZES:
        images = torch.rand(batch, 3, height, width)
        features = computed(tmp_path / "encoder.onnx", images)
        pixels = computed(tmp_path / "decoder.onnx", features)[..., :height, :width]
        torch.testing.assert_close(pixels, inverter.reconstruct(images)["relu4_2"], rtol=0, atol=1e-4)


DECODERS: dict[str, Callable[[Encoder], Decoder]] = {
    "conv": lambda encoder: ConvDecoder(encoder.layers[GRID], stages=[(8, 1), (4, 1)], log_compress=True),
    "linear": lambda encoder: LinearDecoder(encoder.layers[GRID]),
    "corrected": lambda encoder: CorrectedDecoder(
        ConvDecoder(encoder.layers[GRID], stages=[(8, 1)]), corrections=1, width=4, depth=2
    ),
    "through": lambda encoder: ThroughDecoder(
        encoder.layers[GRID], ConvDecoder(encoder.layers["blocks.0"], stages=[(8, 1)]), width=8, blocks=1
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DECODERS)
def test_efficientnet_lite0(kind: str, tmp_path: Path) -> None:
    inverter = lite0(GRID, DECODERS[kind])
    assert export(inverter, GRID, tmp_path / "both.onnx") < 1e-4
    require_equal(inverter, GRID, tmp_path / "both.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ConvDecoder, LinearDecoder])
def test_decoders_of_vectors(kind: type[ConvDecoder] | type[LinearDecoder], tmp_path: Path) -> None:
    """Their images have one size, and only the batch is dynamic."""
    inverter = lite0(VECTOR, lambda encoder: kind(encoder.layers[VECTOR], size=64))
    assert export(inverter, VECTOR, tmp_path / "both.onnx") < 1e-4
    require_equal(inverter, VECTOR, tmp_path / "both.onnx", ((1, 64, 64), (3, 64, 64)))


@pytest.mark.parametrize("name", ["decoder", "decoder.pt", "decoder.onnx.gz"])
def test_another_ending(invert: Run, tiny_checkpoints: Path, tmp_path: Path, name: str) -> None:
    options = ("--layer", "relu2_1", "--weights", "random", "--checkpoints", tiny_checkpoints)
    status, _, err = invert("export", tmp_path / name, *options)
    assert (status, len(err.splitlines())) == (1, 1)
    assert f"{name} is no name of an ONNX file: call it " in err


def test_a_missing_extra(invert: Run, tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnx_names, "find_spec", lambda name: None if name == "onnxscript" else importlib.util.find_spec(name)
    )
    options = ("--layer", "relu2_1", "--weights", "random", "--checkpoints", tiny_checkpoints)
    status, _, err = invert("export", tmp_path / "a.onnx", *options)
    assert (status, err) == (1, "error: exporting needs onnxscript: pip install 'inverters[onnx]'\n")


@pytest.mark.parametrize("layers", ["relu1_1,relu2_1", "all"])
def test_one_layer_at_a_time(invert: Run, tmp_path: Path, layers: str) -> None:
    status, _, err = invert("export", tmp_path / "a.onnx", "--layer", layers)
    assert (status, err) == (1, f"error: --layer takes one layer, not {layers!r}\n")


class Dynamic(ConvDecoder):
    """A decoder whose computation depends on values."""

    def decode(self, prepared: torch.Tensor) -> torch.Tensor:
        return super().decode(prepared if prepared.sum() > 0 else -prepared)


def test_a_network_that_cannot_be_exported(tmp_path: Path) -> None:
    encoder = create_encoder("vgg19", "random", ["relu1_1"])
    inverter = Inverter(encoder, {"relu1_1": Dynamic(encoder.layers["relu1_1"], [(4, 1)])}, torch.device("cpu"))
    with pytest.raises(InverterError, match=r"^vgg19 cannot be exported: .*") as error:
        export(inverter, "relu1_1", tmp_path / "a.onnx", "decoder")
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if onnxruntime, or the exporter, had a fault."""
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    encoder = create_encoder("vgg19", "random", ["relu1_1"])
    inverter = Inverter(encoder, {}, torch.device("cpu"))
    with pytest.raises(InverterError, match=r"^the exported file is wrong: its results differ by .* of the largest"):
        export(inverter, "relu1_1", tmp_path / "a.onnx", "encoder")
    assert list(tmp_path.iterdir()) == []
