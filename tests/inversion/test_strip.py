"""Strips: what stands where, at several sizes and shapes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from inverters.inversion.strip import (
    FONT_SIZE,
    LARGEST_TILE,
    LAYERS_PER_ROW,
    MARGIN,
    SMALLEST_TILE,
    StripRow,
    depth_strip,
)


def one_row(
    original: Tensor,
    images: Mapping[str, Tensor],
    psnr: Mapping[str, float],
    header: Sequence[str] = (),
    details: bool = False,
) -> Image.Image:
    return depth_strip(original, [StripRow("", images, psnr)], list(images), header, details)


def names(count: int) -> list[str]:
    return [f"relu{number}_2" for number in range(1, count + 1)]


def strip_of(height: int, width: int, count: int, psnr: float = 31.42, **options: bool) -> Image.Image:
    """A strip of black images, so that everything dark is a tile or text."""
    black = torch.zeros(3, height, width)
    return one_row(black, dict.fromkeys(names(count), black), dict.fromkeys(names(count), psnr), **options)


def dark(strip: Image.Image) -> np.ndarray:
    return np.array(strip.convert("L")) < 128


def runs(mask: np.ndarray) -> list[int]:
    """The lengths of the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize(
    ("height", "width", "tile"),
    [
        (512, 512, (320, 320)),
        (300, 600, (160, 320)),
        (150, 600, (150, 600)),
        (500, 2000, (160, 640)),
        (600, 300, (320, 160)),
        (200, 250, (200, 250)),
        (20, 30, (120, 180)),
        (1, 1, (160, 160)),
        (1, 5000, (8, 640)),
        (5000, 1, (320, 8)),
    ],
)
def test_tiles_are_shrunk_and_tiny_ones_enlarged(height: int, width: int, tile: tuple[int, int]) -> None:
    mask = dark(strip_of(height, width, 0))
    (wide,) = {run for run in runs(mask[MARGIN]) if run > 2}
    column = np.flatnonzero(mask[MARGIN])[wide // 2]
    assert (runs(mask[:, column])[0], wide) == tile


def test_a_tiny_image_keeps_its_pixels_as_squares() -> None:
    checkers = (torch.arange(4)[:, None] + torch.arange(4)).remainder(2).float().expand(3, 4, 4)
    tile = np.array(one_row(checkers, {}, {}))[MARGIN:][:SMALLEST_TILE, MARGIN:][:, :SMALLEST_TILE]
    assert np.array_equal(tile, np.kron(checkers[0].numpy(), np.full((40, 40), 255))[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(
    ("layers", "columns", "rows"), [(0, 1, 1), (1, 2, 1), (5, 6, 1), (6, 4, 2), (10, 6, 2), (11, 5, 3), (16, 5, 4)]
)
def test_layers_wrap_into_even_rows_that_begin_with_the_original(layers: int, columns: int, rows: int) -> None:
    mask = dark(strip_of(200, 200, layers))
    assert columns <= LAYERS_PER_ROW + 1
    assert runs(mask[MARGIN]) == [200] * columns
    assert [run for run in runs(mask[:, MARGIN]) if run == 200] == [200] * rows


def test_panoramas_have_two_layers_in_a_row() -> None:
    mask = dark(strip_of(100, 400, 5))
    assert runs(mask[MARGIN]) == [400] * 3
    assert [run for run in runs(mask[:, MARGIN]) if run == 100] == [100] * 3


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize(("height", "width"), [(400, 40), (200, 200), (40, 400), (8, 8), (8, 400), (300, 1)])
def test_text_is_neither_cut_nor_overlaps(height: int, width: int, details: bool) -> None:
    """Blank columns part neighbouring captions, and a blank border surrounds the strip."""
    strip = strip_of(height, width, 11, details=details)
    mask = dark(strip)
    assert not mask[:8].any() and not mask[-8:].any() and not mask[:, :8].any() and not mask[:, -8:].any()
    columns = 3 if width > 2 * height else 5
    cell = (strip.width - MARGIN) // columns
    gaps = [mask[:, MARGIN // 2 + column * cell] for column in range(columns + 1)]
    assert not np.any(gaps)


def test_a_caption_of_any_length_fits() -> None:
    name = "a_layer_with_a_name_that_is_much_wider_than_its_tile"
    black = torch.zeros(3, 8, 8)
    strip = one_row(black, {name: black}, {name: 1.0})
    text_width = ImageFont.load_default(FONT_SIZE).getlength(name)
    assert text_width > LARGEST_TILE
    assert strip.width >= 2 * text_width + 3 * MARGIN


def caption(psnr: float) -> np.ndarray:
    """The pixels under the second of two tiles."""
    return dark(strip_of(200, 200, 1, psnr))[MARGIN + 200 :, 200 + MARGIN :]


def test_the_psnr_stands_under_the_tile_to_a_tenth() -> None:
    assert np.array_equal(caption(31.42), caption(31.4))
    assert not np.array_equal(caption(31.42), caption(31.5))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are drawn."""
    texts: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _self, _xy, text, *_, **__: texts.append(text))
    return texts


def test_an_infinite_psnr_reads_as_a_word(drawn: list[str]) -> None:
    strip_of(200, 200, 1, math.inf)
    assert [text for text in drawn if text] == ["original", "relu1_2\nlossless"]


def test_the_header_wraps_to_the_width(drawn: list[str]) -> None:
    black = torch.zeros(3, 200, 60)
    parts = ["vgg19", "original weights", "up to 512 pixels", "pixel decoder"]
    narrow = one_row(black, {}, {}, parts)
    assert drawn[0] == "\n".join(parts)
    assert narrow.width > ImageFont.load_default(18).getlength(parts[1])
    drawn.clear()
    one_row(black, dict.fromkeys(names(5), black), dict.fromkeys(names(5), 1.0), parts)
    assert drawn[0] == "  ·  ".join(parts)


def plain(*colour: float, side: int = 200) -> Tensor:
    return torch.tensor(colour).view(3, 1, 1).expand(3, side, side)


def test_reconstructions_keep_their_order_and_colours() -> None:
    reconstructions = {"relu2_2": plain(0, 1, 0), "relu1_2": plain(0, 0, 1)}
    strip = one_row(plain(1, 0, 0), reconstructions, {"relu1_2": 1.0, "relu2_2": 2.0})
    middles = [strip.getpixel((MARGIN + 100 + column * (200 + MARGIN), MARGIN + 100)) for column in range(3)]
    assert middles == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_methods_have_a_row_each_and_their_titles(drawn: list[str]) -> None:
    red, green, blue = plain(1, 0, 0), plain(0, 1, 0), plain(0, 0, 1)
    rows = [
        StripRow("first", {"relu2_2": green, "relu1_2": green}, {"relu2_2": 1.0, "relu1_2": 2.0}),
        StripRow("second", {"relu2_2": blue}, {"relu2_2": 3.0}),
    ]
    strip = depth_strip(red, rows, ["relu1_2", "relu2_2"])
    pixels = np.array(strip)[:, MARGIN + 100 :: 200 + MARGIN][:, :3]
    colours = [[tuple(pixel) for pixel in line] for line in pixels]
    white = (255, 255, 255)
    assert colours.count([(255, 0, 0), (0, 255, 0), (0, 255, 0)]) == 200
    assert colours.count([(255, 0, 0), white, (0, 0, 255)]) == 200
    assert [text for text in drawn if text] == [
        *("first", "original", "relu1_2\n2.0 dB", "relu2_2\n1.0 dB"),
        *("second", "original", "no decoder", "relu2_2\n3.0 dB"),
    ]


def test_details_show_the_place_of_the_largest_error_and_the_difference(drawn: list[str]) -> None:
    original = plain(0.5, 0.5, 0.5, side=320).clone()
    slightly_off = original + 0.02
    wrong = slightly_off.clone()
    wrong[:, 200:280, 40:120] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    layers = {"good": slightly_off, "bad": wrong}
    strip = np.array(one_row(original, layers, dict.fromkeys(layers, 20.0), details=True))
    assert [text for text in drawn if text] == [
        *("original", "good\n20.0 dB", "bad\n20.0 dB", "x 4", "difference\nx 10")
    ]
    bad = strip[:, 2 * (320 + MARGIN) + MARGIN :][:, :320]
    red = (bad == (255, 0, 0)).all(axis=2)
    assert red[MARGIN:][:320].sum() == 80 * 80  # the picture
    rows = np.flatnonzero(red.sum(axis=1) == 320)
    assert len(rows) == 320  # the crop is all red
    difference = strip[rows[-1] + MARGIN + 1 :]
    good, bad = (difference[:, column * (320 + MARGIN) + MARGIN :][:, :320] for column in (1, 2))
    (top,) = np.flatnonzero((good == 51).all(axis=(1, 2)))[:1]
    assert (good[top : top + 320] == 51).all()  # ten times 0.02
    assert (bad[top : top + 320] == (255, 255, 255)).all(axis=2).sum() == 80 * 80
    frame = strip[MARGIN:][:320, MARGIN:][:, :320] != 128
    assert np.array_equal(np.flatnonzero(frame.any(axis=(1, 2)))[[0, -1]], [200, 279])
    assert np.array_equal(np.flatnonzero(frame.any(axis=(0, 2)))[[0, -1]], [40, 119])


def test_details_of_exact_reconstructions() -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    strip = one_row(image, {"relu1_1": image}, {"relu1_1": math.inf}, details=True)
    assert strip.height > 3 * SMALLEST_TILE


def test_what_is_said_about_feature_errors_stands_under_a_reconstruction() -> None:
    black = torch.zeros(3, 160, 160)
    images, psnr = dict.fromkeys(names(2), black), dict.fromkeys(names(2), 31.4)
    plain = depth_strip(black, [StripRow("", images, psnr)], names(2))
    errors = {"relu2_2": "feature error 0.84\nworse than 97 % of\nphotographs"}
    strip = depth_strip(black, [StripRow("", images, psnr, errors=errors)], names(2))
    assert strip.height > plain.height + 2 * FONT_SIZE
    third = strip.width // 3
    below = dark(strip)[plain.height :]
    assert below[:, 2 * third :].any() and not below[:, : 2 * third].any()
    assert not dark(strip)[:, -MARGIN // 2 :].any()  # the text ends before the edge
