import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_LAYERS, publish_tiny, remove_checksum
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from inverters import metrics
from inverters.data.images import load_image
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import DataError, InverterError, OutputError, UnknownNameError
from inverters.evaluation.evaluate import evaluate
from inverters.evaluation.records import Progress
from inverters.evaluation.results import Results
from inverters.evaluation.scores import METRICS
from inverters.inversion.methods import Reconstruction

METHODS = ["decoder", "lbfgs", "decoder+lbfgs"]
FILES = [
    *("depth.png", "detail.png", "quality.png", "records", "report.md"),
    *("results.csv", "results.json", "settings.json", "speed.png"),
]
VOLATILE = ("seconds", "peak_memory")

Evaluate = Callable[..., Results]


def write_photographs(folder: Path, count: int = 2, height: int = 64, width: int = 80) -> Path:
    """Waves of different directions with noise."""
    folder.mkdir()
    rows, columns = np.mgrid[:height, :width]
    for number in range(count):
        waves = np.sin(rows * (0.1 + 0.1 * number))[..., None] * np.cos(columns * 0.2)[..., None] * [0.4, 0.2, 0.3]
        noise = np.random.default_rng(number).normal(0, 0.05, (height, width, 3))
        pixels = np.clip(0.5 + waves + noise, 0, 1)
        Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def centre(path: Path) -> Tensor:
    return load_image(path)[None, :, :, 8:72]


def arguments(root: Path, **changes: Any) -> dict[str, Any]:
    """A small evaluation of the photographs and decoders under `root`."""
    return {
        "data": str(root / "photographs"),
        "layers": TINY_LAYERS,
        "methods": METHODS,
        "iterations": 3,
        "size": 64,
        "output_dir": root / "evaluation",
        "weights": "random",
        "checkpoints": root / "checkpoints",
        "device": "cpu",
        "command": "invert evaluate",
        **changes,
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, decoders, and a finished evaluation."""
    root = tmp_path_factory.mktemp("evaluation")
    write_photographs(root / "photographs")
    publish_tiny(root / "checkpoints")
    evaluate(**arguments(root))
    return root


@pytest.fixture(scope="module")
def results(root: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((root / "evaluation" / "results.json").read_text())
    return values


def stable(results: dict[str, Any]) -> dict[str, Any]:
    """Results without what differs from run to run: times and memory."""

    def strip(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in VOLATILE}

    records = [{**record, "scores": strip(record["scores"])} for record in results["records"]]
    summary = {
        layer: {method: strip(scores) for method, scores in by_method.items()}
        for layer, by_method in results["summary"].items()
    }
    return {**results, "records": records, "summary": summary}


# What it writes


def test_every_file_is_there_and_says_what_made_it(root: Path, results: dict[str, Any]) -> None:
    folder = root / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert json.loads((folder / "settings.json").read_text()).items() <= results.items()
    assert results["command"] == "invert evaluate"
    assert results["data"] == str(root / "photographs")
    assert (results["images"], results["seed"], results["size"]) == (2, 0, 64)
    assert results["device"].startswith("cpu")
    assert results["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_there_is_a_record_for_each_image_layer_and_method(root: Path, results: dict[str, Any]) -> None:
    keys = [(record["image"], record["layer"], record["method"]) for record in results["records"]]
    assert keys == [(image, layer, method) for image in range(2) for layer in TINY_LAYERS for method in METHODS]
    rows = list(csv.DictReader((root / "evaluation" / "results.csv").open()))
    assert len(rows) == len(keys)
    for row, record in zip(rows, results["records"], strict=True):
        assert (row["name"], row["layer"], row["method"]) == (record["name"], record["layer"], record["method"])
        assert {name: float(row[name]) if row[name] else None for name in METRICS} == record["scores"]


def test_scores_that_do_not_exist_are_null_and_the_reason_is_given(root: Path, results: dict[str, Any]) -> None:
    assert results["left_out"]["ms_ssim"] == "images must have at least 176 pixels per side, not 64"
    report = (root / "evaluation" / "report.md").read_text()
    for name in METRICS:
        missing = {record["scores"][name] is None for record in results["records"]}
        assert missing == {name in results["left_out"]}
        assert (f"\n{METRICS[name].title} is left out: " in report) == (name in results["left_out"])


def test_the_report_has_every_mean_and_figure(root: Path, results: dict[str, Any]) -> None:
    report = (root / "evaluation" / "report.md").read_text()
    for by_method in results["summary"].values():
        for scores in by_method.values():
            assert f" {scores['psnr']['mean']:.2f} |" in report or f" **{scores['psnr']['mean']:.2f}** |" in report
    for figure in ("depth.png", "quality.png", "detail.png", "speed.png"):
        assert f"]({figure})" in report
        with Image.open(root / "evaluation" / figure) as image:
            assert min(image.size) > 200


# The numbers


def test_scores_are_those_of_the_written_images(root: Path, results: dict[str, Any]) -> None:
    """PSNR and SSIM against scikit-image, the other metrics by their definition. The first image is written."""
    originals = [centre(root / "photographs" / f"{number}.png") for number in range(2)]
    distance = (originals[0] - originals[1]).square().mean().sqrt()
    encoder = VGGEncoder(TINY_LAYERS, weights="random")
    written = [record for record in results["records"] if record["image"] == 0]
    assert len(written) == len(TINY_LAYERS) * len(METHODS)
    for record in written:
        image, scores = originals[record["image"]], record["scores"]
        png = root / "evaluation" / "records" / str(record["image"]) / f"{record['layer']}.{record['method']}.png"
        preds = load_image(png)[None]
        x, y = (tensor[0].permute(1, 2, 0).double().numpy() for tensor in (image, preds))
        ssim = structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
        )
        assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), abs=0.01)
        assert scores["ssim"] == pytest.approx(ssim, abs=1e-3)
        features, target = (encoder(tensor, TINY_LAYERS)[record["layer"]] for tensor in (preds, image))
        assert scores["feature_error"] == pytest.approx(((features - target).norm() / target.norm()).item(), rel=1e-4)
        error = (preds - image).square().mean().sqrt() / distance
        assert scores["normalized_error"] == pytest.approx(error.item(), rel=1e-4)
        assert scores["resolved_detail"] == pytest.approx(metrics.resolved_detail(preds, image).item())
        assert scores["seconds"] > 0


def test_refining_never_ends_above_the_decoder_in_feature_error(results: dict[str, Any]) -> None:
    errors = {(c["image"], c["layer"], c["method"]): c["scores"]["feature_error"] for c in results["records"]}
    for image, layer in {key[:2] for key in errors}:
        assert errors[image, layer, "decoder+lbfgs"] <= errors[image, layer, "decoder"]


def test_a_decoder_takes_one_encoder_pass_and_an_optimisation_more_than_its_iterations(results: dict[str, Any]) -> None:
    for record in results["records"]:
        passes = record["scores"]["encoder_passes"]
        assert passes == 1 if record["method"] == "decoder" else passes > 3


def test_the_summary_is_the_mean_over_images(results: dict[str, Any]) -> None:
    for layer, by_method in results["summary"].items():
        for method, scores in by_method.items():
            values = [c["scores"]["psnr"] for c in results["records"] if (c["layer"], c["method"]) == (layer, method)]
            assert scores["psnr"]["mean"] == pytest.approx(np.mean(values))
            assert scores["psnr"]["images"] == 2


def test_one_large_image_has_multiscale_ssim_and_no_normalized_error(root: Path, tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "large", count=1, height=200, width=192)
    changes = {"data": str(data), "size": 192, "methods": ["decoder"], "layers": ["relu1_1"]}
    found = evaluate(**arguments(root, output_dir=tmp_path / "out", **changes))
    (record,) = found.records
    assert record.scores["ms_ssim"] is not None
    assert record.scores["normalized_error"] is None
    assert found.settings["left_out"]["normalized_error"] == "it takes at least two images"


def test_an_exact_reconstruction_has_no_psnr_and_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = centre(root / "photographs" / "0.png")
    monkeypatch.setattr("inverters.inversion.methods.Decode.__call__", lambda *_: Reconstruction(image))
    evaluate(**arguments(root, output_dir=tmp_path / "out", methods=["decoder"], limit=1))
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    assert values["records"][0]["scores"]["psnr"] is None
    assert values["records"][0]["scores"]["feature_error"] == 0
    assert "Exact to the last bit" in (tmp_path / "out" / "report.md").read_text()


# Methods without a decoder for some layers


def test_a_method_without_a_decoder_is_left_out_there(root: Path, tmp_path: Path) -> None:
    """Ten layers are shipped with a decoder, five with a linear one."""
    checkpoints = publish_tiny(tmp_path / "checkpoints")
    publish_tiny(checkpoints, ("relu2_1",), objective="linear")
    changes = {"layers": "all", "methods": ["decoder", "linear", "lbfgs"], "checkpoints": checkpoints, "iterations": 1}
    notices: list[str] = []
    output_dir = tmp_path / "out"
    found = evaluate(**arguments(root, **changes, output_dir=output_dir, notice=notices.append))
    assert notices[0] == "linear is left out at relu1_1: there is no decoder."
    assert found.settings["missing_decoders"] == {"linear": ["relu1_1"]}
    assert found.methods == ["decoder", "linear", "lbfgs"]
    values = json.loads((output_dir / "results.json").read_text())
    for by_layer in (values["summary"], values["spectra"]["error"]):
        assert {layer: list(by_method) for layer, by_method in by_layer.items()} == {
            "relu1_1": ["decoder", "lbfgs"],
            "relu2_1": ["decoder", "linear", "lbfgs"],
        }
    assert sorted(path.name for path in output_dir.iterdir()) == FILES
    report = (output_dir / "report.md").read_text()
    assert notices[0] in report
    assert re.search(r"\| relu1_1 \| \S+ \| – \| \S+ \|", report)


def test_what_is_left_out_is_said_before_the_work(root: Path, tmp_path: Path) -> None:
    events: list[object] = []
    changes = {"layers": ["relu1_1"], "methods": ["decoder", "linear"], "output_dir": tmp_path / "out"}
    found = evaluate(**arguments(root, **changes, notice=events.append, progress=events.append))
    assert events[0] == "linear is left out at relu1_1: there is no decoder."
    assert isinstance(events[-1], Progress)
    assert found.methods == ["decoder"]


# Going on where it stopped


def test_a_killed_evaluation_resumes_to_the_same_results(root: Path, tmp_path: Path, results: dict[str, Any]) -> None:
    """Times and memory of records differ from run to run; all else is the same, and finished records are left alone."""
    output_dir = tmp_path / "killed"
    script = "from pathlib import PosixPath; from inverters.evaluation.evaluate import evaluate; evaluate(**{!r})"
    call = script.format(arguments(root, output_dir=output_dir))
    process = subprocess.Popen([sys.executable, "-c", call])
    deadline = time.monotonic() + 120
    while len(list(output_dir.glob("records/*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {path: path.read_bytes() for path in output_dir.glob("records/*/*.json")}
    assert 2 <= len(finished) < len(results["records"])
    assert not (output_dir / "results.json").exists()

    seen: list[Progress] = []
    evaluate(**arguments(root, output_dir=output_dir, progress=seen.append))
    assert stable(json.loads((output_dir / "results.json").read_text())) == stable(results)
    assert {path: path.read_bytes() for path in finished} == finished
    assert [step.done for step in seen] == list(range(len(finished) + 1, len(results["records"]) + 1))
    assert seen[-1].seconds_left == 0 < seen[0].seconds_left


def test_a_damaged_record_is_computed_again_and_only_that(root: Path, results: dict[str, Any]) -> None:
    damaged = root / "evaluation" / "records" / "1" / "relu1_1.lbfgs.json"
    damaged.write_text(damaged.read_text()[:100])
    seen: list[Progress] = []
    evaluate(**arguments(root, progress=seen.append))
    assert [(step.record.image, step.record.layer, step.record.method) for step in seen] == [(1, "relu1_1", "lbfgs")]
    assert stable(json.loads((root / "evaluation" / "results.json").read_text())) == stable(results)


def test_a_folder_of_another_evaluation_is_refused_and_left_as_it_was(root: Path) -> None:
    before = {path: path.read_bytes() for path in (root / "evaluation").rglob("*") if path.is_file()}
    with pytest.raises(OutputError) as raised:
        evaluate(**arguments(root, iterations=4, seed=1, command="another"))
    assert str(raised.value) == (
        f"{root / 'evaluation'} belongs to another evaluation, with iterations 3 (here 4), seed 0 (here 1): "
        "name another --output-dir"
    )
    assert {path: path.read_bytes() for path in (root / "evaluation").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 1}, "with limit None (here 1): "),
        ({"layers": ["relu1_1"], "methods": ["lbfgs"]}, "layers relu1_1, relu2_1 (here relu1_1), "),
        ({"layers": ["relu1_1"], "methods": ["lbfgs"]}, "methods decoder, lbfgs, decoder+lbfgs (here lbfgs): "),
        ({"methods": ["decoder", "lbfgs", "decoder+lbfgs", "linear"]}, "with other decoders: "),
    ],
)
def test_other_settings_are_named_shortly(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=re.escape(message)) as raised:
        evaluate(**arguments(root, **changes))
    assert len(str(raised.value).removeprefix(str(root))) < 250


def test_other_decoders_in_the_same_place_make_another_evaluation(root: Path, tmp_path: Path) -> None:
    other = publish_tiny(tmp_path / "other")
    model = other / "vgg19-random" / "relu1_1" / "model.safetensors"
    save_file({key: value + 1 for key, value in load_file(model).items()}, model)
    remove_checksum(model.parent)
    with pytest.raises(OutputError, match="belongs to another evaluation, with other weights: "):
        evaluate(**arguments(root, checkpoints=other))


def test_other_pixels_under_the_same_name_make_another_evaluation(root: Path, tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs")
    changes = {"data": str(data), "layers": ["relu1_1"], "methods": ["decoder"], "output_dir": tmp_path / "out"}
    evaluate(**arguments(root, **changes))
    Image.new("RGB", (64, 64)).save(data / "1.png")
    with pytest.raises(OutputError, match="belongs to another evaluation, with other images: "):
        evaluate(**arguments(root, **changes))


def test_it_continues_with_other_threads_and_from_elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the number of threads nor the spelling of a path makes another evaluation; threads are in the records."""
    (root / "evaluation" / "records" / "1" / "relu2_1.lbfgs.json").unlink()
    monkeypatch.setattr("torch.get_num_threads", lambda: 77)
    monkeypatch.chdir(root)
    found = evaluate(**arguments(root, data="photographs"))
    assert [record.threads for record in found.records].count(77) == 1
    report = (root / "evaluation" / "report.md").read_text()
    assert re.search(r"Device: cpu \(\w+, \w+\), threads: \d+ and 77\. ", report)


def test_a_folder_that_holds_something_else_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="is not empty and holds no evaluation"):
        evaluate(**arguments(root, output_dir=tmp_path))


# What a user can get wrong


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ["decodr"]}, UnknownNameError, "unknown method 'decodr': did you mean 'decoder'?"),
        ({"methods": []}, InverterError, "methods is empty. Valid: decoder, "),
        ({"layers": ["relu9_9"]}, UnknownNameError, "unknown layer of vgg19 'relu9_9'"),
        ({"limit": 0}, InverterError, "limit must be at least 1, not 0"),
        ({"limit": -1}, InverterError, "limit must be at least 1, not -1"),
        ({"iterations": 0}, InverterError, "iterations must be at least 1, not 0"),
        ({"seed": -1}, InverterError, "seed must be from 0 to 9223372036854775807, not -1"),
        ({"seed": 2**63}, InverterError, "seed must be from 0 to 9223372036854775807, not 9223372036854775808"),
        ({"size": 50}, InverterError, "size must be a positive multiple of 32, the encoder's largest stride, not 50"),
        ({"size": 0}, InverterError, "not 0"),
        ({"size": 96}, DataError, "0.png: 80×64 pixels, smaller than 96×96"),
        ({"data": "/nowhere/photographs"}, DataError, "no such file or folder: /nowhere/photographs"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(
    root: Path, tmp_path: Path, changes: dict[str, Any], error: type[InverterError], message: str
) -> None:
    with pytest.raises(error) as raised:
        evaluate(**arguments(root, output_dir=tmp_path / "out", **changes))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_used_are_passed_over_and_named(root: Path, tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs")
    (data / "0-empty.png").touch()
    Image.new("RGB", (30, 100)).save(data / "0-small.png")
    changes = {"data": str(data), "layers": None, "methods": ["decoder"], "limit": 2}
    found = evaluate(**arguments(root, output_dir=tmp_path / "out", **changes))
    assert [record.name for record in found.records] == ["0.png", "0.png", "1.png", "1.png"]
    empty, small = found.settings["skipped"]
    assert "0-empty.png: cannot read" in empty
    assert small == "0-small.png: 30×100 pixels, smaller than 64×64"
    assert f"Skipped image: {small}." in (tmp_path / "out" / "report.md").read_text()
