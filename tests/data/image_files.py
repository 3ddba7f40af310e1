"""Images, image files and data sets for several tests."""

import io
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image
from torch import Tensor

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photograph(height: int = 24, width: int = 32) -> Image.Image:
    """Draw smooth colours with some noise."""
    ramp = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 40, width)[:, None] + np.array([0, 5, 10])
    noise = np.random.default_rng(0).integers(0, 5, (height, width, 3))
    return Image.fromarray((ramp + noise).astype(np.uint8))


def pixel(image: Tensor, row: int, column: int) -> tuple[int, ...]:
    return tuple(image[:, row, column].mul(255).round().int().tolist())


def encoded(value: int | np.ndarray, size: tuple[int, int] = (40, 36)) -> bytes:
    """Encode pixels, or a single grey value, as a PNG."""
    pixels = np.full((*size, 3), value, np.uint8) if isinstance(value, int) else value
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def greys(folder: Path, count: int, first: int = 1) -> Path:
    """Write images of the grey values first, first + 1, … into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for value in range(first, first + count):
        (folder / f"{value:03}.png").write_bytes(encoded(value))
    return folder


def parquet(path: Path, cells: list[bytes | None]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = datasets.Dataset.from_dict(
        {"photo": [cell and {"bytes": cell, "path": None} for cell in cells], "label": list(range(len(cells)))},
        features=datasets.Features({"photo": datasets.Image(), "label": datasets.Value("int64")}),
    )
    rows.to_parquet(str(path))
    return path


def tar(path: Path, values: list[int]) -> Path:
    with tarfile.open(path, "w") as archive:
        for value in values:
            entry = tarfile.TarInfo(f"{value}.png")
            content = encoded(value)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
