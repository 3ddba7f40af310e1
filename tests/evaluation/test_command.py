"""`invert evaluate`, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome, publish_tiny
from datasets import Dataset, enable_progress_bars
from PIL import Image

from inverters.inversion.method_names import DEFAULT_METHODS, METHODS

Invert = Callable[..., Outcome]


@pytest.fixture
def command(tmp_path: Path, tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """An evaluation of two noisy images, run in a folder of its own."""
    (tmp_path / "photographs").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    options = ["--data", "photographs", "--size", "64", "--weights", "random", "--checkpoints", tiny_checkpoints]
    return ["evaluate", *options, "--methods", "decoder,linear", "--device", "cpu"]


def test_it_prints_a_table_and_what_it_leaves_out(invert: Invert, command: list[str | Path]) -> None:
    result = invert(*command, "--layers", "all")
    assert result.status == 0
    assert "relu1_1" in result.out
    assert result.out.endswith("wrote evaluation/report.md\n")
    assert "linear is left out at relu1_1, relu2_1: there is no decoder.\n" in result.err
    assert "2/4  0.png  relu2_1  decoder: " in result.err
    assert Path("evaluation/report.md").exists()


def test_without_corrections_it_is_another_evaluation(
    invert: Invert, command: list[str | Path], tmp_path: Path
) -> None:
    publish_tiny(tmp_path / "corrected", corrections=1)
    command[command.index("--checkpoints") + 1] = tmp_path / "corrected"
    assert invert(*command, "--corrections", "0").status == 0
    results = json.loads(Path("evaluation/results.json").read_text())
    assert results["corrections"] == 0
    result = invert(*command)
    assert result.status == 1
    assert "belongs to another evaluation, with corrections 0 (here None)" in result.err


def test_json_is_one_document(invert: Invert, command: list[str | Path]) -> None:
    result = invert(*command, "--json", "-o", "out")
    assert json.loads(result.out) == json.loads(Path("out/results.json").read_text())


def test_quiet_prints_nothing(invert: Invert, command: list[str | Path]) -> None:
    assert invert(*command, "--quiet") == Outcome(0, "", "")
    assert Path("evaluation/report.md").exists()


def test_quiet_is_without_the_bars_of_datasets(invert: Invert, command: list[str | Path]) -> None:
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(Path("photographs").iterdir())]
    Dataset.from_dict({"image": images}).to_parquet("photographs.parquet")
    enable_progress_bars()
    quiet = invert(*command, "--data", "photographs.parquet", "--quiet")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


def test_a_method_without_a_decoder_for_a_layer_is_a_dash(invert: Invert, command: list[str | Path]) -> None:
    result = invert(*command, "--methods", "decoder,perceptual,lbfgs", "--layer", "relu1_1,pool1", "--iterations", "1")
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:4]] for cells in rows_of(result.out)}
    assert rows["pool1"][0] == "–"
    assert float(rows["pool1"][1]) > 0


def rows_of(table: str) -> list[list[str]]:
    return [line.split("│") for line in table.splitlines() if line.startswith("│")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "decodr"], "error: unknown method 'decodr': did you mean 'decoder'?"),
        (["--layers", "relu9_9"], "error: unknown layer of vgg19 'relu9_9'"),
        (["--size", "50"], "error: size must be a positive multiple of 32, the encoder's largest stride, not 50"),
        (["--data", "nowhere.jpg"], "error: no such file or folder: nowhere.jpg"),
        (["--methods", "perceptual"], "error: no perceptual decoder for vgg19 under "),
        (["--device", "abacus"], "error: no device 'abacus' on this machine"),
    ],
)
def test_mistakes_are_one_line(invert: Invert, command: list[str | Path], options: list[str], message: str) -> None:
    result = invert(*command, *options)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1
    assert not Path("evaluation").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
        ("--limit", "0"),
        ("--limit", "many"),
        ("--iterations", "0"),
        ("--size", "0"),
        ("--size", "9" * 5000),
    ],
)
def test_bad_numbers_are_usage_errors(invert: Invert, command: list[str | Path], options: tuple[str, str]) -> None:
    result = invert(*command, *options)
    assert (result.status, result.out) == (2, "")
    assert f"Invalid value for '{options[0]}'" in result.err
    assert not Path("evaluation").exists()


def test_another_evaluation_in_the_folder_is_named_in_one_line(invert: Invert, command: list[str | Path]) -> None:
    invert(*command)
    result = invert(*command, "--seed", "1", "--limit", "1")
    assert result.status == 1
    assert result.err == (
        "error: evaluation belongs to another evaluation, with limit None (here 1), seed 0 (here 1): "
        "name another --output-dir\n"
    )


@pytest.mark.parametrize("content", ["[1]", "{", '{"versions": 1}'])
def test_a_damaged_settings_file_is_one_line(invert: Invert, command: list[str | Path], content: str) -> None:
    invert(*command)
    Path("evaluation/settings.json").write_text(content)
    result = invert(*command)
    assert result.status == 1
    assert result.err.count("\n") == 1


def test_the_help_names_every_method(invert: Invert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = invert("evaluate", "--help").out
    assert f"Methods to compare: {', '.join(METHODS)}." in text
    assert ",".join(DEFAULT_METHODS) in text
    assert all(panel in text for panel in ("What to invert", "How", "Where to", "On what"))
