"""The photographs that an evaluation takes: centre squares of one size, held in memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from inverters.data.images import resize_shorter_side, round_to_8_bits
from inverters.data.sources import IMAGE, open_images, read_image
from inverters.errors import DataError, ImageError


class Photograph(NamedTuple):
    """A row of the data set, a name for people, and 3×S×S pixels in [0, 1], of 8 bits each."""

    row: int
    name: str
    pixels: Tensor


def load_photographs(
    data: str, split: str, column: str, size: int, limit: int | None
) -> tuple[list[Photograph], list[str]]:
    """The first `limit` images of `data` that can be used, and what is wrong with those passed over on the way.

    The shorter side is shrunk to `size` pixels and the centre square cut out. An image that is smaller or that cannot
    be read is passed over.

    Raises:
        DataError: there is no such data, or no image in it can be used.
    """
    found: list[Photograph] = []
    skipped = []
    for number, row in enumerate(open_images([data], split, column)):
        if len(found) == limit:
            break
        path = (row[IMAGE] or {}).get("path")
        name = Path(path).name if path else f"row {number}"
        try:
            image = resize_shorter_side(read_image(row), size)
        except ImageError as error:
            skipped.append(f"{name}: {error}")
            continue
        height, width = image.shape[1:]
        if min(height, width) < size:
            skipped.append(f"{name}: {width}×{height} pixels, smaller than {size}×{size}")
            continue
        top, left = (height - size) // 2, (width - size) // 2
        found.append(Photograph(number, name, round_to_8_bits(image[:, top : top + size, left : left + size])))
    if not found:
        raise DataError(f"no image of {data} can be used. {skipped[0]}" if skipped else f"there is no image in {data}")
    return found, skipped


def digest(photographs: Sequence[Photograph]) -> str:
    """SHA-256 over the pixels."""
    sha256 = hashlib.sha256()
    for photograph in photographs:
        sha256.update(photograph.pixels.numpy().data)
    return sha256.hexdigest()
