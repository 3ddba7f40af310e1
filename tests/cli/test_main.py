"""The command line itself: help, version, `invert layers`, mistyped commands."""

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Outcome

from inverters.encoders.registry import ENCODERS, list_layers

Run = Callable[..., Outcome]
COMMANDS = ("train", "predict", "optimize", "evaluate", "layers")


def test_help_names_every_command(invert: Run) -> None:
    result = invert("--help")
    assert result.status == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", result.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(invert: Run, command: str) -> None:
    result = invert(command, "-h")
    assert result.status == 0
    assert f"invert {command}" in result.out or f"{command} [OPTIONS]" in result.out


def test_version(invert: Run) -> None:
    assert invert("--version") == (0, f"inverters {version('inverters')}\n", "")


def test_a_mistyped_command_is_a_usage_error(invert: Run) -> None:
    result = invert("predikt")
    assert result.status == 2
    assert "predict" in result.err


@pytest.mark.parametrize("encoder", ENCODERS)
def test_layers_lists_every_layer(invert: Run, tmp_path: Path, encoder: str) -> None:
    result = invert("layers", "--encoder", encoder, "--weights", "random", "--checkpoints", tmp_path)
    assert result.status == 0
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in result.out.splitlines() if line.startswith("│")
    ]
    listed = {row[0]: row[1:] for row in rows}
    assert list(listed) == list(list_layers(encoder))
    for name, layer in list_layers(encoder).items():
        assert listed[name] == [str(layer.channels), str(layer.stride), str(layer.receptive_field), "", ""]


def test_layers_says_which_have_a_decoder(invert: Run, tiny_checkpoints: Path) -> None:
    result = invert("layers", "--weights", "random", "--checkpoints", tiny_checkpoints)
    with_decoder = [line.split()[1] for line in result.out.splitlines() if "yes" in line]
    assert with_decoder == ["relu1_1", "relu2_1"]
    assert result.out.count("12.3 dB") == 2


def test_layers_of_an_unknown_encoder(invert: Run) -> None:
    result = invert("layers", "--encoder", "vgg20")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error: unknown encoder 'vgg20': did you mean 'vgg")


def test_every_mistake_in_a_configuration_is_a_line(invert: Run, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("layers: [relu1_1]\ndata: {train: a, validation: b, batch_size: 0}\ntrainer: {stepz: 3}\n")
    status, out, err = invert("train", config)
    assert (status, out) == (1, "")
    assert [line.split(": ")[:3] for line in err.splitlines()] == [
        ["error", str(config), "data.batch_size"],
        ["error", str(config), "trainer.steps"],
        ["error", str(config), "trainer.stepz"],
    ]
