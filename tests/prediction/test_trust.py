"""Feature errors and their percentiles in the results of `invert predict`, through the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import publish_tiny
from predictions import Run, metrics, picture

from inverters.data.images import load_image, pad_to_multiple
from inverters.decoders.card import CARD_FILE
from inverters.encoders.vgg import VGGEncoder
from inverters.inversion.verdicts import FeatureError

LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`."""
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]


def set_quantiles(checkpoints: str | Path, layer: str, quantiles: list[float]) -> None:
    path = Path(checkpoints) / "vgg19-random" / layer / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"error_quantiles": quantiles}))


def layers(folder: Path, method: str = "decoder") -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = metrics(folder)["methods"][method]["layers"]
    return found


def measured(source: Path, folder: Path, layer: str) -> float:
    """The feature error of the written PNG."""
    encoder = VGGEncoder([layer], weights="random")
    with torch.no_grad():
        target, features = (
            encoder(pad_to_multiple(load_image(path)[None], encoder.input_multiple), [layer])[layer].numpy()
            for path in (source, folder / f"{layer}.png")
        )
    return float(np.linalg.norm(features - target) / np.linalg.norm(target))


def test_results_say_how_far_to_trust_them(invert: Run, options: list[str], tmp_path: Path) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    invert("predict", source, *options)
    before = layers(folder)
    for layer in LAYERS:
        assert before[layer]["feature_error"] == pytest.approx(measured(source, folder, layer), rel=1e-3)
        assert before[layer]["percentile"] is None
    first, second = (before[layer]["feature_error"] or 0 for layer in LAYERS)
    set_quantiles(options[3], "relu1_1", [first / 2, first, first + 1, first + 2, first + 3])
    set_quantiles(options[3], "relu2_1", [second / 4, second / 2])
    status, out, _ = invert("predict", source, *options, "--overwrite")
    assert status == 0
    after = layers(folder)
    assert after["relu1_1"]["percentile"] == pytest.approx(25, abs=0.1)
    assert after["relu2_1"]["percentile"] == 100
    assert f"{first:.3f} 25\N{NO-BREAK SPACE}%" in out
    assert f"{second:.3f} 100\N{NO-BREAK SPACE}%" in out
    document = json.loads(invert("predict", source, *options, "--overwrite", "--json").out)
    assert document["feature_error"] == {"decoder": {layer: after[layer]["feature_error"] for layer in LAYERS}}


def test_tables_and_parquet_files_have_them(invert: Run, options: list[str], tmp_path: Path) -> None:
    sources = [picture(tmp_path / f"{name}.png", size) for name, size in (("a", 40), ("b", 50))]
    set_quantiles(options[3], "relu2_1", [0.001, 0.002])
    status, out, _ = invert("predict", *sources, *options)
    assert status == 0
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    invert("predict", *sources, *options[:-1], tmp_path / "parquet", "--format", "parquet")
    (path,) = (tmp_path / "parquet").glob("*.parquet")
    for row, name, cells in zip(rows, ("a", "b"), pq.read_table(path).to_pylist(), strict=True):
        for layer, expected in layers(tmp_path / "out" / name).items():
            error = expected["feature_error"]
            assert float(row[f"feature_error_{layer}"]) == error
            assert cells[f"feature_error_{layer}"] == pytest.approx(error, rel=1e-3)
        assert (row["percentile_relu1_1"], row["percentile_relu2_1"]) == ("", "100.0")
        assert (cells["percentile_relu1_1"], cells["percentile_relu2_1"]) == (None, 100)
    mean = np.mean([float(row["feature_error_relu1_1"]) for row in rows])
    assert f"{mean:.3f}" in out.rpartition("mean")[2]


def test_only_decoders_as_they_were_measured_have_a_percentile(invert: Run, options: list[str], tmp_path: Path) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    publish_tiny(Path(options[3]), ("relu2_1",), corrections=2)
    set_quantiles(options[3], "relu2_1", [0.1, 9])
    options += ["--layers", "relu2_1", "--overwrite"]
    invert("predict", source, *options, "--methods", "decoder,decoder+lbfgs", "--iterations", "1")
    assert layers(folder)["relu2_1"]["percentile"] is not None
    refined = layers(folder, "decoder+lbfgs")["relu2_1"]
    assert refined["feature_error"] is not None and refined["percentile"] is None
    for corrections, known in (("1", False), ("2", True)):
        invert("predict", source, *options, "--corrections", corrections)
        assert (layers(folder)["relu2_1"]["percentile"] is not None) == known


def test_edited_features_have_no_error(invert: Run, options: list[str], tmp_path: Path) -> None:
    status, _, _ = invert("edit", picture(tmp_path / "photo.png"), *options, "--edit", "drop=0.5")
    assert status == 0
    plain, edited = metrics(tmp_path / "out" / "photo")["methods"].values()
    assert [set(one["layers"]["relu1_1"]) for one in (plain, edited)] == [
        {"psnr", "feature_error", "percentile"},
        {"psnr"},
    ]


@pytest.mark.parametrize(
    ("percentile", "verdict"),
    [
        (None, ""),
        (0.0, "usual"),
        (94.9, "usual"),
        (95.0, "worse than 95 % of photographs"),
        (99.9, "worse than 99 % of photographs"),
        (100.0, "worse than all photographs"),
    ],
)
def test_verdicts(percentile: float | None, verdict: str) -> None:
    assert FeatureError(0.5, percentile).verdict == verdict
