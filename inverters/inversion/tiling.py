"""Tiles of a large image, each with the surroundings that its pixels depend on."""

from dataclasses import dataclass
from typing import NamedTuple

Region = tuple[slice, slice]  # rows and columns


class Window(NamedTuple):
    """The part of a tile's features that is decoded: the `features`, and the `pixels` of the tile in the result."""

    features: Region
    pixels: Region


@dataclass(frozen=True)
class Tile:
    """A part of an image: its `pixels`, and the `surroundings` that they depend on, which include them."""

    pixels: Region
    surroundings: Region

    def window(self, halo: int, stride: int) -> Window:
        """The smallest part of the features of `surroundings` that the tile can be decoded from.

        Args:
            halo: of the decoder, in pixels.
            stride: of the layer, in pixels; the bounds of the tile are multiples of it.
        """
        features, pixels = [], []
        for inner, outer in zip(self.pixels, self.surroundings, strict=True):
            first = max(outer.start, inner.start - halo) // stride * stride
            last = min(outer.stop, -(-(inner.stop + halo) // stride) * stride)
            features.append(slice((first - outer.start) // stride, (last - outer.start) // stride))
            pixels.append(slice(inner.start - first, inner.stop - first))
        return Window((features[0], features[1]), (pixels[0], pixels[1]))


def split(height: int, width: int, side: int, margin: int) -> list[Tile]:
    """Split an image into squares of `side` pixels, row by row, smaller at its right and bottom.

    Their surroundings are `margin` pixels on each side, as far as the image goes.
    """
    return [
        Tile((rows, columns), (_widened(rows, margin, height), _widened(columns, margin, width)))
        for rows in _pieces(height, side)
        for columns in _pieces(width, side)
    ]


def _pieces(length: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, length)) for start in range(0, length, side)]


def _widened(piece: slice, margin: int, length: int) -> slice:
    return slice(max(0, piece.start - margin), min(length, piece.stop + margin))
