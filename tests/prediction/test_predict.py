"""`invert predict`, through the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from predictions import Run, files, metrics, picture
from skimage.metrics import peak_signal_noise_ratio

from inverters.data.images import load_image
from inverters.inversion.loading import load_inverter


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`."""
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]


def test_one_image(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    status, out, err = invert("predict", source, *options)
    folder = tmp_path / "out" / "photo"
    assert (status, err) == (0, "")
    assert files(folder) == ["depth.png", "metrics.json", "relu1_1.png", "relu2_1.png"]
    assert not (tmp_path / "out" / "metrics.csv").exists()
    assert "relu1_1" in out and str(folder / "depth.png") in out

    values = metrics(folder)
    assert values["image"] == str(source)
    assert (values["width"], values["height"]) == (40, 33)
    made = values["methods"]["decoder"]
    assert (made["encoder"], made["weights"], made["objective"], made["size"]) == ("vgg19", "random", "pixel", 512)
    assert made["seconds"] > 0
    original = np.asarray(Image.open(source))
    for layer in ("relu1_1", "relu2_1"):
        written = np.asarray(Image.open(folder / f"{layer}.png"))
        assert written.shape == original.shape
        expected = peak_signal_noise_ratio(original, written)
        assert made["layers"][layer]["psnr"] == pytest.approx(expected, abs=0.01)
        assert f"{expected:.1f}" in out


def test_the_png_is_what_the_inverter_gives(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    invert("predict", source, *options, "--layers", "relu2_1")
    inverter = load_inverter(["relu2_1"], weights="random", checkpoints=options[3])
    expected = inverter.reconstruct(load_image(source)[None])["relu2_1"][0]
    written = load_image(tmp_path / "out" / "photo" / "relu2_1.png")
    assert (written - expected).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 31), (64, 32), (97, 13)])
def test_any_size(invert: Run, options: list[str], tmp_path: Path, width: int, height: int) -> None:
    source = picture(tmp_path / "photo.png", width, height)
    assert invert("predict", source, *options).status == 0
    assert Image.open(tmp_path / "out" / "photo" / "relu2_1.png").size == (width, height)


@pytest.mark.parametrize(
    ("size", "expected"), [("16", (32, 16)), ("40", (80, 40)), ("512", (80, 40)), ("full", (80, 40))]
)
def test_size_is_the_shorter_side_and_never_enlarges(
    invert: Run, options: list[str], tmp_path: Path, size: str, expected: tuple[int, int]
) -> None:
    invert("predict", picture(tmp_path / "photo.png", 80, 40), *options, "--size", size)
    assert Image.open(tmp_path / "out" / "photo" / "relu1_1.png").size == expected


def test_a_folder_and_equal_stems(invert: Run, options: list[str], tmp_path: Path) -> None:
    for number, name in enumerate(["a/photo.png", "b/photo.png", "b/Photo.bmp", "photo-2.png"]):
        picture(tmp_path / "in" / name, seed=number)
    status, out, _ = invert("predict", tmp_path / "in", *options)
    assert status == 0
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert len(folders) == len({name.casefold() for name in folders}) == 4
    sources = {metrics(tmp_path / "out" / name)["image"] for name in folders}
    assert len(sources) == 4
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert {row["image"] for row in rows} == sources
    mean = np.mean([float(row["psnr_relu1_1"]) for row in rows])
    assert f"{mean:.1f}" in next(line for line in out.splitlines() if "mean" in line)


def test_a_file_named_twice_is_inverted_once(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "in" / "photo.png")
    invert("predict", source, source.parent, *options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo"]


def test_images_come_in_the_order_in_which_they_are_named(invert: Run, options: list[str], tmp_path: Path) -> None:
    named = [picture(tmp_path / name) for name in ("b.png", "a.png", "c.png")]
    status, out, _ = invert("predict", *named, *options)
    assert status == 0
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [row["folder"] for row in rows] == ["b", "a", "c"]
    assert out.index(" b ") < out.index(" a ") < out.index(" c ")


def test_a_bad_file_is_named_and_the_rest_is_done(invert: Run, options: list[str], tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
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
    status, _, err = invert("predict", picture(tmp_path / "photo.png"), *options)
    assert status == 1
    assert err == f"error: cannot create the folder {tmp_path / 'out'}: File exists\n"


def test_exact_reconstruction_is_null_in_json(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inverters.inversion.inverter import Inverter

    monkeypatch.setattr(Inverter, "reconstruct", lambda self, images, *_: dict.fromkeys(self.layers, images))
    status, out, _ = invert("predict", picture(tmp_path / "photo.png"), *options)
    assert status == 0
    assert metrics(tmp_path / "out" / "photo")["methods"]["decoder"]["layers"]["relu1_1"]["psnr"] is None
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
        (["--size", "big"], 2, "'big' is neither a number of pixels from 1 to 1000000 nor 'full'"),
        (["--size", "0"], 2, "'0' is neither a number of pixels"),
        (["--size", "9" * 5000], 2, "'99999999999999999999…' is neither a number of pixels"),
        (["--sise", "3"], 2, "--size"),
        (["--tile", "100"], 2, "100 is not a multiple of 32"),
        (["--tile", "0"], 2, "0 is not a multiple of 32"),
        (["--objective", "pixels"], 1, "error: unknown objective 'pixels': did you mean 'pixel'?"),
        (["--methods", "decodr"], 1, "error: unknown method 'decodr': did you mean 'decoder'?"),
        (["--methods", ","], 2, "--methods names no method"),
        (["--methods", "decoder", "--objective", "linear"], 2, "--methods replaces --objective and --refine"),
        (["--methods", "decoder", "--refine", "3"], 2, "--methods replaces --objective and --refine"),
        (["--methods", "decoder", "--iterations", "3"], 2, "--iterations: none of decoder optimises"),
        (["--iterations", "3"], 2, "--iterations belongs to --methods"),
        (["--details", "--format", "parquet"], 2, "parquet files have no strips"),
    ],
)
def test_mistakes_are_one_line(
    invert: Run, options: list[str], tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    got, _, err = invert("predict", picture(tmp_path / "photo.png"), *options, *arguments)
    assert got == status
    assert message in " ".join(err.replace("│", " ").split())
    if status == 1:
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_traceback_only_with_the_variable(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
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
        picture(tmp_path / "in" / f"{number:03}.png", 200, 200, seed=number)
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
    source = picture(tmp_path / "photo.png", 150, 70)
    whole, tiled = tmp_path / "out" / "photo" / "relu2_1.png", tmp_path / "tiled" / "photo" / "relu2_1.png"
    assert invert("predict", source, *options).status == 0
    status, _, err = invert("predict", source, *options, "--tile", "64", "--output-dir", tmp_path / "tiled")
    assert status == 0
    assert err.splitlines() == [f"photo.png: tile {number} of 6" for number in range(1, 7)]
    assert whole.read_bytes() == tiled.read_bytes()


@pytest.mark.parametrize("path", ["missing.png", "https://example.org/photo.jpg", "-"])
def test_paths_are_checked_before_any_network_is_loaded(
    invert: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    monkeypatch.setattr("inverters.inversion.runner.load_runners", lambda *_: pytest.fail("loads a network"))
    status, out, err = invert("predict", path, "--output-dir", tmp_path / "out")
    assert (status, out) == (1, "")
    assert path in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_images_in_the_output_folder_are_refused(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photos" / "photo.png")
    status, out, err = invert("predict", source.parent, *options[:-1], source.parent)
    assert (status, out) == (1, "")
    assert err == f"error: {source} lies in the output folder ({source.parent}): name another --output-dir\n"
    assert files(source.parent) == ["photo.png"]
    assert invert("predict", source, *options[:-1], source.parent).status == 0
    status, _, err = invert("predict", tmp_path, *options[:-1], source.parent)
    assert (status, err.count("lies in the output folder")) == (1, 1)


@pytest.mark.parametrize("name", ["metrics.csv.png", "Metrics.CSV.png", "...png"])
def test_no_image_takes_the_place_of_the_table(invert: Run, options: list[str], tmp_path: Path, name: str) -> None:
    sources = [picture(tmp_path / "in" / name), picture(tmp_path / "in" / "photo.png")]
    assert invert("predict", *sources, *options).status == 0
    assert files(tmp_path / "out") == sorted(["metrics.csv", "photo", f"{name.removesuffix('.png')}-2"])
    assert (tmp_path / "out" / "metrics.csv").is_file()


def test_one_document_for_scripts(invert: Run, options: list[str], tmp_path: Path) -> None:
    good, bad = picture(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_text("not an image")
    status, out, err = invert("predict", good, bad, tmp_path / "missing.png", *options, "--json")
    document = json.loads(out)
    assert status == 1 and len(err.splitlines()) == 2
    assert (document["inverted"], document["existing"], document["failed"]) == (1, 0, 2)
    assert document["output_dir"] == str(tmp_path / "out")
    first, second, third = document["images"]
    saved = metrics(tmp_path / "out" / "good")
    assert saved.pop("sha256").keys() == {"image", "depth.png", "relu1_1.png", "relu2_1.png"}
    assert first == {**saved, "folder": str(tmp_path / "out" / "good"), "existing": False}
    assert document["psnr"]["decoder"] == pytest.approx(
        {layer: one["psnr"] for layer, one in first["methods"]["decoder"]["layers"].items()}
    )
    assert second["image"] == str(bad) and "not an image" in second["error"]
    assert third["image"] == str(tmp_path / "missing.png") and "no such file" in third["error"]
    again = json.loads(invert("predict", good, *options, "--json", "--skip-existing").out)
    assert (again["inverted"], again["existing"], again["images"][0]["existing"]) == (0, 1, True)


def test_quiet_prints_nothing_but_errors(invert: Run, options: list[str], tmp_path: Path) -> None:
    good, bad = picture(tmp_path / "good.png", 150, 70), tmp_path / "bad.png"
    assert invert("predict", good, *options, "--quiet", "--tile", "64") == (0, "", "")
    bad.write_text("not an image")
    status, out, err = invert("predict", good, bad, *options, "--quiet")
    assert (status, out) == (1, "")
    assert err == f"error: cannot read {bad}: not an image of a known format\n"


def test_one_process_loads_neither_lightning_nor_datasets(options: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom inverters.cli.main import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        "    print([name for name in ('pytorch_lightning', 'datasets', 'torchmetrics', 'matplotlib', 'pyarrow') "
        "if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, "predict", str(picture(tmp_path / "photo.png")), *options, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_image_that_exhausts_the_memory_is_a_failure(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inverters.inversion.inverter import Inverter

    reconstruct = Inverter.reconstruct

    def exhaust(self: Inverter, images: torch.Tensor, *arguments: object) -> dict[str, torch.Tensor]:
        if images.shape[-1] == 64:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return reconstruct(self, images, *arguments)

    monkeypatch.setattr(Inverter, "reconstruct", exhaust)
    large, small = picture(tmp_path / "large.png", 64), picture(tmp_path / "small.png")
    status, _, err = invert("predict", large, small, *options, "--quiet")
    assert status == 1
    assert err == f"error: {large}: 64×33 pixels take more memory than there is: use a smaller --size or --tile\n"
    assert (tmp_path / "out" / "small" / "metrics.json").exists()


def test_an_error_of_the_program_is_no_failure_of_an_image(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inverters.inversion.inverter import Inverter

    def fail(*_: object) -> None:
        raise RuntimeError("a mistake of the program")

    monkeypatch.setattr(Inverter, "reconstruct", fail)
    with pytest.raises(RuntimeError, match="a mistake of the program"):
        invert("predict", picture(tmp_path / "photo.png"), *options)
