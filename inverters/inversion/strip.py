"""Strips: one picture that shows an image beside its reconstructions from every layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from inverters.data.images import to_pillow

LAYERS_PER_ROW = 5  # at most; the original stands before them
LARGEST_TILE = 320  # pixels of the longer side, as everything below
SMALLEST_TILE = 160  # smaller images are enlarged
THINNEST_TILE = 8  # of the shorter side
WIDE = 2  # an image wider than this many times its height has larger tiles, and fewer in a row
MARGIN = 16
FONT_SIZE, SMALL_FONT_SIZE = 24, 18
GREY = "#606060"
ZOOM, AMPLIFICATION = 4, 10

Size = tuple[int, int]  # width and height
ORIGINAL = "original"

Region = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class StripRow:
    """The reconstructions of one method.

    Attributes:
        title: stands above them.
        images: by layer, each 3×H×W in [0, 1].
        psnr: in dB, by layer.
        classes: what a classifier sees, by layer, and under `ORIGINAL` in the original.
        errors: what is said about the feature error, by layer.
    """

    title: str
    images: Mapping[str, Tensor]
    psnr: Mapping[str, float]
    classes: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


def depth_strip(
    original: Tensor, rows: Sequence[StripRow], layers: Sequence[str], header: Sequence[str] = (), details: bool = False
) -> Image.Image:
    """Draw the original, then its reconstruction from each layer, with the layer's name and PSNR under it.

    Args:
        original: 3×H×W in [0, 1], as the reconstructions.
        rows: of one method each, which may lack layers.
        layers: the columns.
        header: the parts of a line above the strip.
        details: whether to add a row of crops, enlarged four times, of the place where the reconstructions err most
            (the same for all, framed in the original), and a row of the absolute difference times ten.
    """
    original = original.cpu()
    size = _tile_size(original)
    most = LAYERS_PER_ROW if size[0] <= LARGEST_TILE else 2
    per_row = max(1, math.ceil(len(layers) / math.ceil(len(layers) / most))) if layers else 1
    crop = _largest_error(original, [image for row in rows for image in row.images.values()]) if details else None
    lines: list[_Line] = []
    for start in range(0, max(1, len(layers)), per_row):
        for row in rows:
            some = layers[start : start + per_row]
            if not layers or any(layer in row.images for layer in some):
                lines += _lines(original, row, some, size, crop, gap=MARGIN if lines and crop else 0)
    return _draw(lines, size, header)


@dataclass(frozen=True)
class _Cell:
    """A tile with a caption under it; without a tile the caption takes its place."""

    tile: Image.Image | None
    caption: str = ""


@dataclass(frozen=True)
class _Line:
    """Cells side by side, by column, under a title and a gap of so many pixels."""

    cells: Mapping[int, _Cell]
    title: str = ""
    gap: int = 0


def _lines(
    original: Tensor, row: StripRow, layers: Sequence[str], size: Size, crop: Region | None, gap: int
) -> list[_Line]:
    """The lines of one method at some layers."""
    images = {column: row.images[layer].cpu() for column, layer in enumerate(layers, 1) if layer in row.images}
    first = _resized(original, size)
    if crop:
        _frame(first, crop, original)
    pictures = {0: _Cell(first, "\n".join(filter(None, (ORIGINAL, row.classes.get(ORIGINAL)))))}
    for column, layer in enumerate(layers, 1):
        if column in images:
            caption = (layer, _decibels(row.psnr[layer]), row.errors.get(layer), row.classes.get(layer))
            pictures[column] = _Cell(_resized(images[column], size), "\n".join(filter(None, caption)))
        else:
            pictures[column] = _Cell(None, "no decoder")
    lines = [_Line(pictures, row.title, gap)]
    if crop:
        crops = {column: _Cell(_resized(image[:, *crop], size)) for column, image in images.items()}
        lines.append(_Line({0: _Cell(_resized(original[:, *crop], size), f"x {ZOOM}"), **crops}))
        errors = {column: (image - original).abs() * AMPLIFICATION for column, image in images.items()}
        tiles = {column: _Cell(_resized(error, size)) for column, error in errors.items()}
        lines.append(_Line({0: _Cell(None, f"difference\nx {AMPLIFICATION}"), **tiles}))
    return lines


def _draw(lines: Sequence[_Line], size: Size, header: Sequence[str]) -> Image.Image:
    font, small = (ImageFont.load_default(points) for points in (FONT_SIZE, SMALL_FONT_SIZE))
    width, height = size
    captions = [cell.caption for line in lines for cell in line.cells.values()]
    column_width = max(width, *(_text_size(caption, font)[0] for caption in captions)) + MARGIN
    columns = 1 + max(column for line in lines for column in line.cells)
    titles = max(_text_size(text, small)[0] for text in (*header, *(line.title for line in lines), ""))
    total = MARGIN + max(columns * column_width, titles + MARGIN)
    heading = _wrapped(header, total - 2 * MARGIN, small)

    top, tops = MARGIN + _text_size(heading, small)[1] + (MARGIN if heading else 0), []
    for line in lines:
        top += line.gap + (_text_size(line.title, small)[1] + MARGIN // 2 if line.title else 0)
        tops.append(top)
        under = max(_text_size(cell.caption, font)[1] if cell.tile else 0 for cell in line.cells.values())
        beside = max(0 if cell.tile else _text_size(cell.caption, font)[1] for cell in line.cells.values())
        top += max(height + (under + MARGIN // 2 if under else 0), beside) + MARGIN

    strip = Image.new("RGB", (total, top), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, MARGIN), heading, GREY, small)
    for line, top in zip(lines, tops, strict=True):
        draw.text((MARGIN, top - MARGIN // 2), line.title, GREY, small, anchor="ld")
        for column, cell in line.cells.items():
            middle = column * column_width + (column_width + MARGIN) // 2
            if cell.tile:
                strip.paste(cell.tile, (middle - width // 2, top))
                below = (middle, top + height + MARGIN // 2)
                draw.text(below, cell.caption, "black", font, anchor="ma", align="center")
            else:
                centre = top + max(height, _text_size(cell.caption, font)[1]) // 2
                draw.text((middle, centre), cell.caption, "black", font, anchor="mm", align="center")
    return strip


def _tile_size(image: Tensor) -> Size:
    """The size to look at an image of this size: a large one shrunk, a tiny one enlarged by a whole factor."""
    height, width = image.shape[-2:]
    longer = max(height, width)
    if longer < SMALLEST_TILE:
        scale = float(math.ceil(SMALLEST_TILE / longer))
    else:
        scale = min(1, (2 if width > WIDE * height else 1) * LARGEST_TILE / longer)
    return max(THINNEST_TILE, round(width * scale)), max(THINNEST_TILE, round(height * scale))


def _resized(image: Tensor, size: Size) -> Image.Image:
    """A tile; pixels that are enlarged much become visible squares."""
    tile = to_pillow(image)
    if tile.size == size:
        return tile
    factor = max(size[0] / tile.width, size[1] / tile.height)
    smooth = Image.Resampling.LANCZOS if factor <= 1 else Image.Resampling.BICUBIC
    return tile.resize(size, Image.Resampling.NEAREST if factor > 3 else smooth)


def _largest_error(original: Tensor, reconstructions: Sequence[Tensor]) -> Region:
    """The part of a quarter of both sides in which the reconstructions, each equally weighted, err most."""
    error = torch.zeros(original.shape[1:], dtype=torch.float64)
    for image in reconstructions:
        one = (image.cpu() - original).abs().mean(0, dtype=torch.float64)
        error += one / one.mean().clamp_min(1e-12)
    height, width = (max(1, side // ZOOM) for side in error.shape)
    sums = F.pad(error.cumsum(0).cumsum(1), (1, 0, 1, 0))  # of everything above and left of a pixel
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = divmod(int(windows.argmax()), windows.shape[1])
    return slice(top, top + height), slice(left, left + width)


def _frame(tile: Image.Image, region: Region, image: Tensor) -> None:
    """Draw the outline of a region of `image` on its tile, visible on bright and on dark."""
    (top, bottom), (left, right) = (
        (round(part.start * shown / side), round(part.stop * shown / side) - 1)
        for part, shown, side in zip(region, (tile.height, tile.width), image.shape[1:], strict=True)
    )
    draw = ImageDraw.Draw(tile)
    for inset, colour in enumerate(("black", "white", "black")):
        if right - left > 2 * inset and bottom - top > 2 * inset:
            draw.rectangle((left + inset, top + inset, right - inset, bottom - inset), outline=colour)


def _wrapped(parts: Sequence[str], width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The parts, joined by dots, over as many lines as this width takes."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}  ·  {part}" if lines else part
        if lines and _text_size(longer, font)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return "\n".join(lines)


def _text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Size:
    """Of the text, with the space that letters with ascenders and descenders take."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    lines = text.count("\n") + 1 if text else 0
    tall = draw.textbbox((0, 0), "\n".join(["Ag"] * lines), font)[3] if lines else 0
    return math.ceil(draw.textbbox((0, 0), text, font)[2]), math.ceil(tall)


def _decibels(psnr: float) -> str:
    """`31.4 dB`. Pillow's font has no ∞."""
    return "lossless" if math.isinf(psnr) else f"{psnr:.1f} dB"
