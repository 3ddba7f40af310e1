"""`inverters.invert` and `Inversion`."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import inverters
from inverters.data.images import load_image, to_pillow
from inverters.errors import CheckpointError, ImageError, OutputError, UnknownNameError

LAYERS = ["relu1_1", "relu2_1"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def invert(tiny_checkpoints: Path) -> Callable[..., inverters.Inversion]:
    def run(image: object, *arguments: object, **keywords: object) -> inverters.Inversion:
        quick = {"weights": "random", "checkpoints": tiny_checkpoints, "device": "cpu"}
        return inverters.invert(image, *arguments, **{**quick, **keywords})  # type: ignore[arg-type]

    return run


Invert = Callable[..., inverters.Inversion]


@pytest.mark.parametrize(
    "given",
    [
        str,
        Path,
        Image.open,
        lambda path: np.asarray(Image.open(path)),
        load_image,
        lambda path: load_image(path)[None],
        lambda path: (load_image(path) * 255).round().byte(),
        lambda path: path.read_bytes(),
    ],
    ids=["str", "path", "PIL", "array", "tensor", "batch", "uint8 tensor", "bytes"],
)
def test_every_kind_of_image(invert: Invert, photo: Path, given: Callable[[Path], object]) -> None:
    result = invert(given(photo))
    expected = inverters.load_inverter(weights="random", checkpoints=photo.parent / "tiny-checkpoints")
    assert list(result) == LAYERS and len(result) == 2
    assert isinstance(result, Mapping)
    assert torch.equal(result.image, load_image(photo))
    for layer, one in expected.reconstruct(load_image(photo)[None]).items():
        assert torch.equal(result[layer], one[0])
        assert result[layer].shape == (3, 33, 40)
        preds, target = (np.asarray(to_pillow(image)) for image in (result[layer], result.image))
        assert result.psnr[layer] == pytest.approx(peak_signal_noise_ratio(target, preds), abs=1e-3)
    assert "relu4_2" not in result
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.png", "no such file or folder: nowhere.png"),
        (np.zeros((3, 5, 5), np.uint8), r"H×W×3 or H×W×4, not 3×5×5"),
        (torch.full((3, 4, 4), 255.0), "divide them by 255"),
        (3, "an image must be a path"),
    ],
)
def test_what_is_no_image(invert: Invert, image: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        invert(image)


def test_options(invert: Invert, photo: Path) -> None:
    assert list(invert(photo, "relu2_1")) == ["relu2_1"]
    assert list(invert(photo, ["relu2_1", "relu1_1"])) == LAYERS
    small = invert(photo, size=16)
    assert small["relu1_1"].shape == (3, 16, 19)
    assert small.provenance.size == 16
    assert invert(photo, size=None).provenance.size is None
    with pytest.raises(UnknownNameError, match="did you mean 'relu2_1'"):
        invert(photo, "relu2_11")
    with pytest.raises(CheckpointError, match="no decoder for relu4_2"):
        invert(photo, "relu4_2")
    with pytest.raises(UnknownNameError, match="unknown objective 'pixels'"):
        invert(photo, objective="pixels")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_one_inverter_for_many_images(photo: Path, tmp_path: Path) -> None:
    inverter = inverters.load_inverter(weights="random", checkpoints=tmp_path / "tiny-checkpoints")
    result = inverters.invert(photo, inverter=inverter)
    assert list(result) == LAYERS
    assert torch.equal(inverters.invert(photo, "relu2_1", inverter=inverter)["relu2_1"], result["relu2_1"])
    assert list(inverters.invert(photo, "all", inverter=inverter)) == LAYERS
    with pytest.raises(UnknownNameError, match=r"unknown layer of this inverter 'relu4_2'.*Valid: relu1_1, relu2_1"):
        inverters.invert(photo, "relu4_2", inverter=inverter)


def test_a_notebook_shows_the_strip(invert: Invert, photo: Path) -> None:
    result = invert(photo)
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.format == "PNG"
    assert np.array_equal(shown, result.strip())
    assert result.strip(details=True).height > 2 * shown.height
    assert repr(result).startswith(f"<Inversion of {photo} by decoder: relu1_1 ")


def test_save(invert: Invert, photo: Path, tmp_path: Path) -> None:
    result, folder = invert(photo), tmp_path / "a" / "b"
    result.save(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["depth.png", "metrics.json", "relu1_1.png", "relu2_1.png"]
    assert np.array_equal(Image.open(folder / "depth.png"), result.strip())
    assert np.array_equal(Image.open(folder / "relu2_1.png"), to_pillow(result["relu2_1"]))
    values = json.loads((folder / "metrics.json").read_text())
    assert (values["image"], values["width"], values["height"]) == (str(photo), 40, 33)
    assert values["methods"]["decoder"]["layers"]["relu2_1"]["psnr"] == pytest.approx(result.psnr["relu2_1"], abs=1e-3)
    result.save(folder, details=True)
    assert np.array_equal(Image.open(folder / "depth.png"), result.strip(details=True))


def test_save_replaces_other_results_only_if_told_to(invert: Invert, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    invert(photo).save(folder)
    other = invert(photo, "relu2_1")
    with pytest.raises(OutputError, match=r"layers \(relu1_1,relu2_1, now relu2_1\)\. Pass overwrite=True or another"):
        other.save(folder)
    other.save(folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["depth.png", "metrics.json", "relu2_1.png"]


def test_save_of_an_image_without_a_name(invert: Invert, photo: Path, tmp_path: Path) -> None:
    result = invert(load_image(photo))
    result.save(tmp_path / "results")
    assert json.loads((tmp_path / "results" / "metrics.json").read_text())["image"] is None
    result.save(tmp_path / "results")
    assert repr(result).startswith("<Inversion of an image by decoder: ")
