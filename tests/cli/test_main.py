"""The command line itself: help, version, `invert layers`, mistyped commands."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Outcome
from typer.main import get_command

from inverters.cli import layers as layers_command
from inverters.cli import main as cli
from inverters.encoders.names import VGG_NAMES, list_layers
from inverters.errors import InverterError

Run = Callable[..., Outcome]
COMMANDS = (
    *("predict", "app", "layers", "edit", "optimize", "metamers", "evaluate"),
    *("train", "cards", "push", "export", "download-weights"),
)
PANELS = ("What to invert", "How", "Where to", "On what")


def test_help_lists_the_commands_in_order_of_use(invert: Run) -> None:
    result = invert("--help")
    assert result.status == 0
    assert re.findall(r"^│ ([a-z][\w-]+) ", result.out, re.M) == list(COMMANDS)


def test_no_arguments_are_answered_by_the_help(invert: Run) -> None:
    result = invert()
    assert "Commands" in result.out + result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_line_of_a_command_is_one_short_sentence(command: str) -> None:
    line = get_command(cli.app).commands[command].help.partition("\n\n")[0]  # type: ignore[attr-defined]
    assert re.fullmatch(r"[A-Z][^\n]{,78}\.", line)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_stand_in_the_same_panels_everywhere(invert: Run, command: str) -> None:
    out = invert(command, "--help").out
    found = re.findall(r"^╭─ ([\w ]+) ─", out, re.M)
    assert [name for name in found if name in PANELS] == [name for name in PANELS if name in found]
    assert set(found) <= {*PANELS, "Arguments", "Options"}
    assert out.partition("─ Options ─")[2].partition("╰")[0].count(" --") <= 1  # --help


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


@pytest.mark.parametrize("encoder", VGG_NAMES)
def test_layers_lists_every_layer(invert: Run, tmp_path: Path, encoder: str) -> None:
    result = invert("layers", "--encoder", encoder, "--weights", "random", "--checkpoints", tmp_path)
    assert result.status == 0
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in result.out.splitlines() if line.startswith("│")
    ]
    listed = {row[0]: row[1:] for row in rows}
    assert list(listed) == list(list_layers(encoder))
    for name, layer in list_layers(encoder).items():
        assert listed[name] == [str(layer.channels), str(layer.stride), str(layer.receptive_field), layer.stage, "", ""]


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


@pytest.mark.parametrize("encoder", ["vgg16", "vgg19_bn"])
def test_layers_needs_no_weights(invert: Run, tmp_path: Path, encoder: str) -> None:
    result = invert("layers", "--encoder", encoder, "--checkpoints", tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "relu5_3" in result.out


def test_layers_refuses_unknown_weights(invert: Run) -> None:
    result = invert("layers", "--weights", "orignal")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error: unknown weights of vgg19 'orignal': did you mean 'original'?")


def test_layers_as_json(invert: Run, tiny_checkpoints: Path) -> None:
    result = invert("layers", "--weights", "random", "--checkpoints", tiny_checkpoints, "--json")
    assert (result.status, result.err) == (0, "")
    document = json.loads(result.out)
    layers = document.pop("layers")
    assert document == {"encoder": "vgg19", "weights": "random", "objective": "pixel"}
    assert [layer["name"] for layer in layers] == list(list_layers("vgg19"))
    assert layers[1] == {
        "name": "relu1_1",
        "channels": 64,
        "stride": 1,
        "receptive_field": 3,
        "stage": "block1",
        "decoder": True,
        "psnr": 12.3,
    }
    assert (layers[0]["decoder"], layers[0]["psnr"]) == (False, None)


def test_layers_quietly(invert: Run) -> None:
    assert invert("layers", "--quiet") == (0, "", "")


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["layers", "--checkpoints", LONG],
        ["layers", "--checkpoints", f"{LONG}/x"],
        ["predict", "PHOTO", "--checkpoints", LONG],
        ["predict", "PHOTO", "--weights", f"{LONG}.pth"],
        ["predict", "PHOTO", "--weights", LONG],
        ["predict", "PHOTO", "--output-dir", LONG],
        ["predict", LONG],
        ["optimize", "PHOTO", "--layer", "relu1_1", "--output-dir", LONG, "--iterations", "1", "--size", "32"],
        ["optimize", LONG, "--layer", "relu1_1"],
        ["evaluate", "--data", LONG],
        ["evaluate", "--data", "PHOTO", "--output-dir", LONG, "--layers", "relu1_1", "--methods", "decoder"],
        ["train", LONG],
        ["cards", "PHOTO", "--checkpoints", LONG],
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_one_line(invert: Run, photograph: Path, arguments: list[str]) -> None:
    result = invert(*(str(photograph) if argument == "PHOTO" else argument for argument in arguments))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("size", ["9" * 5000, "1000001", "0", "-1", "half", "²"])
def test_a_size_that_is_no_number_of_pixels(invert: Run, photograph: Path, size: str) -> None:
    result = invert("predict", photograph, f"--size={size}")
    assert (result.status, result.out) == (2, "")
    assert "Invalid value for '--size'" in result.err
    assert len(result.err) < 600


@pytest.mark.parametrize("seed", [2**63, -1, 10**30])
def test_a_seed_beyond_64_bits(invert: Run, photograph: Path, seed: int) -> None:
    result = invert("optimize", photograph, "--layer", "relu1_1", f"--seed={seed}")
    assert (result.status, result.out) == (2, "")
    assert "Invalid value for '--seed'" in result.err


def test_an_error_of_the_operating_system_is_one_line(invert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "results.csv")

    monkeypatch.setattr(layers_command, "show_layers", fail)
    assert invert("layers") == (
        1,
        "",
        "error: results.csv: No space left on device. INVERTERS_DEBUG=1 shows where\n",
    )


@pytest.mark.parametrize("arguments", [["--encoder", "vgg20"], ["--checkpoints", "none"]])
def test_the_traceback_on_demand(invert: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setenv("INVERTERS_DEBUG", "1")
    with pytest.raises(InverterError):
        invert("layers", *arguments)


@pytest.mark.parametrize("arguments", ["--help", "layers"])
def test_a_reader_that_stops_reading(arguments: str) -> None:
    """As in `invert layers | head -1`, where the rest of the output goes nowhere."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "inverters", *arguments.split()]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")


def test_a_file_whose_name_is_not_utf8(invert: Run, photograph: Path, tiny_checkpoints: Path, tmp_path: Path) -> None:
    image = photograph.rename(photograph.with_name("\udcff.png"))
    arguments = ("--weights", "random", "--checkpoints", tiny_checkpoints, "--output-dir", tmp_path / "out")
    result = invert("predict", image, *arguments)
    assert (result.status, result.err) == (0, "")
    assert "\\udcff" in result.out
