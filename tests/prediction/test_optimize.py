"""`invert optimize`, and `invert predict` with `--methods` and `--refine`, through the command line."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import publish_tiny
from PIL import Image
from predictions import Run, files, metrics, picture

from inverters.data.images import load_image, pad_to_multiple
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import INPUT_MULTIPLE
from inverters.inversion import methods


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`."""
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]


def feature_distance(reconstruction: Path, source: Path, layer: str) -> float:
    """Relative distance of the features of two image files, computed on images padded as the optimisation pads them."""
    encoder = VGGEncoder([layer], weights="random")
    preds, target = (
        encoder(pad_to_multiple(load_image(file)[None], INPUT_MULTIPLE), [layer])[layer]
        for file in (reconstruction, source)
    )
    return float((preds - target).norm() / target.norm())


def test_refine_goes_on_from_the_decoder(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    folder = tmp_path / "out" / "photo"
    status, _, err = invert("predict", source, *options, "--methods", "decoder,decoder+lbfgs", "--iterations", "5")
    assert status == 0 and "photo.png: relu2_1 0/5  objective" in err
    before = feature_distance(folder / "relu2_1.png", source, "relu2_1")
    refined = folder / "relu2_1-decoder+lbfgs.png"
    assert Image.open(refined).size == (40, 33)
    assert feature_distance(refined, source, "relu2_1") < 0.8 * before
    assert invert("predict", source, *options[:-1], tmp_path / "short", "--refine", "5").status == 0
    assert files(tmp_path / "short" / "photo") == [
        "depth.png",
        "metrics.json",
        "relu1_1-decoder+lbfgs.png",
        "relu2_1-decoder+lbfgs.png",
    ]
    assert (tmp_path / "short" / "photo" / refined.name).read_bytes() == refined.read_bytes()


@pytest.mark.parametrize(
    ("init", "preset", "name"),
    [
        ("noise", "gatys", "lbfgs"),
        ("grey", "gatys", "lbfgs-grey"),
        ("decoder", "gatys", "decoder+lbfgs"),
        ("noise", "mahendran-vedaldi", "mahendran-vedaldi"),
        ("grey", "mahendran-vedaldi", "mahendran-vedaldi-grey"),
        ("decoder", "mahendran-vedaldi", "decoder+mahendran-vedaldi"),
    ],
)
def test_optimize(invert: Run, options: list[str], tmp_path: Path, init: str, preset: str, name: str) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    how = ["--layer", "relu2_1", "--init", init, "--preset", preset, "--seed", "7"]
    status, out, err = invert("optimize", source, *options, *how, "--iterations", "20")
    assert status == 0
    (_, _, started, _, before), (_, _, ended, _, after) = (line.split() for line in err.splitlines())
    assert (started, ended) == ("0/20", "20/20")
    assert float(after) < float(before)
    assert files(folder) == ["depth.png", "metrics.json", f"relu2_1-{name}.png"]
    assert Image.open(folder / f"relu2_1-{name}.png").size == (40, 33)
    made = metrics(folder)["methods"][name]
    assert list(made["layers"]) == ["relu2_1"]
    assert (made["init"], made["preset"], made["iterations"]) == (init, preset, 20)
    assert made["seed"] == (7 if init == "noise" else None)
    assert made["objective"] == ("pixel" if init == "decoder" else None)
    assert str(folder / "depth.png") in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--layer", "relu9_1"], 1, "error: unknown layer of vgg19 'relu9_1'"),
        (["--layer", "relu1_1,relu2_1"], 1, "error: --layer takes one layer, not 'relu1_1,relu2_1'"),
        (["--layer", "relu1_1", "--preset", "gaty"], 1, "error: unknown preset 'gaty': did you mean 'gatys'?"),
        (
            ["--layer", "relu1_1", "--init", "decodr"],
            1,
            "error: unknown initial image 'decodr': did you mean 'decoder'? Valid: noise, grey, decoder\n",
        ),
        (["--layer", "relu1_1", "--seed", "9" * 30], 2, "--seed"),
        (["--layer", "relu4_1", "--init", "decoder"], 1, "error: no decoder for relu4_1 under"),
        (["--layer", "relu1_1", "--iterations", "0"], 2, "--iterations"),
    ],
)
def test_mistakes_of_optimize(
    invert: Run, options: list[str], tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    got, _, err = invert("optimize", picture(tmp_path / "photo.png"), *options, *arguments)
    assert got == status
    assert message in err
    assert status == 2 or len(err.splitlines()) == 1


def test_ctrl_c_keeps_the_best_so_far(options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png", 96, 96)
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
    assert lines[1].startswith("photo.png: relu2_1 20/100000")
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted: the best image so far" in err
    folder = tmp_path / "out" / "photo"
    assert (folder / "relu2_1-lbfgs.png").exists()
    assert metrics(folder)["methods"]["lbfgs"]["interrupted"] is True


def test_methods_side_by_side(invert: Run, options: list[str], tmp_path: Path) -> None:
    publish_tiny(Path(options[3]), ("relu2_1",), objective="perceptual")
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    names = ["lbfgs", "perceptual", "decoder"]
    status, out, err = invert("predict", source, *options, "--methods", ",".join(names), "--iterations", "2")
    assert status == 0
    assert err.startswith("perceptual has no decoder for relu1_1: left out there\n")
    assert files(folder) == [
        "depth.png",
        "metrics.json",
        *("relu1_1-lbfgs.png", "relu1_1.png", "relu2_1-lbfgs.png", "relu2_1-perceptual.png", "relu2_1.png"),
    ]
    methods = metrics(folder)["methods"]
    assert list(methods) == names
    assert list(methods["perceptual"]["layers"]) == ["relu2_1"]
    assert [methods[name]["iterations"] for name in names] == [2, None, None]
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == 2 * names  # PSNR, then feature errors
    assert [bool(row[2].strip()) for row in rows] == 2 * [True, False, True]
    for name, row in zip(names, rows[:3], strict=True):
        assert float(row[3]) == pytest.approx(methods[name]["layers"]["relu2_1"]["psnr"], abs=0.06)


def test_optimisation_needs_no_decoders(invert: Run, tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    (tmp_path / "none").mkdir()
    options = ["--weights", "random", "--checkpoints", tmp_path / "none", "--output-dir", tmp_path / "out"]
    lbfgs = ["--methods", "lbfgs", "--iterations", "1", "--layers", "conv2_1"]
    assert invert("predict", source, *options, *lbfgs).status == 0
    status, _, err = invert("predict", source, *options, "--methods", "lbfgs,decoder", "--iterations", "1")
    assert (status, err.count("\n")) == (1, 1)
    assert "no decoder for vgg19" in err


def test_a_large_photograph_is_decoded_but_not_optimised(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "MAX_OPTIMIZED", 64 * 64)
    monkeypatch.setattr("inverters.inversion.inverter.MAX_WHOLE", 64 * 64)
    monkeypatch.setattr("inverters.inversion.inverter.TILE", 64)
    large, small = picture(tmp_path / "large.png", 150, 70), picture(tmp_path / "small.png")
    status, _, err = invert("predict", large, small, *options, "--size", "full", "--refine", "1")
    assert status == 1
    problems = [line for line in err.splitlines() if line.startswith("error:")]
    assert problems == [
        f"error: {large}: an image of 150×70 pixels is too large for optimisation: "
        "shrink its shorter side to 43 with --size"
    ]
    assert not (tmp_path / "out" / "large").exists() and (tmp_path / "out" / "small").exists()
    status, _, err = invert("predict", large, *options, "--size", "full")
    assert (status, err.count("tile")) == (0, 6)


def test_ctrl_c_in_an_optimisation_of_predict_keeps_nothing_of_it(options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png", 96, 96)
    command = [sys.executable, "-m", "inverters", "predict", str(source), *options, "--refine", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not list((tmp_path / "out").rglob("*.*"))
