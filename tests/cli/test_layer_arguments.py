"""Lists of layers in all the ways that people write them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome

from inverters.cli.layer_arguments import join_layers
from inverters.cli.options import layer_names

Run = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("written", "joined"),
    [
        ("predict a.png --layers relu1_2", "predict a.png --layers=relu1_2"),
        ("predict --layers=relu1_2 a.png", "predict --layers=relu1_2 a.png"),
        ("predict --layers relu1_2 relu4_2 a.png", "predict --layers=relu1_2,relu4_2 a.png"),
        ("predict --layers=relu1_2 relu4_2 -o x", "predict --layers=relu1_2,relu4_2 -o x"),
        ("predict --layers relu1_2, relu4_2 a.png", "predict --layers=relu1_2,relu4_2 a.png"),
        ("predict --layers relu1_2 , relu4_2 a.png", "predict --layers=relu1_2,relu4_2 a.png"),
        ("predict --layer relu1_2 a.png --layer relu2_2", "predict --layer=relu1_2,relu2_2 a.png"),
        ("predict --layers relu1_2 relu1_3 --encoder vgg16_bn", "predict --layers=relu1_2 relu1_3 --encoder vgg16_bn"),
        ("predict --layers relu4_1 relu4_3 --encoder=vgg16", "predict --layers=relu4_1,relu4_3 --encoder=vgg16"),
        ("predict --layers", "predict --layers"),
        ("predict -- --layers relu1_2 relu4_2", "predict -- --layers relu1_2 relu4_2"),
        ("train run.yaml", "train run.yaml"),
    ],
)
def test_lists_of_layers_are_joined(written: str, joined: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relu1_3").touch()  # a file, although it looks like a layer
    assert join_layers(written.split()) == joined.split()


def test_a_file_that_is_called_like_a_layer_stays_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relu4_2").touch()
    arguments = ["predict", "--layers=relu1_2", "relu4_2"]
    assert join_layers(arguments) == arguments


@pytest.mark.parametrize(
    "listed", ["relu4_2,relu1_2", "relu4_2, relu1_2", " relu4_2 relu1_2,", "relu1_2,relu4_2,relu1_2"]
)
def test_a_list_of_layers(listed: str) -> None:
    assert layer_names(listed, "vgg19") == ["relu1_2", "relu4_2"]


@pytest.mark.parametrize("layers", [None, "all"])
def test_all_layers_and_the_default_ones_stay_as_they_are(layers: str | None) -> None:
    assert layer_names(layers, "vgg19") == layers


def test_what_is_neither_a_layer_nor_a_file(invert: Run, tmp_path: Path) -> None:
    result = invert("predict", tmp_path, "--layers", "relu1_2", "relu9_9")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "error: --layers takes names separated by commas, with no spaces; 'relu9_9' is neither a layer nor a file\n"
    )


@pytest.mark.parametrize("option", ["--layer", "--layers"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "optimize"])
def test_every_command_takes_both_names_of_the_option(invert: Run, command: str, option: str, tmp_path: Path) -> None:
    argument = ["--data", tmp_path] if command == "evaluate" else [tmp_path / "photo.png"]
    result = invert(command, *argument, option, "relu9_9")
    assert result.status == 1
    assert result.err.startswith("error: unknown layer of vgg19 'relu9_9': did you mean")


@pytest.mark.parametrize("listed", ["", ","])
def test_an_empty_list(invert: Run, listed: str, tmp_path: Path) -> None:
    result = invert("predict", tmp_path, "--layers", listed)
    assert (result.status, result.err) == (1, "error: --layers names no layer\n")
