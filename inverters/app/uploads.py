"""Uploaded images: what is accepted, and how it is made fit for the page."""

from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from inverters.data.images import load_image, resize_shorter_side
from inverters.data.paths import image_formats
from inverters.errors import ImageError

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
MAX_RATIO = 4  # of the longer side to the shorter one
SMALLEST_SIDE = 16  # pixels; SSIM needs 11


def load_upload(path: str | None, size: int) -> Tensor:
    """Load an uploaded file as a 3×H×W image in [0, 1] whose shorter side has at most `size` pixels.

    Messages never name the file, whose path is the server's.

    Raises:
        ImageError: there is no file, or it is too large, too small, too thin, or no image.
    """
    if path is None:
        raise ImageError("there is no image: upload one, paste it, or take it with the camera")
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        raise ImageError("the image is no longer on the server: upload it again") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file is too large: {MAX_BYTES // 1_000_000} MB at most")
    width, height = _declared_size(data)
    if width * height > MAX_PIXELS:
        raise ImageError(f"the image has {width}×{height} pixels: {MAX_PIXELS // 1_000_000} million at most")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageError(f"the image has {width}×{height} pixels: a side may be {MAX_RATIO} times the other at most")
    image = resize_shorter_side(load_image(data), size)
    if min(image.shape[1:]) < SMALLEST_SIDE:
        raise ImageError(f"the image has {width}×{height} pixels: each side needs {SMALLEST_SIDE} at least")
    return image


def _declared_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header of an image file, before its pixels are decoded."""
    try:
        with Image.open(BytesIO(data), formats=image_formats()) as image:
            return image.size
    except Exception:  # Pillow's parsers raise nearly anything
        raise ImageError("the file is not an image that can be read: take a PNG, JPEG or WebP") from None
