"""The pages of folders of decoders."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome, photographs, publish_tiny
from PIL import Image

from inverters.data.images import load_image
from inverters.decoders.card import read_card
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.inversion.error_quantiles import error_quantiles
from inverters.inversion.loading import load_inverter
from inverters.sharing import model_card
from inverters.sharing.model_card import encoder_page, index_page

Run = Callable[..., Outcome]
SHIPPED = Path(__file__).parents[2] / "checkpoints"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def rows(page: Path) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.read_text().splitlines()
        if line.startswith("| `")
    ]


def change(card: Path, **changes: object) -> None:
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def test_the_page_says_what_the_cards_say(invert: Run, photograph: Path, tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders")
    folder = root / "vgg19-random"
    for layer, psnr in (("relu1_1", 33.333), ("relu2_1", 22.222)):
        data = {"batch_size": 8, "crop_size": 64}
        change(folder / layer / "config.json", steps=500, data=data, metrics={"psnr": psnr})
    status, out, err = invert("cards", photograph, "--weights", "random", "--checkpoints", root)
    assert (status, err) == (0, "")
    assert out == f"wrote {folder / 'README.md'}\n"
    # The 3×3 kernels of relu2_1: 128→4, two of 4→4 and 4→12 channels, and as many biases.
    parameters = (9 * (128 * 4 + 2 * 4 * 4 + 4 * 12) + 4 + 2 * 4 + 12) / 1e6
    first, second = rows(folder / "README.md")
    assert first[:2] == ["`relu1_1`", "33.33 dB"]
    assert second[:2] == ["`relu2_1`", "22.22 dB"]
    assert second[3:] == [
        f"{parameters:.2f} M",
        "10 px",
        "8 px",
        "stages [[4, 1]], log_compress False",
        "4,000 of 64 px",
    ]
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", (folder / "README.md").read_text())
    assert Image.open(folder / picture).width > 400


def test_a_card_without_metric_and_data_leaves_its_cells_empty(invert: Run, photograph: Path, tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders", ("relu1_1",))
    change(root / "vgg19-random" / "relu1_1" / "config.json", metrics={})
    status, _, err = invert("cards", photograph, "--weights", "random", "--checkpoints", root)
    assert (status, err) == (0, "")
    ((_, psnr, *_, crops),) = rows(root / "vgg19-random" / "README.md")
    assert (psnr, crops) == ("", "")


@pytest.mark.usefixtures("datasets_cache")
def test_data_completes_cards_without_quantiles(invert: Run, photograph: Path, tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders")
    folder = root / "vgg19-random"
    known = [0.1, 0.2, 0.9]
    change(folder / "relu1_1" / "config.json", error_quantiles=known)
    images = photographs(tmp_path / "images", 3)
    (images / "none.png").write_text("no image")
    arguments = ("cards", photograph, "--weights", "random", "--checkpoints", root, "--data", images)
    status, out, err = invert(*arguments)
    assert (status, err) == (0, "")
    assert out == f"measured {folder / 'relu2_1'}\nwrote {folder / 'README.md'}\n"
    cards = {layer: read_card(folder / layer) for layer in ("relu1_1", "relu2_1")}
    assert list(cards["relu1_1"].error_quantiles or ()) == known
    inverter = load_inverter("relu2_1", weights="random", checkpoints=root, device="cpu")
    expected = error_quantiles(inverter, [load_image(images / f"{number}.png")[None] for number in range(3)])
    assert cards["relu2_1"].error_quantiles == expected["relu2_1"]
    assert invert(*arguments).out == f"wrote {folder / 'README.md'}\n"


@pytest.mark.usefixtures("datasets_cache")
def test_data_without_a_readable_image(invert: Run, photograph: Path, tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders", ("relu1_1",))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "none.png").write_text("no image")
    options = ("--weights", "random", "--checkpoints", root, "--data", tmp_path / "images")
    status, _, err = invert("cards", photograph, *options)
    assert (status, err) == (1, f"error: none of the 1 images in {tmp_path / 'images'} can be read\n")


def test_the_base_of_corrections_is_described(tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders", ("relu2_1",), corrections=2)
    page = encoder_page(root, "vgg19", "random", "photo")
    assert "| base conv (stages [[4, 1]], log_compress False), corrections 2, width 4, depth 1 |" in page
    assert "| 24 px |" in page  # of the base 8; each correction adds 2 × 2 and the 4 of the layer


def test_a_second_encoder_keeps_the_page_of_the_first(invert: Run, photograph: Path, tmp_path: Path) -> None:
    root = tmp_path / "decoders"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "README.md").touch()
    for weights in ("random", "random-1"):
        publish_tiny(root, weights=weights)
        assert invert("cards", photograph, "--weights", weights, "--checkpoints", root).status == 0
    pages = [root / f"vgg19-{weights}" / "README.md" for weights in ("random", "random-1")]
    assert [page.read_text().splitlines()[0] for page in pages] == [
        "# Decoders of vgg19-random",
        "# Decoders of vgg19-random-1",
    ]
    index = (root / "README.md").read_text()
    links = re.findall(r"^## \[.*\]\((.*)\)$", index, re.M)
    assert [root / link for link in links] == pages
    assert index.count("Decoders: 2 pixel.") == 2
    pictures = re.findall(r"!\[.*\]\((.*)\)", index)
    assert len(pictures) == 2
    assert all((root / picture).is_file() for picture in pictures)


def test_nothing_is_written_into_an_installed_package(
    invert: Run, photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "inverters"
    root = publish_tiny(package / "checkpoints")
    monkeypatch.setattr("inverters.files.PACKAGE", package)
    monkeypatch.setattr(model_card, "PACKAGE", package)
    before = sorted(root.rglob("*"))
    for options in ([], ["--checkpoints", root]):
        status, _, err = invert("cards", photograph, "--weights", "random", *options)
        assert status == 1
        assert err == f"error: {root} belongs to the installed package: copy it, and name the copy with --checkpoints\n"
    assert sorted(root.rglob("*")) == before
    shutil.copytree(root, tmp_path / "copy")
    assert invert("cards", photograph, "--weights", "random", "--checkpoints", tmp_path / "copy").status == 0


def test_the_shipped_pages_are_up_to_date() -> None:
    """After a change of their text, `make cards` writes them anew."""
    page = SHIPPED / "vgg19-original" / "README.md"
    assert page.read_text() == encoder_page(SHIPPED, DEFAULT_ENCODER, None, "astronaut")
    assert (SHIPPED / "README.md").read_text() == index_page(SHIPPED)


def test_a_folder_without_decoders(invert: Run, photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    status, _, err = invert("cards", photograph, "--checkpoints", tmp_path / "empty")
    assert status == 1
    assert err.startswith("error: no decoders under") and len(err.splitlines()) == 1
    assert not (tmp_path / "empty" / "README.md").exists()


@pytest.mark.parametrize("name", ["absent.png", "text.png"])
def test_a_photograph_that_is_none(invert: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.png").write_text("no image")
    root = publish_tiny(tmp_path / "decoders")
    status, _, err = invert("cards", tmp_path / name, "--weights", "random", "--checkpoints", root)
    assert status == 1
    assert err.startswith("error: ") and name in err and len(err.splitlines()) == 1
