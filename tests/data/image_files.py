"""Images to encode, which several of these tests need."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photograph(height: int = 24, width: int = 32) -> Image.Image:
    """Smooth colours and some noise, as a photograph has."""
    ramp = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 40, width)[:, None] + np.array([0, 5, 10])
    noise = np.random.default_rng(0).integers(0, 5, (height, width, 3))
    return Image.fromarray((ramp + noise).astype(np.uint8))


def pixel(image: Tensor, row: int, column: int) -> tuple[int, ...]:
    return tuple(image[:, row, column].mul(255).round().int().tolist())
