"""The page of a folder of decoders."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome, publish_tiny
from PIL import Image

Run = Callable[..., Outcome]


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def test_the_page_says_what_the_cards_say(invert: Run, photograph: Path, tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders")
    for layer, psnr in (("relu1_1", 33.333), ("relu2_1", 22.222)):
        card = root / "vgg19-random" / layer / "config.json"
        values = json.loads(card.read_text())
        card.write_text(
            json.dumps(values | {"steps": 500, "data": {"batch_size": 8, "crop_size": 64}, "metrics": {"psnr": psnr}})
        )
    status, out, err = invert("cards", photograph, "--weights", "random", "--checkpoints", root)
    assert (status, err) == (0, "")
    assert out == f"wrote {root / 'README.md'}\n"
    page = (root / "README.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    # The 3×3 kernels of relu2_1: 128→4, two of 4→4 and 4→12 channels, and as many biases.
    parameters = (9 * (128 * 4 + 2 * 4 * 4 + 4 * 12) + 4 + 2 * 4 + 12) / 1e6
    assert [row[:2] for row in rows] == [["`relu1_1`", "33.33 dB"], ["`relu2_1`", "22.22 dB"]]
    assert rows[1][3:6] == [f"{parameters:.2f} M", "10 px", "8 px"]
    assert rows[1][6:] == ["stages [[4, 1]]", "4,000 of 64 px"]
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", page)
    assert Image.open(root / picture).width > 400


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
    assert err.startswith("error: cannot read") and len(err.splitlines()) == 1
