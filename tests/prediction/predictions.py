"""What the tests of `predict` and `optimize` share."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import Outcome
from PIL import Image

Run = Callable[..., Outcome]


def picture(path: Path, width: int = 40, height: int = 33, seed: int = 0) -> Path:
    """A file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "BMP" if path.suffix == ".bmp" else "PNG")
    return path


def metrics(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json`."""
    values: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return values


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, less the seconds, which differ between two runs."""
    rows = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def changes(folder: Path) -> dict[str, int]:
    """When each file was changed."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
