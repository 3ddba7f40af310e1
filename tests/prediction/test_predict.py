"""`invert predict` and `invert optimize`, through the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from inverters.data.images import load_image, pad_to_multiple
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import INPUT_MULTIPLE
from inverters.inversion.loading import load_inverter

Run = Callable[..., Outcome]


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`."""
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]


def photograph(path: Path, width: int = 40, height: int = 33, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_one_image(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = photograph(tmp_path / "photo.png")
    status, out, err = invert("predict", source, *options)
    folder = tmp_path / "out" / "photo"
    assert (status, err) == (0, "")
    assert sorted(file.name for file in folder.iterdir()) == ["depth.png", "metrics.json", "relu1_1.png", "relu2_1.png"]
    assert not (tmp_path / "out" / "metrics.csv").exists()
    assert "relu1_1" in out and str(folder / "depth.png") in out

    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["image"] == str(source)
    assert (metrics["width"], metrics["height"]) == (40, 33)
    assert (metrics["encoder"], metrics["weights"]) == ("vgg19", "random")
    assert metrics["seconds"] > 0
    original = np.asarray(Image.open(source))
    for layer in ("relu1_1", "relu2_1"):
        written = np.asarray(Image.open(folder / f"{layer}.png"))
        assert written.shape == original.shape
        expected = peak_signal_noise_ratio(original, written)
        assert metrics["layers"][layer]["psnr"] == pytest.approx(expected, abs=0.01)
        assert f"{expected:.1f}" in out


def test_the_png_is_what_the_inverter_gives(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = photograph(tmp_path / "photo.png")
    invert("predict", source, *options, "--layers", "relu2_1")
    inverter = load_inverter(["relu2_1"], weights="random", checkpoints=options[3])
    expected = inverter.reconstruct(load_image(source)[None])["relu2_1"][0]
    written = load_image(tmp_path / "out" / "photo" / "relu2_1.png")
    assert (written - expected).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 31), (64, 32), (97, 13)])
def test_any_size(invert: Run, options: list[str], tmp_path: Path, width: int, height: int) -> None:
    source = photograph(tmp_path / "photo.png", width, height)
    assert invert("predict", source, *options).status == 0
    assert Image.open(tmp_path / "out" / "photo" / "relu2_1.png").size == (width, height)


@pytest.mark.parametrize(
    ("size", "expected"), [("16", (32, 16)), ("40", (80, 40)), ("512", (80, 40)), ("full", (80, 40))]
)
def test_size_is_the_shorter_side_and_never_enlarges(
    invert: Run, options: list[str], tmp_path: Path, size: str, expected: tuple[int, int]
) -> None:
    invert("predict", photograph(tmp_path / "photo.png", 80, 40), *options, "--size", size)
    assert Image.open(tmp_path / "out" / "photo" / "relu1_1.png").size == expected


def test_a_folder_and_equal_stems(invert: Run, options: list[str], tmp_path: Path) -> None:
    for number, name in enumerate(["a/photo.png", "b/photo.png", "b/Photo.bmp", "photo-2.png"]):
        photograph(tmp_path / "in" / name, seed=number)
    status, out, _ = invert("predict", tmp_path / "in", *options)
    assert status == 0
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert len(folders) == len({name.casefold() for name in folders}) == 4
    sources = {json.loads((tmp_path / "out" / name / "metrics.json").read_text())["image"] for name in folders}
    assert len(sources) == 4
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert {row["image"] for row in rows} == sources
    mean = np.mean([float(row["psnr_relu1_1"]) for row in rows])
    assert f"{mean:.1f}" in next(line for line in out.splitlines() if "mean" in line)


def test_a_file_named_twice_is_inverted_once(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = photograph(tmp_path / "in" / "photo.png")
    invert("predict", source, source.parent, *options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo"]


def test_images_come_in_the_order_in_which_they_are_named(invert: Run, options: list[str], tmp_path: Path) -> None:
    named = [photograph(tmp_path / name) for name in ("b.png", "a.png", "c.png")]
    status, out, _ = invert("predict", *named, *options)
    assert status == 0
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [row["folder"] for row in rows] == ["b", "a", "c"]
    assert out.index(" b ") < out.index(" a ") < out.index(" c ")


def test_a_bad_file_is_named_and_the_rest_is_done(invert: Run, options: list[str], tmp_path: Path) -> None:
    good = photograph(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not an image")
    (tmp_path / "empty-folder").mkdir()
    missing = tmp_path / "missing.png"
    status, out, err = invert("predict", tmp_path / "bad.png", missing, tmp_path / "empty-folder", good, *options)
    assert status == 1
    problems = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(problems) == 3
    assert any("bad.png" in line for line in problems)
    assert any("missing.png" in line and "no such file" in line for line in problems)
    assert any("no images in folder" in line for line in problems)
    assert (tmp_path / "out" / "good" / "depth.png").exists()
    assert "good" in out


def test_an_output_folder_that_is_a_file(invert: Run, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    status, _, err = invert("predict", photograph(tmp_path / "photo.png"), *options)
    assert status == 1
    assert err == f"error: cannot create the folder {tmp_path / 'out'}: File exists\n"


def test_exact_reconstruction_is_null_in_json(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inverters.inversion.inverter import Inverter

    monkeypatch.setattr(Inverter, "reconstruct", lambda self, images, *_: dict.fromkeys(self.decoders, images))
    status, out, _ = invert("predict", photograph(tmp_path / "photo.png"), *options)
    assert status == 0
    metrics = json.loads((tmp_path / "out" / "photo" / "metrics.json").read_text())
    assert metrics["layers"]["relu1_1"]["psnr"] is None
    assert "lossless" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--layers", "relu1_11"], 1, "error: unknown layer of vgg19 'relu1_11': did you mean 'relu1_1'?"),
        (["--layers", "relu4_2"], 1, "error: no decoder for relu4_2 under"),
        (["--layers", "conv1_1"], 1, "The papers' conv1_1 is relu1_1 here."),
        (["--encoder", "vgg91"], 1, "error: unknown encoder 'vgg91': did you mean 'vgg19'?"),
        (["--weights", "orignal"], 1, "error: unknown weights of vgg19 'orignal': did you mean 'original'?"),
        (["--checkpoints", "nowhere"], 1, "error: no folder of decoders at nowhere"),
        (["--device", "cuda:99"], 1, "error: no device 'cuda:99' on this machine. Valid: auto, "),
        (["--size", "big"], 2, "'big' is neither a number of pixels nor 'full'"),
        (["--size", "0"], 2, "'0' is neither a number of pixels nor 'full'"),
        (["--sise", "3"], 2, "--size"),
        (["--tile", "100"], 2, "100 is not a multiple of 32"),
        (["--tile", "0"], 2, "0 is not a multiple of 32"),
    ],
)
def test_mistakes_are_one_line(
    invert: Run, options: list[str], tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    got, _, err = invert("predict", photograph(tmp_path / "photo.png"), *options, *arguments)
    assert got == status
    assert message in err
    if status == 1:
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_traceback_only_with_the_variable(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "inverters", "predict", "x.png", "--checkpoints", "nowhere"]
    plain = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    debug = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"INVERTERS_DEBUG": "1"}
    )
    assert plain.returncode == debug.returncode == 1
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr and "CheckpointError" in debug.stderr


def test_ctrl_c_keeps_what_is_done(options: list[str], tmp_path: Path) -> None:
    for number in range(200):
        photograph(tmp_path / "in" / f"{number:03}.png", 200, 200, seed=number)
    command = [sys.executable, "-m", "inverters", "predict", str(tmp_path / "in"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = tmp_path / "out" / "000" / "metrics.json"
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert 1 <= len(rows) < 200
    assert not list((tmp_path / "out").rglob("*.part"))


def test_tiles_change_nothing_and_are_reported(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = photograph(tmp_path / "photo.png", 150, 70)
    whole, tiled = tmp_path / "out" / "photo" / "relu2_1.png", tmp_path / "tiled" / "photo" / "relu2_1.png"
    assert invert("predict", source, *options).status == 0
    status, _, err = invert("predict", source, *options, "--tile", "64", "--output-dir", tmp_path / "tiled")
    assert status == 0
    assert err.splitlines() == [f"photo.png: tile {number} of 6" for number in range(1, 7)]
    assert whole.read_bytes() == tiled.read_bytes()


def feature_distance(reconstruction: Path, source: Path, layer: str) -> float:
    """Relative distance of the features of two image files, computed on images padded as the search pads them."""
    encoder = VGGEncoder([layer], weights="random")
    preds, target = (
        encoder(pad_to_multiple(load_image(file)[None], INPUT_MULTIPLE))[layer] for file in (reconstruction, source)
    )
    return float((preds - target).norm() / target.norm())


def test_refine_goes_on_from_the_decoder(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = photograph(tmp_path / "photo.png")
    written = tmp_path / "out" / "photo" / "relu2_1.png"
    assert invert("predict", source, *options).status == 0
    before = feature_distance(written, source, "relu2_1")
    assert invert("predict", source, *options, "--refine", "5").status == 0
    assert Image.open(written).size == (40, 33)
    assert feature_distance(written, source, "relu2_1") < 0.8 * before


@pytest.mark.parametrize("init", ["noise", "grey", "decoder"])
@pytest.mark.parametrize("preset", ["gatys", "mahendran-vedaldi"])
def test_optimize(invert: Run, options: list[str], tmp_path: Path, init: str, preset: str) -> None:
    source = photograph(tmp_path / "photo.png")
    search = ["--layer", "relu2_1", "--init", init, "--preset", preset]
    written = tmp_path / "out" / "photo" / "relu2_1.png"
    status, out, err = invert("optimize", source, *options, *search, "--iterations", "20")
    assert status == 0
    (started, _, before), (ended, _, after) = (line.split() for line in err.splitlines())
    assert (started, ended) == ("0/20", "20/20")
    assert float(after) < float(before)
    assert Image.open(written).size == (40, 33)
    metrics = json.loads((written.parent / "metrics.json").read_text())
    assert list(metrics["layers"]) == ["relu2_1"]
    assert str(written.parent / "depth.png") in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--layer", "relu9_1"], 1, "error: unknown layer of vgg19 'relu9_1'"),
        (["--layer", "relu1_1,relu2_1"], 1, "error: --layer takes one layer, not 'relu1_1,relu2_1'"),
        (["--layer", "relu1_1", "--preset", "gaty"], 1, "error: unknown preset 'gaty': did you mean 'gatys'?"),
        (["--layer", "relu1_1", "--init", "gray"], 1, "error: unknown initial image 'gray': did you mean 'grey'?"),
        (["--layer", "relu4_1", "--init", "decoder"], 1, "error: no decoder for relu4_1 under"),
        (["--layer", "relu1_1", "--iterations", "0"], 2, "--iterations"),
    ],
)
def test_mistakes_of_optimize(
    invert: Run, options: list[str], tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    got, _, err = invert("optimize", photograph(tmp_path / "photo.png"), *options, *arguments)
    assert got == status
    assert message in err
    assert status == 2 or len(err.splitlines()) == 1


def test_ctrl_c_keeps_the_best_so_far(options: list[str], tmp_path: Path) -> None:
    source = photograph(tmp_path / "photo.png", 96, 96)
    command = [sys.executable, "-m", "inverters", "optimize", str(source), *options]
    process = subprocess.Popen(
        [*command, "--layer", "relu2_1", "--iterations", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert lines[1].startswith("20/100000")
    assert process.returncode == 130
    assert "Traceback" not in err
    assert (tmp_path / "out" / "photo" / "relu2_1.png").exists()
    assert "interrupted: the best image so far" in err
