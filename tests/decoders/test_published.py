import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from inverters.decoders import published as checkpoint
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.published import (
    CARD_FILE,
    MODEL_FILE,
    DecoderCard,
    available_decoders,
    find_checkpoints,
    load_decoder,
    publish_decoder,
    read_card,
)
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import CheckpointError, InverterError, OutputError, UnknownNameError
from inverters.files import atomic_write, make_folder
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter

LAYERS = ("relu1_1", "relu2_1")


def tiny_decoder(layer: str) -> ConvDecoder:
    """A decoder of few channels whose features' statistics are not 0 and 1."""
    torch.manual_seed(len(layer))
    decoder = ConvDecoder(layer, stages=[(4, 1)])
    channels = decoder.layer.channels
    decoder.set_statistics(torch.rand(channels), 0.5 + torch.rand(channels) / 3)
    return decoder.eval()


def card(layer: str = "relu1_1", **changes: Any) -> DecoderCard:
    values: dict[str, Any] = {
        "encoder": "vgg19",
        "weights": "random",
        "fingerprint": VGGEncoder([layer], weights="random").fingerprint(layer),
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


@pytest.fixture(scope="module")
def inverter(published: Path) -> Inverter:
    return load_inverter(LAYERS, weights="random", checkpoints=published, device="cpu")


def photographs(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# Files


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", "größer\n")
    atomic_write(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == "größer\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert {file.name for file in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    (tmp_path / "a").write_text("old")
    written = []

    def fail(path: Path, *_: Any) -> None:
        written.append(path)
        if broken == "write_bytes":
            path.touch()  # half of it is there
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, broken, fail)
    with pytest.raises(OutputError) as error:
        atomic_write(tmp_path / "a", "new")
    assert message(error) == f"cannot write {tmp_path / 'a'}: No space left on device"
    assert [path.parent for path in written] == [tmp_path]
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path, _: Path) -> None:
        assert path.read_text() == "new"
        raise KeyboardInterrupt

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a", "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_file_name_that_is_not_utf8_survives_in_json(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    atomic_write(tmp_path / "a.json", json.dumps({"image": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text())["image"] == name


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as error:
        make_folder(tmp_path / "file" / "folder")
    assert message(error) == f"cannot create the folder {tmp_path / 'file' / 'folder'}: Not a directory"
    with pytest.raises(OutputError) as error:
        make_folder(tmp_path / "file")
    assert message(error) == f"cannot create the folder {tmp_path / 'file'}: File exists"
    with pytest.raises(OutputError) as error:
        atomic_write(tmp_path / "none" / "file", "")
    assert message(error) == f"cannot write {tmp_path / 'none' / 'file'}: No such file or directory"
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


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
    values = json.loads((published / "vgg19-random" / "relu1_1" / "config.json").read_text())
    assert values == {
        "schema_version": 1,
        "encoder": "vgg19",
        "weights": "random",
        "fingerprint": VGGEncoder(["relu1_1"], weights="random").fingerprint("relu1_1"),
        "layer": "relu1_1",
        "objective": "pixel",
        "initial": None,
        "decoder": {"stages": [[4, 1]]},
        "loss": {"pixel": 1.0},
        "data": {"train": ["photographs"], "crop_size": 64},
        "steps": 3,
        "seed": 5,
        "versions": {"torch": "2.11"},
        "metrics": {"psnr": 20.5},
    }
    assert read_card(published / "vgg19-random" / "relu1_1") == card()


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
    monkeypatch.setattr(checkpoint, "__file__", str(source / "inverters" / "checkpoint.py"))

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


def test_the_variable_is_used_by_load_inverter(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERTERS_CHECKPOINTS", str(published))
    assert list(load_inverter(weights="random", device="cpu").decoders) == list(LAYERS)


def test_decoders_at_hand(root: Path, tmp_path: Path) -> None:
    (root / "vgg19-random" / "notes").mkdir()
    cards = available_decoders(root, weights="random")
    assert list(cards) == list(LAYERS)
    assert cards["relu2_1"] == card("relu2_1")
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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body.0.bias": None}, 'Missing key(s) in state_dict: "body.0.bias".'),
        ({"std": None}, 'Missing key(s) in state_dict: "std".'),
        ({"body.9.bias": torch.zeros(3)}, 'Unexpected key(s) in state_dict: "body.9.bias".'),
        ({"body.0.bias": torch.zeros(5)}, "size mismatch for body.0.bias: "),
    ],
)
def test_a_model_that_is_not_that_of_its_card(
    root: Path, encoder: VGGEncoder, change: dict[str, Any], reason: str
) -> None:
    path = root / "vgg19-random" / "relu1_1" / MODEL_FILE
    state = {key: value for key, value in (safetensors.torch.load_file(path) | change).items() if value is not None}
    safetensors.torch.save_file(state, path)
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert message(error).startswith(f"{path} is not the decoder of its card: ")
    assert reason in message(error)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_model(root: Path, encoder: VGGEncoder, length: int) -> None:
    path = root / "vgg19-random" / "relu1_1" / MODEL_FILE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert message(error).startswith(f"{path} is not the decoder of its card: Error while deserializing header")


def test_a_pickle_is_not_a_model(root: Path, encoder: VGGEncoder) -> None:
    path = root / "vgg19-random" / "relu1_1" / MODEL_FILE
    torch.save(tiny_decoder("relu1_1").state_dict(), path)
    with pytest.raises(CheckpointError, match="is not the decoder of its card"):
        load_decoder(path.parent, encoder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 2}, "has schema version 2, but this version of inverters reads 1"),
        ({"schema_version": None}, "has schema version None, but this version of inverters reads 1"),
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
    ("arguments", "reason"),
    [
        ({"stages": [[4, 1], [4, 1]]}, "decoder for relu1_1 has 2 stages; its stride 1 allows at most 1"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
        ({"stages": [[8, 1]]}, "size mismatch for body.0.weight"),
    ],
)
def test_arguments_that_do_not_fit(root: Path, encoder: VGGEncoder, arguments: dict[str, Any], reason: str) -> None:
    path = root / "vgg19-random" / "relu1_1" / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder": arguments}))
    with pytest.raises(InverterError) as error:
        load_decoder(path.parent, encoder)
    assert reason in message(error)


# The inverter


def test_unless_layers_are_named_the_deepest_of_each_block_is_taken(root: Path) -> None:
    publish_decoder(tiny_decoder("relu1_2"), card("relu1_2"), root)

    def loaded(*layers: str | None) -> list[str]:
        return list(load_inverter(*layers, weights="random", checkpoints=root, device="cpu").decoders)

    assert loaded() == loaded(None) == ["relu1_2", "relu2_1"]
    assert loaded("all") == ["relu1_1", "relu1_2", "relu2_1"]


def test_load_inverter_lists_what_is_at_hand(published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        load_inverter(["relu1_1", "relu5_1", "pool2"], weights="random", checkpoints=published)
    assert message(error) == (
        f"no decoder for pool2, relu5_1 under {published / 'vgg19-random'}. At hand: relu1_1, relu2_1. "
        "Train one with `invert train`, or name a folder with --checkpoints"
    )
    with pytest.raises(CheckpointError, match=r"The papers' conv2_1 is relu2_1 here\. At hand: relu1_1, relu2_1"):
        load_inverter(["conv2_1"], weights="random", checkpoints=published)
    with pytest.raises(CheckpointError) as error:
        load_inverter(checkpoints=str(tmp_path))
    assert message(error).startswith(f"no decoder for vgg19 under {tmp_path / 'vgg19-original'}. At hand: none. Train")


def test_load_inverter_refuses_unknown_names(published: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown encoder 'vgg91': did you mean 'vgg19'"):
        load_inverter(encoder="vgg91", checkpoints=published)
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19 'relu1_9': did you mean 'relu1_"):
        load_inverter(["relu1_9"], weights="random", checkpoints=published)
    with pytest.raises(UnknownNameError, match="unknown weights of vgg19 'orignal': did you mean 'original'"):
        load_inverter(weights="orignal", checkpoints=published)
    with pytest.raises(InverterError, match=r"no device 'gpu' on this machine\. Valid: auto, .*cpu"):
        load_inverter(weights="random", checkpoints=published, device="gpu")


def test_load_inverter_checks_the_weights(root: Path) -> None:
    (root / "vgg19-random").rename(root / "vgg19-random-1")
    with pytest.raises(CheckpointError, match="was trained on weights 'random' with fingerprint"):
        load_inverter(weights="random-1", checkpoints=root, device="cpu")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (17, 45), (32, 64), (31, 5)])
def test_any_size(inverter: Inverter, height: int, width: int) -> None:
    images = photographs(2, 3, height, width)
    results = inverter.reconstruct(images)
    assert list(results) == list(LAYERS)
    for preds in results.values():
        assert preds.shape == images.shape
        assert preds.dtype == torch.float32
        assert not preds.requires_grad
        assert preds.min() >= 0
        assert preds.max() <= 1


@torch.no_grad()
def test_a_reconstruction_is_the_decoders_answer_to_the_padded_image(published: Path, inverter: Inverter) -> None:
    images = photographs(2, 3, 40, 33)
    padded = nn.functional.pad(images, (0, 31, 0, 24), mode="replicate")
    encoder = VGGEncoder(LAYERS, weights="random")
    for layer, preds in inverter.reconstruct(images).items():
        decoder = load_decoder(published / "vgg19-random" / layer, encoder)
        expected = decoder(encoder(padded)[layer])[..., :40, :33].clamp(0, 1)
        torch.testing.assert_close(preds, expected, rtol=0, atol=0.02)  # bfloat16 where the processor has it
        assert expected.std() > 0.02


def test_results_are_clamped(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inverter = load_inverter(["relu1_1"], weights="random", checkpoints=published, device="cpu")
    monkeypatch.setattr(ConvDecoder, "forward", lambda _, features: features[:, :3] * 100 - 1)
    preds = inverter.reconstruct(photographs(1, 3, 32, 32))["relu1_1"]
    assert (preds.min(), preds.max()) == (0, 1)


def test_images_of_a_batch_do_not_mix(inverter: Inverter) -> None:
    images = photographs(3, 3, 20, 33)
    together = inverter.reconstruct(images)
    for number in range(3):
        for layer, preds in inverter.reconstruct(images[number : number + 1]).items():
            torch.testing.assert_close(preds[0], together[layer][number], rtol=0, atol=0.01)
    assert (together["relu2_1"][0] - together["relu2_1"][1]).abs().max() > 0.05


def test_a_layers_result_does_not_depend_on_the_others(published: Path, inverter: Inverter) -> None:
    images = photographs(1, 3, 40, 40)
    both = inverter.reconstruct(images)
    for layer in LAYERS:
        alone = load_inverter([layer], weights="random", checkpoints=published, device="cpu")
        assert list(alone.decoders) == [layer]
        assert torch.equal(alone.reconstruct(images)[layer], both[layer])


def test_double_precision_images(inverter: Inverter) -> None:
    images = photographs(1, 3, 32, 32)
    for layer, preds in inverter.reconstruct(images.double()).items():
        assert preds.dtype == torch.float32
        assert torch.equal(preds, inverter.reconstruct(images)[layer])


def test_a_reconstruction_can_be_worked_with(inverter: Inverter) -> None:
    """It may enter a loss, and be changed in place: it is no inference tensor."""
    preds = inverter.reconstruct(photographs(1, 3, 8, 8).requires_grad_())["relu1_1"]
    scale = torch.ones(1, requires_grad=True)
    (preds * scale).sum().backward()
    torch.testing.assert_close(scale.grad, preds.sum()[None])
    preds.mul_(0)
    assert not preds.any()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(3, 8, 8), "images must be N×3×H×W, not 3×8×8"),
        (torch.zeros(1, 8, 8, 3), "images must be N×3×H×W, not 1×8×8×3"),
        (torch.zeros(1, 4, 8, 8), "images must be N×3×H×W, not 1×4×8×8"),
        (torch.zeros(0, 3, 8, 8), "images must be N×3×H×W, not 0×3×8×8"),
        (torch.zeros(1, 3, 0, 8), "images must be N×3×H×W, not 1×3×0×8"),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            "images must be floating-point numbers in [0, 1], not torch.uint8",
        ),
    ],
)
def test_what_is_not_a_batch_of_images(inverter: Inverter, images: Tensor, expected: str) -> None:
    with pytest.raises(InverterError) as error:
        inverter.reconstruct(images)
    assert message(error) == expected


def test_the_inverter_knows_its_device(published: Path) -> None:
    inverter = load_inverter(["relu1_1"], weights="random", checkpoints=published, device="cpu")
    assert inverter.device == torch.device("cpu")
    assert inverter.to("meta").device == torch.device("meta")
