"""Folders of evaluations that were damaged: through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, photographs

from inverters.evaluation import evaluate as evaluation
from inverters.evaluation.scores import IMAGE_METRICS

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No classifier, and no plots."""
    monkeypatch.delitem(IMAGE_METRICS, "agreement")
    for figure in ("quality_figure", "detail_figure", "speed_figure"):
        monkeypatch.setattr(evaluation.plots, figure, lambda _: b"")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def evaluate(invert: Run, tiny_checkpoints: Path, tmp_path: Path, out: Path) -> Callable[[], Outcome]:
    """Evaluates two photographs at one layer."""
    data = photographs(tmp_path / "in", 2)
    options = ["--weights", "random", "--checkpoints", tiny_checkpoints, "--layers", "relu1_1", "--device", "cpu"]
    return lambda: invert(
        "evaluate", "--data", data, *options, "--methods", "decoder", "--size", "32", "-o", out, "--json"
    )


def psnr(outcome: Outcome) -> float:
    assert outcome.status == 0, outcome.err
    mean = json.loads(outcome.out)["summary"]["relu1_1"]["decoder"]["psnr"]
    assert mean["images"] == 2
    return float(mean["mean"])


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda cell: cell.update(scores={}), id="no scores"),
        pytest.param(lambda cell: cell["scores"].update(psnr=float("nan")), id="NaN"),
        pytest.param(lambda cell: cell["scores"].update(psnr=float("inf")), id="infinite"),
        pytest.param(lambda cell: cell.update(layer="relu2_1"), id="another layer"),
        pytest.param(lambda cell: cell.update(image=1), id="another image"),
        pytest.param(lambda cell: cell.update(error_spectrum=[1.0]), id="a short spectrum"),
        pytest.param(lambda cell: cell.update(error_spectrum=[float("nan")] * 16), id="a spectrum of NaN"),
    ],
)
def test_damaged_cells_are_computed_again(evaluate: Callable[[], Outcome], out: Path, change: Change) -> None:
    expected = psnr(evaluate())
    file = out / "records" / "0" / "relu1_1.decoder.json"
    whole = json.loads(file.read_text())
    cell = json.loads(file.read_text())
    change(cell)
    file.write_text(json.dumps(cell))
    assert psnr(evaluate()) == expected
    again = json.loads(file.read_text())
    assert {**again, "scores": {**again["scores"], "seconds": 0, "peak_memory": 0}} == {
        **whole,
        "scores": {**whole["scores"], "seconds": 0, "peak_memory": 0},
    }


@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_a_picture_that_is_gone_is_made_again(evaluate: Callable[[], Outcome], out: Path, damage: str) -> None:
    expected = psnr(evaluate())
    picture = out / "records" / "0" / "relu1_1.decoder.png"
    whole = picture.read_bytes()
    if damage == "deleted":
        picture.unlink()
    else:
        picture.write_bytes(whole[:-40])
    assert psnr(evaluate()) == expected
    assert picture.read_bytes() == whole


def test_a_cell_that_is_a_folder_is_named(evaluate: Callable[[], Outcome], out: Path) -> None:
    file = out / "records" / "0" / "relu1_1.decoder.json"
    file.mkdir(parents=True)
    (out / "settings.json").mkdir()
    status, _, err = evaluate()
    assert (status, err) == (1, f"error: cannot read {out / 'settings.json'}: Is a directory\n")
    (out / "settings.json").rmdir()
    status, _, err = evaluate()
    assert (status, err) == (1, f"error: {out} is not empty and holds no evaluation: name another --output-dir\n")
    file.rmdir()
    file.parent.rmdir()
    file.parent.parent.rmdir()
    psnr(evaluate())
    file.unlink()
    file.mkdir()
    status, _, err = evaluate()
    assert (status, err.splitlines()[-1]) == (1, f"error: cannot write {file}: Is a directory")


@pytest.mark.parametrize("content", ["[]", "null", "3", "{", "{}", '{"skipped": 3}', "[" * 100_000, "NaN", "\xff"])
def test_settings_of_nothing_are_refused(evaluate: Callable[[], Outcome], out: Path, content: str) -> None:
    out.mkdir()
    (out / "settings.json").write_text(content, encoding="latin-1")
    status, _, err = evaluate()
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith("error: ")


@pytest.mark.parametrize("change", [{"skipped": 3}, {"skipped": None, "command": []}, {"limit": "x", "data": [1]}])
def test_settings_that_decide_nothing_do_no_harm(
    evaluate: Callable[[], Outcome], out: Path, change: dict[str, Any]
) -> None:
    expected = psnr(evaluate())
    file = out / "settings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert psnr(evaluate()) == expected


def test_a_score_that_is_not_defined_is_said_to_be_left_out(
    evaluate: Callable[[], Outcome], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssim = IMAGE_METRICS["ssim"]
    monkeypatch.setitem(IMAGE_METRICS, "ssim", lambda preds, target: ssim(preds, target) * float("nan"))
    assert evaluate().status == 0
    assert "SSIM is not defined, and left out of the mean" in (out / "report.md").read_text()
