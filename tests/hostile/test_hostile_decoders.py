"""Decoders that are damaged, or made to do harm, as the command line meets them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Outcome, remove_checksum

from inverters.decoders.published import MODEL_FILE

Run = Callable[..., Outcome]


@pytest.fixture
def model(tiny_checkpoints: Path) -> Path:
    """The model of a decoder whose card has no checksum."""
    folder = tiny_checkpoints / "vgg19-random" / "relu1_1"
    remove_checksum(folder)
    return folder / MODEL_FILE


@pytest.fixture
def predict(invert: Run, photograph: Path, tiny_checkpoints: Path, tmp_path: Path) -> Callable[[], Outcome]:
    options = ["--weights", "random", "--checkpoints", tiny_checkpoints, "--layers", "relu1_1", "-o", tmp_path / "out"]
    return lambda: invert("predict", photograph, *options)


def change(model: Path, key: str, value: float) -> None:
    state = safetensors.torch.load_file(model)
    state[key].fill_(value)
    safetensors.torch.save_file(state, model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("body.0.weight", torch.nan, "body.0.weight has values that are not finite"),
        ("body.0.bias", torch.inf, "body.0.bias has values that are not finite"),
        ("std", 0, "std has standard deviations that are not positive"),
        ("std", 1e-45, "decoder gives pixels at relu1_1 that are not finite: check the weights of its decoder"),
    ],
)
def test_a_decoder_never_gives_values_that_are_not_finite(
    predict: Callable[[], Outcome], model: Path, tmp_path: Path, key: str, value: float, message: str
) -> None:
    change(model, key, value)
    status, out, err = predict()
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.rstrip().endswith(message)
    assert "lossless" not in out
    assert not list(tmp_path.glob("out/*"))


def test_other_weights_of_the_same_shape_are_refused(predict: Callable[[], Outcome], tiny_checkpoints: Path) -> None:
    model = tiny_checkpoints / "vgg19-random" / "relu1_1" / MODEL_FILE
    change(model, "body.0.weight", 0.0)
    status, _, err = predict()
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"error: {model} is not the decoder of its card: its SHA-256 is ")
