"""`invert edit`, through the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import publish_tiny
from PIL import Image
from predictions import Run, files, metrics, picture

from inverters.data.images import load_image
from inverters.inversion import edits
from inverters.inversion.loading import load_inverter
from inverters.metrics import peak_signal_noise_ratio


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`."""
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]


def test_it_writes_the_plain_and_the_edited_reconstruction(
    invert: Run, options: list[str], tmp_path: Path, tiny_checkpoints: Path
) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    some = ["--layer", "relu2_1", "--edit", "drop=0.5", "--edit", "noise=0.3", "--seed", "7"]
    status, out, err = invert("edit", source, *options, *some)
    assert (status, err) == (0, "")
    assert out.endswith(f"wrote {folder / 'depth.png'}\n")
    assert files(folder) == ["depth.png", "metrics.json", "relu2_1-edited.png", "relu2_1.png"]
    plain, edited = metrics(folder)["methods"].values()
    assert (plain["edits"], plain["seed"]) == ([], None)
    assert (edited["edits"], edited["seed"]) == (["drop=0.5", "noise=0.3"], 7)

    inverter = load_inverter("relu2_1", weights="random", checkpoints=tiny_checkpoints)
    image = load_image(source)[None]
    features = edits.apply(inverter.encode(image), ["drop=0.5", "noise=0.3"], inverter, (33, 40), seed=7)
    expected = inverter.decode(features, (33, 40))["relu2_1"]
    torch.testing.assert_close(load_image(folder / "relu2_1-edited.png")[None], expected, atol=0.5 / 255 + 1e-6, rtol=0)
    psnr = float(peak_signal_noise_ratio(expected, image))
    assert edited["layers"]["relu2_1"]["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert invert("predict", source, *options[:-1], tmp_path / "predicted", "--layer", "relu2_1").status == 0
    assert (folder / "relu2_1.png").read_bytes() == (tmp_path / "predicted" / "photo" / "relu2_1.png").read_bytes()


def test_one_layer_is_a_row_and_several_layers_are_two(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png", 160, 160)
    for layers, columns, rows in (("relu2_1", 3, 1), ("relu1_1,relu2_1", 3, 2)):
        assert invert("edit", source, *options, "--layers", layers, "--edit", "binarize", "--overwrite").status == 0
        with Image.open(tmp_path / "out" / "photo" / "depth.png") as strip:
            pixels = np.asarray(strip.convert("L"))
            assert strip.height // 250 == rows
            assert 160 * columns < strip.width < 160 * (columns + 1) + 200
            assert pixels.min() < 50


def test_a_range_of_weights_is_a_row_and_an_animation(invert: Run, options: list[str], tmp_path: Path) -> None:
    source, other = picture(tmp_path / "photo.png"), picture(tmp_path / "other.png", seed=1)
    folder = tmp_path / "out" / "photo"
    some = ["--layers", "relu1_1,relu2_1", "--overwrite", "--edit"]
    assert invert("edit", source, *options, *some, f"mix={other}:0..1:3").status == 0
    pictures = [
        f"{layer}{name}.png" for layer in ("relu1_1", "relu2_1") for name in ("", "-mix-0", "-mix-0.5", "-mix-1")
    ]
    gifs = ["relu1_1-mix.gif", "relu2_1-mix.gif"]
    assert files(folder) == sorted(["depth.png", "metrics.json", *gifs, *pictures])
    assert (folder / "relu2_1.png").read_bytes() == (folder / "relu2_1-mix-0.png").read_bytes()
    assert invert("predict", other, *options).status == 0
    assert (tmp_path / "out" / "other" / "relu2_1.png").read_bytes() == (folder / "relu2_1-mix-1.png").read_bytes()
    with Image.open(folder / "relu2_1-mix.gif") as gif:
        assert (gif.n_frames, gif.size) == (4, (40, 33))  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
    assert [method["edits"] for method in metrics(folder)["methods"].values()] == [
        [],
        *([f"mix={other}:{weight}"] for weight in ("0", "0.5", "1")),
    ]
    assert invert("edit", source, *options, *some, f"mix={other}:0.5").status == 0
    assert files(folder) == sorted(
        ["depth.png", "metrics.json", *(name for name in pictures if not name.endswith(("-0.png", "-1.png")))]
    )


def test_other_edits_are_other_results(invert: Run, options: list[str], tmp_path: Path) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    assert invert("edit", source, *options, "--edit", "drop=0.5").status == 0
    assert invert("edit", source, *options, "--edit", "drop=0.50").status == 0
    for change, difference in (
        (["--edit", "drop=0.3"], "edits (drop=0.5, now drop=0.3)"),
        (["--edit", "drop=0.5", "--seed", "1"], "seed (0, now 1)"),
        (["--edit", "binarize"], "seed (0, now none), edits (drop=0.5, now binarize)"),
    ):
        status, _, err = invert("edit", source, *options, *change)
        assert (status, err.count("\n")) == (1, 1)
        assert f"{folder} holds other results: {difference}. Use --overwrite" in err
    refused = invert("predict", source, *options)
    assert "holds other results: method (decoder, edited, now decoder). Use" in refused.err
    assert invert("predict", source, *options, "--overwrite").status == 0
    assert files(folder) == ["depth.png", "metrics.json", "relu1_1.png", "relu2_1.png"]


def test_edits_of_another_objective(invert: Run, options: list[str], tmp_path: Path) -> None:
    publish_tiny(Path(options[3]), ("relu2_1",), objective="perceptual")
    source = picture(tmp_path / "photo.png")
    assert invert("edit", source, *options, "--objective", "perceptual", "--edit", "top=3").status == 0
    names = ["depth.png", "metrics.json", "relu2_1-perceptual-edited.png", "relu2_1-perceptual.png"]
    assert files(tmp_path / "out" / "photo") == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edit", "dorp=0.5"], "error: unknown edit 'dorp': did you mean 'drop'? Valid: drop, top,"),
        (["--edit", "drop=2"], "error: drop is written drop=P, with a probability from 0 to 1; not 'drop=2'"),
        (["--edit", "channels=64", "--layer", "relu1_1"], "error: channels=64: relu1_1 has the channels 0 to 63"),
        (["--edit", "channels=64"], "error: photo.png: channels=64: relu1_1 has the channels 0 to 63"),
        (["--edit", "keep=0,0,50,33"], "error: photo.png: keep=0,0,50,33: the box reaches beyond the image, which has"),
        (["--edit", "mix=othr.png:0.5"], "error: no such file or folder: othr.png. Did you mean other.png?"),
        (
            ["--edit", "mix=other.png:0.5"],
            "error: photo.png: mix needs images of one shape: other.png has 50×33 pixels",
        ),
        (["--edit", "mix=photo.png:0..1:3", "--edit", "mix=photo.png:0..1:3"], "error: only one mix can have a range"),
        (["--edit", "drop=0.5", "--layers", "relu4_1"], "error: no decoder for relu4_1 under"),
        (["--edit", "drop=0.5", "--layers", "relu9_1"], "error: unknown layer of vgg19 'relu9_1'"),
    ],
)
def test_mistakes_are_one_line(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    picture(tmp_path / "photo.png")
    picture(tmp_path / "other.png", 50, 33)
    monkeypatch.chdir(tmp_path)
    status, out, err = invert("edit", "photo.png", *options, *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(message)
    assert not (tmp_path / "out" / "photo").exists()


def test_an_edit_must_be_named(invert: Run, options: list[str], tmp_path: Path) -> None:
    assert invert("edit", picture(tmp_path / "photo.png"), *options).status == 2


def test_an_image_too_large_is_told_the_size_that_fits(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inverters.inversion.editing.MAX_WHOLE", 64 * 64)
    large = picture(tmp_path / "large.png", 150, 70)
    status, _, err = invert("edit", large, *options, "--size", "full", "--edit", "binarize")
    message = "an image of 150×70 pixels is too large for edits: shrink its shorter side to 43 with --size"
    assert (status, err) == (1, f"error: {large}: {message}\n")
