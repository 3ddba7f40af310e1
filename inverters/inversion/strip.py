"""Pictures for people."""

import math
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from inverters.data.images import to_pillow

COLUMNS = 6  # at most
LARGEST_TILE = 320  # pixels of the longer side, as everything below
SMALLEST_TILE = 160
MARGIN = 16
FONT_SIZE = 24


def depth_strip(original: Tensor, reconstructions: Mapping[str, Tensor], scores: Mapping[str, float]) -> Image.Image:
    """The original, then its reconstruction from each layer, with the layer's name and PSNR under it.

    `original` and the reconstructions are 3×H×W in [0, 1], `scores` are in dB.
    """
    captions = ["original", *(f"{name}\n{_decibels(scores[name])}" for name in reconstructions)]
    tiles = [_tile(image) for image in (original, *reconstructions.values())]
    rows = math.ceil(len(tiles) / COLUMNS)
    columns = math.ceil(len(tiles) / rows)

    font = ImageFont.load_default(FONT_SIZE)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    text_width = max(math.ceil(draw.textbbox((0, 0), caption, font)[2]) for caption in captions)
    text_height = math.ceil(draw.textbbox((0, 0), "Ag\nAg", font)[3])
    cell_width = max(tiles[0].width, text_width) + MARGIN
    cell_height = tiles[0].height + text_height + 2 * MARGIN

    strip = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height), "white")
    draw = ImageDraw.Draw(strip)
    for index, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(index, columns)
        middle = column * cell_width + (cell_width + MARGIN) // 2
        top = row * cell_height + MARGIN
        strip.paste(tile, (middle - tile.width // 2, top))
        draw.text((middle, top + tile.height + MARGIN // 2), caption, "black", font, anchor="ma", align="center")
    return strip


def _tile(image: Tensor) -> Image.Image:
    """The image at a size to look at: a large one shrunk, a tiny one with its pixels as visible squares."""
    tile = to_pillow(image)
    longer = max(tile.size)
    if longer < SMALLEST_TILE:
        return tile.resize([side * math.ceil(SMALLEST_TILE / longer) for side in tile.size], Image.Resampling.NEAREST)
    tile.thumbnail((LARGEST_TILE, LARGEST_TILE), Image.Resampling.LANCZOS)
    return tile


def _decibels(score: float) -> str:
    """`31.4 dB`. Pillow's font has no ∞."""
    return "lossless" if math.isinf(score) else f"{score:.1f} dB"
