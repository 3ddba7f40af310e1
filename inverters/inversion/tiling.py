"""Tiles of a large image, with the surroundings that their pixels depend on."""

from dataclasses import dataclass

Region = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Tile:
    """A part of an image: its `pixels`, and the `surroundings` that they depend on, which include them."""

    pixels: Region
    surroundings: Region

    def near(self, halo: int, stride: int) -> "Tile":
        """The part of the features of the surroundings that suffices to decode the tile's pixels.

        Args:
            halo: of the decoder, in pixels.
            stride: of the layer, in pixels; the tile's bounds are multiples of it.

        Returns:
            As `surroundings`, rows and columns of the features; as `pixels`, those of the tile in the decoded image.
        """
        pixels, positions = [], []
        for inner, outer in zip(self.pixels, self.surroundings, strict=True):
            first = max(outer.start, inner.start - halo) // stride * stride
            last = min(outer.stop, -(-(inner.stop + halo) // stride) * stride)
            positions.append(slice((first - outer.start) // stride, (last - outer.start) // stride))
            pixels.append(slice(inner.start - first, inner.stop - first))
        return Tile((pixels[0], pixels[1]), (positions[0], positions[1]))


def split(height: int, width: int, side: int, margin: int) -> list[Tile]:
    """Squares of `side` pixels that cover an image row by row, smaller at its end, each with `margin` pixels around.

    No surroundings reach beyond the image.
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
