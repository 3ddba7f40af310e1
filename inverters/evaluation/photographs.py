"""The photographs of an evaluation: centre squares of one size, held in memory."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from inverters.data.images import resize_shorter_side, round_to_8_bits
from inverters.data.sources import image_name, is_hub_id, open_images, read_image, read_rows
from inverters.errors import DataError, ImageError


class Photograph(NamedTuple):
    """An 8-bit photograph.

    Attributes:
        row: its number in the data set.
        name: its file name, or its row where it has none.
        pixels: 3×S×S in [0, 1].
    """

    row: int
    name: str
    pixels: Tensor


def load_photographs(
    data: str, split: str, column: str, size: int, limit: int | None
) -> tuple[list[Photograph], list[str]]:
    """Load the first `limit` usable images of `data`, or all of them.

    The shorter side is shrunk to `size` pixels and the centre square cut out. Images that are smaller or unreadable are
    skipped. With a limit, a data set of the hub is streamed, so that only the needed rows are downloaded.

    Returns:
        The photographs, and for each image that was skipped a line with the reason.

    Raises:
        DataError: `data` does not exist, or none of its images can be used.
    """
    found: list[Photograph] = []
    skipped = []
    rows = open_images([data], split, column, streaming=limit is not None and is_hub_id(data))
    for number, row in enumerate(read_rows(rows, data)):
        name = image_name(row, number)
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
        if len(found) == limit:
            break
    if not found:
        raise DataError(f"no image of {data} can be used. {skipped[0]}" if skipped else f"{data} has no images")
    return found, skipped


def digest(photographs: Sequence[Photograph]) -> str:
    """Return the SHA-256 of all pixels."""
    sha256 = hashlib.sha256()
    for photograph in photographs:
        sha256.update(photograph.pixels.numpy().data)
    return sha256.hexdigest()
