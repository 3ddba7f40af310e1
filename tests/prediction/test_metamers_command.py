"""`invert metamers`, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predictions import Run, files, picture
from skimage.metrics import peak_signal_noise_ratio


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`, few steps."""
    made = ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]
    return [*made, "--layer", "relu2_1", "--iterations", "5"]


def test_metamers_are_written_with_their_distance(invert: Run, options: list[str], tmp_path: Path) -> None:
    source, folder = picture(tmp_path / "photo.png", 40, 33), tmp_path / "out" / "photo" / "relu2_1"
    document = json.loads(invert("metamers", source, *options, "--json").out)
    assert files(folder) == ["metamer-1.png", "metamer-2.png", "metamers.json", "metamers.png"]
    saved = json.loads((folder / "metamers.json").read_text())
    assert document == {**saved, "folder": str(folder)}
    first, second = (np.asarray(Image.open(folder / f"metamer-{number}.png")) for number in (1, 2))
    assert first.shape == (33, 40, 3)
    assert saved["distance"] == pytest.approx(peak_signal_noise_ratio(first, second), abs=0.01)
    photograph = np.asarray(Image.open(source))
    expected = [peak_signal_noise_ratio(photograph, metamer) for metamer in (first, second)]
    found = [saved["pictures"][f"metamer {number}"]["psnr"] for number in (1, 2)]
    assert found == pytest.approx(expected, abs=0.01)
    assert max(saved["errors"]) <= saved["largest_error"]


def test_metamers_are_not_overwritten_unasked(invert: Run, options: list[str], tmp_path: Path) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo" / "relu2_1"
    status, out, _ = invert("metamers", source, *options)
    assert status == 0 and f"wrote {folder / 'metamers.png'}" in out
    status, _, err = invert("metamers", source, *options)
    message = f"error: {folder} holds metamers already. Use --overwrite or another --output-dir\n"
    assert status == 1 and err.endswith(message)
    assert invert("metamers", source, *options, "--overwrite").status == 0


def test_one_layer_only(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    status, _, err = invert("metamers", source, *options[:-4], "--layer", "relu1_1,relu2_1")
    assert (status, err) == (1, "error: --layer takes one layer, not 'relu1_1,relu2_1'\n")
