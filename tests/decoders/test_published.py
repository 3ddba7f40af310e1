import hashlib
import json
import math
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import remove_checksum
from torch import Tensor, nn

from inverters.decoders.base import Decoder, LayerDict
from inverters.decoders.card import CARD_FILE, DecoderCard, read_card
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.published import (
    MODEL_FILE,
    add_checksum,
    available_decoders,
    build_decoder,
    find_checkpoints,
    load_decoder,
    publish_decoder,
)
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
from inverters.errors import CheckpointError, OutputError, UnknownNameError
from inverters.inversion.inverter import Inverter

ENDLESS = {"corrections": 10**8}
LAYERS = ("relu1_1", "relu2_1")


def tiny_decoder(layer: str) -> ConvDecoder:
    """A decoder of few channels whose features' statistics are not 0 and 1."""
    torch.manual_seed(len(layer))
    decoder = ConvDecoder(vgg_layers("vgg19")[layer], stages=[(4, 1)])
    channels = decoder.layer.channels
    decoder.set_statistics(torch.rand(channels), 0.5 + torch.rand(channels) / 3)
    return decoder.eval()


def card(layer: str = "relu1_1", fingerprint: str = "", **changes: Any) -> DecoderCard:
    values: dict[str, Any] = {
        "encoder": "vgg19",
        "weights": "random",
        "fingerprint": fingerprint or VGGEncoder([layer], weights="random").fingerprint(layer),
        "layer": layer,
        "decoder": {"stages": [[4, 1]]},
        "loss": {"pixel": 1.0},
        "data": {"train": ["photographs"], "crop_size": 64},
        "steps": 3,
        "seed": 5,
        "versions": {"torch": "2.11"},
        "metrics": {"psnr": 20.5},
    }
    return DecoderCard(**(values | changes))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoders of two layers; read only."""
    root = tmp_path_factory.mktemp("published")
    for layer in LAYERS:
        publish_decoder(tiny_decoder(layer), card(layer), root)
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(published, tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder(LAYERS, weights="random")


def photographs(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# Publishing


def test_a_published_decoder_is_half_precision_and_otherwise_the_same(tmp_path: Path, encoder: VGGEncoder) -> None:
    decoder = tiny_decoder("relu2_1").to(memory_format=torch.channels_last)  # which safetensors would refuse
    folder = publish_decoder(decoder, card("relu2_1"), tmp_path)
    assert folder == tmp_path / "vgg19-random" / "relu2_1"
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json"}
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert {key for key, value in stored.items() if value.dtype != torch.float16} == {"mean", "std"}
    assert torch.equal(stored["std"], decoder.std)

    loaded = load_decoder(folder, encoder)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for parameter in decoder.parameters():
        parameter.data = parameter.half().float()
    features = photographs(2, 128, 4, 6)
    assert torch.equal(loaded.to(memory_format=torch.channels_last)(features), decoder(features))


def test_the_card_says_what_made_the_decoder(published: Path) -> None:
    folder = published / "vgg19-random" / "relu1_1"
    assert json.loads((folder / "config.json").read_text()) == {
        "schema_version": 2,
        "encoder": "vgg19",
        "weights": "random",
        "fingerprint": VGGEncoder(["relu1_1"], weights="random").fingerprint("relu1_1"),
        "layer": "relu1_1",
        "objective": "pixel",
        "architecture": "conv",
        "initial": None,
        "storage": "float16",
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "decoder": {"stages": [[4, 1]]},
        "loss": {"pixel": 1.0},
        "data": {"train": ["photographs"], "crop_size": 64},
        "steps": 3,
        "seed": 5,
        "versions": {"torch": "2.11"},
        "metrics": {"psnr": 20.5},
        "error_quantiles": None,
    }
    assert read_card(folder).model_copy(update={"sha256": None}) == card()


def test_publishing_again_replaces(root: Path, encoder: VGGEncoder) -> None:
    decoder = tiny_decoder("relu1_1")
    with torch.no_grad():
        decoder.body[0].weight.zero_()
    folder = publish_decoder(decoder, card(steps=4), root)
    assert not load_decoder(folder, encoder).body[0].weight.any()
    assert read_card(folder).steps == 4
    assert len(list(folder.iterdir())) == 2


def test_publishing_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "vgg19-random").touch()
    with pytest.raises(OutputError) as error:
        publish_decoder(tiny_decoder("relu1_1"), card(), tmp_path)
    assert message(error).startswith(f"cannot create the folder {tmp_path / 'vgg19-random' / 'relu1_1'}: ")


# Finding


def test_where_decoders_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, source = tmp_path / "a", tmp_path / "b", tmp_path / "source"
    for folder in (a, b, source / "inverters", source / "checkpoints"):
        folder.mkdir(parents=True)
    monkeypatch.setattr("inverters.files.PACKAGE", source / "inverters")

    monkeypatch.setenv("INVERTERS_CHECKPOINTS", str(b))
    assert find_checkpoints(a) == a
    assert find_checkpoints() == b
    monkeypatch.setenv("INVERTERS_CHECKPOINTS", "")
    assert find_checkpoints() == source / "checkpoints"  # of a source checkout
    monkeypatch.delenv("INVERTERS_CHECKPOINTS")
    assert find_checkpoints() == source / "checkpoints"
    (source / "inverters" / "checkpoints").mkdir()
    assert find_checkpoints() == source / "inverters" / "checkpoints"  # of a wheel


def test_a_folder_of_decoders_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError) as error:
        find_checkpoints(tmp_path / "none")
    assert message(error) == f"no folder of decoders at {tmp_path / 'none'}"
    monkeypatch.setenv("INVERTERS_CHECKPOINTS", str(tmp_path / "none"))
    with pytest.raises(CheckpointError) as error:
        find_checkpoints()
    assert message(error) == f"no folder of decoders at {tmp_path / 'none'}, which $INVERTERS_CHECKPOINTS names"


def test_available_decoders(root: Path, tmp_path: Path) -> None:
    (root / "vgg19-random" / "notes").mkdir()
    cards = available_decoders(root, weights="random")
    assert list(cards) == list(LAYERS)
    assert cards["relu2_1"].model_copy(update={"sha256": None}) == card("relu2_1")
    assert available_decoders(root) == {}
    assert available_decoders(root, "vgg16", "random") == {}
    publish_decoder(tiny_decoder("relu1_1"), card(weights="mine"), tmp_path)
    assert list(available_decoders(tmp_path, weights="some/where/mine.safetensors")) == ["relu1_1"]
    with pytest.raises(UnknownNameError, match="unknown encoder 'vgg91'"):
        available_decoders(root, "vgg91")


# Loading: one line that names both sides


def test_missing_files(root: Path, encoder: VGGEncoder) -> None:
    folder = root / "vgg19-random" / "relu1_1"
    (folder / MODEL_FILE).unlink()
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, encoder)
    assert message(error) == f"no decoder at {folder}: model.safetensors is missing"
    (folder / CARD_FILE).unlink()
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, encoder)
    assert message(error) == f"no decoder at {folder}: config.json is missing"


def test_a_decoder_of_another_layer(root: Path, encoder: VGGEncoder) -> None:
    folder = (root / "vgg19-random" / "relu1_1").rename(root / "vgg19-random" / "conv1_1")
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, encoder)
    assert message(error) == f"{folder} holds a decoder of relu1_1, not of conv1_1"


def test_a_decoder_of_another_encoder(root: Path) -> None:
    folder = root / "vgg19-random" / "relu1_1"
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, VGGEncoder(["relu1_1"], "vgg16", "random"))
    assert message(error) == f"{folder} was trained on vgg19, but the encoder is vgg16"


def test_a_decoder_of_other_weights(root: Path) -> None:
    folder, other = root / "vgg19-random" / "relu1_1", VGGEncoder(["relu1_1"], weights="random-1")
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, other)
    assert message(error) == (
        f"{folder} was trained on weights 'random' with fingerprint {card().fingerprint[:12]}…, but the encoder's "
        f"weights 'random-1' have {other.fingerprint('relu1_1')[:12]}…"
    )


def without_checksum(path: Path) -> Path:
    """Take the SHA-256 out of the card beside a model, as in the cards of earlier versions."""
    remove_checksum(path.parent)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body.0.bias": None}, 'Missing key(s) in state_dict: "body.0.bias".'),
        ({"std": None}, 'Missing key(s) in state_dict: "std".'),
        ({"body.9.bias": torch.zeros(3)}, 'Unexpected key(s) in state_dict: "body.9.bias".'),
        ({"body.0.bias": torch.zeros(5)}, "size mismatch for body.0.bias: "),
        ({"body.0.bias": torch.full([4], torch.nan)}, "body.0.bias has values that are not finite"),
        ({"body.0.weight": torch.full([4, 64, 3, 3], torch.inf)}, "body.0.weight has values that are not finite"),
        ({"std": torch.zeros(1, 64, 1, 1)}, "std has standard deviations that are not positive"),
    ],
)
def test_a_model_that_is_not_that_of_its_card(
    root: Path, encoder: VGGEncoder, change: dict[str, Any], reason: str
) -> None:
    path = without_checksum(root / "vgg19-random" / "relu1_1" / MODEL_FILE)
    state = {key: value for key, value in (safetensors.torch.load_file(path) | change).items() if value is not None}
    safetensors.torch.save_file(state, path)
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert message(error).startswith(f"{path} is not the decoder of its card: ")
    assert reason in message(error)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_model(root: Path, encoder: VGGEncoder, length: int) -> None:
    path = without_checksum(root / "vgg19-random" / "relu1_1" / MODEL_FILE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert message(error).startswith(f"{path} is not the decoder of its card: Error while deserializing")


def test_damage_that_leaves_a_valid_model_is_found(root: Path, encoder: VGGEncoder) -> None:
    path = root / "vgg19-random" / "relu1_1" / MODEL_FILE
    model = bytearray(path.read_bytes())
    model[-100] ^= 1
    path.write_bytes(model)
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert message(error).startswith(f"{path} is not the decoder of its card: its SHA-256 is ")
    load_decoder(without_checksum(path).parent, encoder)


def test_a_missing_checksum_is_added_and_another_is_refused(root: Path, encoder: VGGEncoder) -> None:
    path = root / "vgg19-random" / "relu1_1" / MODEL_FILE
    before = path.with_name(CARD_FILE).read_text()
    add_checksum(without_checksum(path).parent)
    assert path.with_name(CARD_FILE).read_text() == before
    load_decoder(path.parent, encoder)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="its SHA-256 is "):
        add_checksum(path.parent)


def test_a_pickle_is_not_a_model(root: Path, encoder: VGGEncoder) -> None:
    path = without_checksum(root / "vgg19-random" / "relu1_1" / MODEL_FILE)
    torch.save(tiny_decoder("relu1_1").state_dict(), path)
    with pytest.raises(CheckpointError, match="is not the decoder of its card"):
        load_decoder(path.parent, encoder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 3}, "has schema version 3, but this version of inverters reads 1 to 2"),
        ({"schema_version": None}, "has schema version None, but this version of inverters reads 1 to 2"),
        ({"colour": 1}, "does not describe a decoder: colour: Extra inputs are not permitted"),
        ({"steps": "many", "layer": 3}, "does not describe a decoder: layer: Input should be a valid string; steps: "),
    ],
)
def test_a_card_of_another_schema(root: Path, encoder: VGGEncoder, changes: dict[str, Any], reason: str) -> None:
    path = root / "vgg19-random" / "relu1_1" / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert message(error).startswith(f"{path} {reason}")


def test_a_card_without_a_key(root: Path) -> None:
    path = root / "vgg19-random" / "relu1_1" / CARD_FILE
    values = json.loads(path.read_text())
    for key in values.keys() - {"schema_version"}:
        if not DecoderCard.model_fields[key].is_required():
            continue
        path.write_text(json.dumps({other: value for other, value in values.items() if other != key}))
        with pytest.raises(CheckpointError) as error:
            read_card(path.parent)
        assert message(error) == f"{path} does not describe a decoder: {key}: Field required"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00"])
def test_a_damaged_card(root: Path, content: bytes) -> None:
    path = root / "vgg19-random" / "relu1_1" / CARD_FILE
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        available_decoders(root, weights="random")
    assert message(error).startswith((f"cannot read {path}: ", f"{path} does not describe a decoder: "))
    assert len(message(error)) > len(f"{path} does not describe a decoder: ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"decoder": {"stages": [[4, 1], [4, 1]]}},
            "cannot load {folder}: the arguments {'stages': [[4, 1], [4, 1]]} do not fit a conv decoder of relu1_1: "
            "a decoder of relu1_1 cannot have 2 stages: its stride 1 allows at most 1",
        ),
        ({"decoder": {"stages": [[4, 10**8]]}}, "a stage can have at most 64 residual blocks"),
        ({"decoder": {"stages": [[10**8, 1]]}}, "size mismatch for body.0.weight"),
        ({"decoder": {"stages": [[4, 1e300]]}}, "a stage can have at most 64 residual blocks"),
        ({"decoder": {"stages": [["4", None]]}}, "do not fit a conv decoder of relu1_1: "),
        ({"decoder": {"stages": "x" * 10_000}}, "xx…"),
        (
            {"architecture": "corrected", "decoder": {"base": {"architecture": "conv", "arguments": {}}, **ENDLESS}},
            "corrections must be from 1 to 64, not 100000000",
        ),
        ({"decoder": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"decoder": {"stages": [[8, 1]]}}, "size mismatch for body.0.weight"),
        (
            {"architecture": "diffusion"},
            "cannot load {folder}: unknown architecture 'diffusion': upgrade inverters, which knows conv, linear",
        ),
    ],
)
def test_a_card_of_another_decoder(root: Path, encoder: VGGEncoder, changes: dict[str, Any], reason: str) -> None:
    folder = root / "vgg19-random" / "relu1_1"
    path = folder / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, encoder)
    assert reason.replace("{folder}", str(folder)) in message(error)


def test_a_layer_that_the_encoder_does_not_have(published: Path) -> None:
    folder = published / "vgg19-random" / "relu2_1"
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, VGGEncoder(["relu1_1"], weights="random"))
    assert message(error) == f"{folder} was trained on relu2_1, a layer that this vgg19 does not have"


# Earlier versions

VERSION_1 = """{
  "schema_version": 1,
  "encoder": "vgg19",
  "weights": "original",
  "fingerprint": "5283a3f4553dd57a1a9111532321779b6efc61b9d89000fd27e2ba26c03c250f",
  "layer": "relu5_2",
  "objective": "pixel",
  "decoder": {"stages": [[192, 6], [128, 2], [64, 1]], "compress": true},
  "initial": "checkpoints",
  "loss": {"pixel": 1.0, "feature": 0.0, "perceptual": 0.0, "total_variation": 0.0, "adversarial": 0.0},
  "data": {"train": ["data/train-*.parquet"], "resize": null, "crop_size": 224, "batch_size": 8},
  "steps": 2200,
  "seed": 0,
  "versions": {"inverters": "0.1.0", "torch": "2.14.1"},
  "metrics": {"psnr": 17.67}
}"""


def test_a_card_of_version_1(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(VERSION_1)
    old = read_card(tmp_path)
    assert (old.schema_version, old.architecture) == (2, "conv")
    assert old.decoder == {"stages": [[192, 6], [128, 2], [64, 1]], "log_compress": True}
    unchanged = json.loads(VERSION_1).keys() - {"schema_version", "decoder"}
    assert {key: getattr(old, key) for key in unchanged} == {key: json.loads(VERSION_1)[key] for key in unchanged}
    decoder = build_decoder(old, vgg_layers("vgg19")["relu5_2"])
    assert isinstance(decoder, ConvDecoder)
    assert decoder.arguments == {"stages": [(192, 6), (128, 2), (64, 1)], "log_compress": True}


def test_a_linear_card_of_version_1(tmp_path: Path) -> None:
    """Its objective implied its architecture."""
    values = json.loads(VERSION_1) | {"objective": "linear", "decoder": {"kernel_size": 1}}
    (tmp_path / CARD_FILE).write_text(json.dumps(values))
    assert read_card(tmp_path).architecture == "linear"
    assert isinstance(build_decoder(read_card(tmp_path), vgg_layers("vgg19")["relu5_2"]), LinearDecoder)


@pytest.mark.parametrize("values", [{"decoder": 3}, {"decoder": None}, {"objective": 4}])
def test_a_damaged_card_of_version_1(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps(json.loads(VERSION_1) | values))
    with pytest.raises(CheckpointError, match=f"does not describe a decoder: {next(iter(values))}: Input should be "):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("quantiles", "reason"),
    [
        ([0.1], "Tuple should have at least 2 items"),
        ([0.1] * 1002, "Tuple should have at most 1001 items"),
        ([0.2, 0.1], "Quantiles should ascend"),
        ([-0.1, 0.1], "Input should be greater than or equal to 0"),
        ([0.1, math.inf], "Input should be a finite number"),
        ([0.1, math.nan], "Input should be "),
    ],
)
def test_quantiles_that_are_none(tmp_path: Path, quantiles: list[float], reason: str) -> None:
    values = json.loads(card("relu1_1").model_dump_json()) | {"error_quantiles": quantiles}
    (tmp_path / CARD_FILE).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=f"does not describe a decoder: error_quantiles.*{reason}"):
        read_card(tmp_path)


def test_every_shipped_card_and_decoder_loads() -> None:
    root = find_checkpoints() / "vgg19-original"
    folders = sorted(path.parent for path in root.glob(f"*/{CARD_FILE}"))
    assert len(folders) == 17
    assert all(read_card(folder).sha256 for folder in folders), "`make cards` adds them"
    encoder = VGGEncoder([read_card(folder).layer for folder in folders])
    for folder in folders:
        decoder = load_decoder(folder, encoder)
        assert decoder.layer.name == read_card(folder).layer
        assert not decoder.training


# Layers with dots in their names, as networks other than VGGs have them


class Blocks(Encoder):
    """Two convolutions."""

    name, weights, input_multiple = "blocks", "random", 4
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = {
            "layer1.0": Layer("layer1.0", 4, 2, 4, "layer1"),
            "layer1.1": Layer("layer1.1", 6, 4, 10, "layer1"),
        }
        torch.manual_seed(0)
        self.convolutions = LayerDict({"layer1.0": nn.Conv2d(3, 4, 2, 2), "layer1.1": nn.Conv2d(4, 6, 2, 2)})
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        self.require_layers(layers)
        found = {}
        for layer, convolution in self.convolutions.items():
            images = convolution(images) * self.scale
            found[layer] = images
        return {layer: found[layer] for layer in layers}

    def fingerprint(self, layer: str) -> str:
        return f"fingerprint of {layer}"


def test_decoders_of_layers_with_dots_are_published_and_loaded(tmp_path: Path) -> None:
    encoder = Blocks()
    decoders: dict[str, Decoder] = {
        "layer1.0": ConvDecoder(encoder.layers["layer1.0"], [(4, 1), (4, 0)]),
        "layer1.1": LinearDecoder(encoder.layers["layer1.1"]),
    }
    loaded: dict[str, Decoder] = {}
    for (layer, decoder), objective in zip(decoders.items(), ("pixel", "linear"), strict=True):
        description = card(
            encoder="blocks",
            layer=layer,
            fingerprint=encoder.fingerprint(layer),
            objective=objective,
            architecture="linear" if objective == "linear" else "conv",
            decoder=decoder.arguments,
        )
        folder = publish_decoder(decoder, description, tmp_path)
        assert folder == tmp_path / "blocks-random" / ("layer1.0" if layer == "layer1.0" else "layer1.1-linear")
        loaded[layer] = load_decoder(folder, encoder)
        for parameter in decoder.parameters():
            parameter.data = parameter.half().float()

    published, original = (Inverter(encoder, made, torch.device("cpu")) for made in (loaded, decoders))
    images = photographs(1, 3, 9, 11)
    for layer, preds in original.reconstruct(images).items():
        assert torch.equal(published.reconstruct(images)[layer], preds)
    other = Inverter(encoder, {layer: type(one)(one.layer) for layer, one in decoders.items()}, torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"decoders\.layer1/0\."):
        other.load_state_dict(original.state_dict())  # its decoder of layer1.0 has other stages
    Inverter(encoder, loaded, torch.device("cpu")).load_state_dict(original.state_dict())
