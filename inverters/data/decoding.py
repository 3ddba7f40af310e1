"""Decoding with Pillow: images of any format and mode as RGB tensors in [0, 1]."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, COMPRESSION, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT
from torch import Tensor

from inverters.data.paths import image_formats
from inverters.errors import ImageError, first_line

MAX_SIDE = 65_535  # pixels, as in JPEG. Padding would multiply a longer, thin image beyond the memory.


def decode(data: bytes, name: str) -> Tensor:
    """Decode the bytes of a file, called `name` in messages, to 3×H×W; see `load_image`.

    The bytes say of which format they are, whatever the suffix of the file. It must be one of `image_formats`.

    Raises:
        ImageError: it cannot be decoded, or its header declares a side of more than `MAX_SIDE` pixels, or more pixels
            than Pillow allows (179 million: twice its `MAX_IMAGE_PIXELS`).
    """
    if not data:
        raise ImageError(f"cannot read {name}: the file is empty")
    with _one_line_errors(name), Image.open(BytesIO(data), formats=image_formats()) as image:
        return _to_tensor(image)


def from_pillow(image: Image.Image) -> Tensor:
    """Convert a PIL image to 3×H×W, as `decode` does; its errors are those."""
    with _one_line_errors("PIL image"):
        return _to_tensor(image)


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    """Turn what Pillow raises into ImageErrors, and silence its warnings of large images and damaged metadata."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except ImageError as error:
        raise ImageError(f"cannot read {name}: {error}") from None
    except UnidentifiedImageError as error:
        raise ImageError(f"cannot read {name}: not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"cannot read {name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: its pixels do not fit into memory") from error
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise ImageError(f"cannot read {name}: damaged or unsupported image: {first_line(error)}") from error


def _to_tensor(image: Image.Image) -> Tensor:
    if max(image.size) > MAX_SIDE:
        raise ImageError(f"it has {image.width}×{image.height} pixels, but a side may have {MAX_SIDE} at most")
    tiff_tags: Any = getattr(image, "tag_v2", {})
    if 2 in tiff_tags.get(SAMPLEFORMAT, ()):
        raise ImageError("its samples are signed integers: convert them to unsigned ones of 8 or 16 bits")
    if image.mode == "F" and tiff_tags and tiff_tags.prefix == b"MM" and tiff_tags.get(COMPRESSION) != 1:
        raise ImageError("Pillow confuses the byte order of compressed big-endian floats: save it uncompressed")
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # Pillow's `convert` would clip these to 255
        return _deep_grey(image, tiff_tags).expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous().float().div_(255)


def _upright(image: Image.Image) -> Image.Image:
    """Rotate and flip by the EXIF orientation; a damaged EXIF block is ignored."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # of metadata: the pixels are decoded by now
        return image


def _deep_grey(image: Image.Image, tiff_tags: Mapping[int, Any]) -> Tensor:
    """Scale a grey image of more than 8 bits to [0, 1], H×W; see `load_image`."""
    values = np.array(image)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0, posinf=0, neginf=0).clip(min=0)
        white = max(1.0, float(values.max()))
    else:
        (bits,) = tiff_tags.get(BITSPERSAMPLE, (16,))
        values = values.view(np.uint32) if bits == 32 else values  # Pillow has signed 32-bit integers only
        white = 2.0**bits - 1
        if values.min() < 0 or values.max() > white:
            raise ImageError(f"its integers range from {values.min()} to {values.max()}: convert them to 16 bits")
    grey = torch.from_numpy(values.astype(np.float32)) / white
    return 1 - grey if tiff_tags.get(PHOTOMETRIC_INTERPRETATION) == 0 else grey  # 0: MinIsWhite
