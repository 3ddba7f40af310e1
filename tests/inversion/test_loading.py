"""`load_inverter`: which decoders it loads, and what it says where there are none."""

from pathlib import Path

import pytest
from conftest import publish_tiny

from inverters import load_inverter as public_load_inverter
from inverters.decoders.corrected import CorrectedDecoder
from inverters.errors import CheckpointError, InverterError, UnknownNameError
from inverters.inversion.loading import load_inverter

LAYERS = ["relu1_1", "relu1_2", "relu2_1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_tiny(tmp_path_factory.mktemp("published"), tuple(LAYERS))


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, ["relu1_2", "relu2_1"]),  # the deepest of each block
        ("all", LAYERS),
        ("relu1_1", ["relu1_1"]),  # one name, not seven letters
        (["relu2_1", "relu1_1"], ["relu1_1", "relu2_1"]),
        (iter(("relu1_1",)), ["relu1_1"]),
    ],
)
def test_the_layers_that_are_loaded(root: Path, layers: object, expected: list[str]) -> None:
    inverter = public_load_inverter(layers, weights="random", checkpoints=root, device="cpu")
    assert inverter.layers == list(inverter.decoders) == expected


def test_the_variable_names_the_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERTERS_CHECKPOINTS", str(root))
    assert load_inverter("all", weights="random", device="cpu").layers == LAYERS


def test_the_available_layers_are_listed(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        load_inverter(["relu1_1", "relu5_1", "pool2"], weights="random", checkpoints=root)
    assert message(error) == (
        f"no decoder for pool2, relu5_1 under {root / 'vgg19-random'}. Available: relu1_1, relu1_2, relu2_1. "
        "Train one with `invert train`, or name a folder with --checkpoints"
    )
    with pytest.raises(CheckpointError, match=r"The papers' conv2_1 is relu2_1 here\. Available: relu1_1, relu1_2"):
        load_inverter("conv2_1", weights="random", checkpoints=root)
    with pytest.raises(CheckpointError) as error:
        load_inverter(checkpoints=str(tmp_path))
    assert message(error).startswith(
        f"no decoder for vgg19 under {tmp_path / 'vgg19-original'}. Available: none. Train"
    )


def test_corrections_are_limited_where_there_are_some(tmp_path: Path) -> None:
    publish_tiny(tmp_path, ("relu1_1",), corrections=2)
    publish_tiny(tmp_path, ("relu2_1",))
    expected = {None: 2, 0: 0, 1: 1, 7: 2}
    for limit, active in expected.items():
        decoder = load_inverter("all", weights="random", checkpoints=tmp_path, corrections=limit).decoders["relu1_1"]
        assert isinstance(decoder, CorrectedDecoder)
        assert decoder.active == active
    with pytest.raises(InverterError, match="corrections must not be negative: -1"):
        load_inverter("all", weights="random", checkpoints=tmp_path, corrections=-1)


def test_unknown_names(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown encoder 'vgg91': did you mean 'vgg19'"):
        load_inverter(encoder="vgg91", checkpoints=root)
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19 'relu1_9': did you mean 'relu1_"):
        load_inverter(["relu1_9"], weights="random", checkpoints=root)
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19 'relu1_9': did you mean 'relu1_"):
        load_inverter("relu1_9", weights="random", checkpoints=root)
    with pytest.raises(UnknownNameError, match="unknown weights of vgg19 'orignal': did you mean 'original'"):
        load_inverter(weights="orignal", checkpoints=root)
    with pytest.raises(UnknownNameError, match="unknown objective 'pixels': did you mean 'pixel'"):
        load_inverter(weights="random", checkpoints=root, objective="pixels")
    with pytest.raises(InverterError, match=r"no device 'gpu' on this machine\. Valid: auto, .*cpu"):
        load_inverter(weights="random", checkpoints=root, device="gpu")


def test_the_weights_are_checked(tmp_path: Path) -> None:
    root = publish_tiny(tmp_path)
    (root / "vgg19-random").rename(root / "vgg19-random-1")
    with pytest.raises(CheckpointError, match="was trained on weights 'random' with fingerprint"):
        load_inverter(weights="random-1", checkpoints=root, device="cpu")
