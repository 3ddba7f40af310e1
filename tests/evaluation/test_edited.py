"""`invert evaluate --edits`: what edits of the features cost."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, photographs, publish_tiny
from skimage.metrics import peak_signal_noise_ratio

from inverters.data.images import load_image, resize_shorter_side
from inverters.evaluation.evaluate import evaluate
from inverters.evaluation.records import Progress
from inverters.evaluation.results import Results
from inverters.inversion import edits
from inverters.inversion.loading import load_inverter

Invert = Callable[..., Outcome]
EDITS = ["drop=0.5", "binarize", "keep=0,0,16,16"]
LAYERS = ["relu1_1", "relu2_1"]


def arguments(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data": str(root / "photographs"),
        "layers": LAYERS,
        "methods": ["decoder", "lbfgs"],
        "edits": EDITS,
        "iterations": 1,
        "size": 32,
        "seed": 5,
        "output_dir": root / "evaluation",
        "weights": "random",
        "checkpoints": root / "checkpoints",
        "device": "cpu",
        **changes,
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("edits")
    photographs(root / "photographs", 2)
    publish_tiny(root / "checkpoints")
    return root


@pytest.fixture(scope="module")
def results(root: Path) -> Results:
    return evaluate(**arguments(root))


@pytest.fixture(scope="module")
def plain(root: Path) -> Results:
    """The same without edits."""
    return evaluate(**arguments(root, edits=[], methods=["decoder"], output_dir=root / "plain"))


def test_decoders_are_measured_with_every_edit_and_optimisation_without(root: Path, results: Results) -> None:
    keys = [(record.image, record.layer, record.method, record.edit) for record in results.records]
    assert keys == [
        (image, layer, method, edit)
        for image in range(2)
        for layer in LAYERS
        for method, edit in [("decoder", ""), *(("decoder", edit) for edit in EDITS), ("lbfgs", "")]
    ]
    rows = list(csv.DictReader((root / "evaluation" / "results.csv").open()))
    assert [(int(row["image"]), row["layer"], row["method"], row["edit"]) for row in rows] == keys
    assert len(list((root / "evaluation" / "records").glob("*/*.json"))) == len(keys)


def test_scores_are_those_of_the_decoded_edited_features(root: Path, results: Results) -> None:
    inverter = load_inverter(LAYERS, weights="random", checkpoints=root / "checkpoints")
    image = resize_shorter_side(load_image(root / "photographs" / "0.png"), 32)[None, :, :, 3:35]
    for layer, features in inverter.encode(image).items():
        for edit in EDITS:
            edited = edits.apply({layer: features}, [edit], inverter, (32, 32), seed=5)
            preds = inverter.decode(edited, (32, 32))[layer].mul(255).round() / 255
            (record,) = (one for one in results.records if (one.image, one.layer, one.edit) == (0, layer, edit))
            x, y = (tensor[0].double().numpy() for tensor in (image, preds))
            assert record.scores["psnr"] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), abs=0.05)
            error = float((inverter.encode(preds)[layer] - features).norm() / features.norm())
            assert record.scores["feature_error"] == pytest.approx(error, rel=0.01)


def test_edited_records_are_summarised_apart(root: Path, results: Results, plain: Results) -> None:
    values = json.loads((root / "evaluation" / "results.json").read_text())
    assert values["edits"] == EDITS
    assert {method: list(layers) for method, layers in values["edited"].items()} == {"decoder": LAYERS}
    for layer in LAYERS:
        assert list(values["summary"][layer]) == ["decoder", "lbfgs"]
        assert list(values["edited"]["decoder"][layer]) == EDITS
        for edit in ["", *EDITS]:
            scores = [
                record.scores["psnr"]
                for record in results.records
                if (record.layer, record.method, record.edit) == (layer, "decoder", edit)
            ]
            found = values["edited"]["decoder"][layer][edit] if edit else values["summary"][layer]["decoder"]
            assert found["psnr"]["mean"] == pytest.approx(np.mean(scores))
            assert found["psnr"]["images"] == 2
    for layer in LAYERS:
        assert plain.summary[layer]["decoder"]["psnr"] == results.summary[layer]["decoder"]["psnr"]
        assert plain.error_spectra(layer)["decoder"] == results.error_spectra(layer)["decoder"]


def test_the_report_has_a_table_and_a_figure(root: Path, results: Results) -> None:
    report = (root / "evaluation" / "report.md").read_text()
    assert "![PSNR and feature error by layer, for each edit](edits.png)" in report
    assert (root / "evaluation" / "edits.png").read_bytes().startswith(b"\x89PNG")
    for layer in LAYERS:
        means = [results.summary[layer]["decoder"], *results.edited["decoder"][layer].values()]
        for metric, form in (("psnr", ".2f"), ("feature_error", ".4f")):
            assert f"| {layer} | {' | '.join(f'{found[metric].mean:{form}}' for found in means)} |\n" in report
        change = means[1]["psnr"].mean - means[0]["psnr"].mean
        (sentence,) = re.findall(r"drop=0\.5 changes the PSNR by .*?\. ", report)
        assert f"{change:+.1f} dB at {layer}".replace("-", "−") in sentence


def test_without_edits_there_is_nothing_of_them(root: Path, plain: Results) -> None:
    assert plain.edited == {}
    assert not (root / "plain" / "edits.png").exists()
    assert "Edited features" not in (root / "plain" / "report.md").read_text()
    assert "edited" not in json.loads((root / "plain" / "results.json").read_text())


def test_it_continues_where_it_stopped(root: Path, results: Results) -> None:
    lost = root / "evaluation" / "records" / "1" / "relu2_1.decoder.drop=0.5.json"
    lost.unlink()
    seen: list[Progress] = []
    again = evaluate(**arguments(root, progress=seen.append))
    assert [(step.record.image, step.record.layer, step.record.edit) for step in seen] == [(1, "relu2_1", "drop=0.5")]
    assert [record.scores["psnr"] for record in again.records] == [record.scores["psnr"] for record in results.records]


def test_an_evaluation_from_before_there_were_edits_continues(root: Path, plain: Results) -> None:
    assert plain.settings["edits"] is None
    shutil.copytree(root / "plain", root / "before")
    settings = root / "before" / "settings.json"
    settings.write_text(
        json.dumps({key: value for key, value in json.loads(settings.read_text()).items() if key != "edits"})
    )
    for path in (root / "before" / "records").glob("*/*.json"):
        record = json.loads(path.read_text())
        del record["edit"]
        path.write_text(json.dumps(record))
    seen: list[Progress] = []
    changes = {"edits": [], "methods": ["decoder"], "output_dir": root / "before"}
    evaluate(**arguments(root, **changes, progress=seen.append))
    assert seen == []


@pytest.fixture
def command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    monkeypatch.chdir(tmp_path)
    options = ["--data", root / "photographs", "--size", "32", "--weights", "random"]
    return ["evaluate", *options, "--checkpoints", root / "checkpoints", "--methods", "decoder", "--layers", "all"]


def test_through_the_command_line(invert: Invert, command: list[str | Path]) -> None:
    result = invert(*command, "--edits", "drop=0.5, channels=3,17,drop=0.50")
    assert result.status == 0
    assert "2/12  0.png  relu1_1  decoder drop=0.5: " in result.err
    assert "PSNR in dB by decoder, mean over the images" in " ".join(result.out.split())
    table = [line.split("│")[1:-1] for line in result.out.splitlines() if line.count("│") == 5]
    assert [row[0].strip() for row in table] == LAYERS
    assert "channels=3,17" in result.out
    refused = invert(*command, "--edits", "drop=0.5")
    assert refused.status == 1
    assert "with edits drop=0.5, channels=3,17 (here drop=0.5): name another --output-dir\n" in refused.err
    assert "with edits drop=0.5, channels=3,17 (here None): name" in invert(*command).err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--edits", "dorp=0.5"], "error: unknown edit 'dorp': did you mean 'drop'?"),
        (["--edits", "drop=0.5,noise"], "error: noise is written noise=S, with a number of standard deviations"),
        (["--edits", "top=100"], "error: top=100: relu1_1 has 64 channels"),
        (
            ["--edits", "keep=0,0,33,32"],
            "error: keep=0,0,33,32: the box reaches beyond the image, which has 32×32 pixels",
        ),
        (
            ["--edits", "mix=a.jpg:0.5"],
            "error: mix takes one other image, but an evaluation has many: use `invert edit`",
        ),
        (["--edits", "drop=0.5", "--methods", "lbfgs"], "error: edits are decoded: name one of the methods decoder,"),
    ],
)
def test_mistakes_are_one_line(invert: Invert, command: list[str | Path], options: list[str], message: str) -> None:
    result = invert(*command, *options)
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(message)
    assert not Path("evaluation").exists()


def test_a_figure_for_two_decoders(root: Path) -> None:
    publish_tiny(root / "two")
    publish_tiny(root / "two", ("relu2_1",), objective="perceptual")
    changes = {"checkpoints": root / "two", "methods": ["decoder", "perceptual"], "output_dir": root / "out"}
    found = evaluate(**arguments(root, **changes, edits=["binarize"]))
    assert {method: list(layers) for method, layers in found.edited.items()} == {
        "decoder": LAYERS,
        "perceptual": ["relu2_1"],
    }
    report = (root / "out" / "report.md").read_text()
    assert "PSNR (dB) by decoder:" in report and "PSNR (dB) by perceptual:" in report
    assert torch.isfinite(torch.tensor(found.edited["perceptual"]["relu2_1"]["binarize"]["psnr"].mean))
