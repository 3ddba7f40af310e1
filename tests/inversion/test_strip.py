import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from inverters.inversion.strip import COLUMNS, FONT_SIZE, LARGEST_TILE, MARGIN, SMALLEST_TILE, depth_strip


def strip_of(height: int, width: int, count: int, score: float = 31.42) -> Image.Image:
    """A strip of black images, so that everything dark is a tile or text."""
    names = [f"relu{number}_2" for number in range(1, count + 1)]
    black = torch.zeros(3, height, width)
    return depth_strip(black, dict.fromkeys(names, black), dict.fromkeys(names, score))


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
        (600, 300, (320, 160)),
        (200, 250, (200, 250)),
        (20, 30, (120, 180)),
        (1, 1, (160, 160)),
        (1, 5000, (1, 320)),
    ],
)
def test_tiles_are_shrunk_and_tiny_ones_enlarged(height: int, width: int, tile: tuple[int, int]) -> None:
    mask = dark(strip_of(height, width, 1))
    assert runs(mask[MARGIN])[0] == tile[1]
    assert runs(mask[:, MARGIN + tile[1] // 2])[0] == tile[0]


def test_a_tiny_image_keeps_its_pixels_as_squares() -> None:
    checkers = (torch.arange(4)[:, None] + torch.arange(4)).remainder(2).float().expand(3, 4, 4)
    tile = np.array(depth_strip(checkers, {}, {}))[MARGIN:][:SMALLEST_TILE, MARGIN:][:, :SMALLEST_TILE]
    assert np.array_equal(tile, np.kron(checkers[0].numpy(), np.full((40, 40), 255))[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(("layers", "columns", "rows"), [(0, 1, 1), (5, 6, 1), (6, 4, 2), (11, 6, 2), (16, 6, 3)])
def test_tiles_wrap_into_even_rows_of_at_most_six(layers: int, columns: int, rows: int) -> None:
    mask = dark(strip_of(200, 200, layers))
    assert columns <= COLUMNS
    assert runs(mask[MARGIN]) == [200] * columns
    assert [run for run in runs(mask[:, MARGIN]) if run == 200] == [200] * rows


@pytest.mark.parametrize(("height", "width"), [(400, 40), (200, 200), (40, 400), (8, 8)])
def test_text_is_neither_cut_nor_overlaps(height: int, width: int) -> None:
    """Blank columns part neighbouring captions, and a blank border surrounds the strip."""
    strip = strip_of(height, width, 11)
    mask = dark(strip)
    assert not mask[:8].any() and not mask[-8:].any() and not mask[:, :8].any() and not mask[:, -8:].any()
    cell = (strip.width - MARGIN) // COLUMNS
    gaps = [mask[:, MARGIN // 2 + column * cell] for column in range(COLUMNS + 1)]
    assert not np.any(gaps)


def test_a_caption_of_any_length_fits() -> None:
    name = "a_layer_with_a_name_that_is_much_wider_than_its_tile"
    black = torch.zeros(3, 8, 8)
    strip = depth_strip(black, {name: black}, {name: 1.0})
    text_width = ImageFont.load_default(FONT_SIZE).getlength(name)
    assert text_width > LARGEST_TILE
    assert strip.width >= 2 * text_width + 3 * MARGIN


def caption(score: float) -> np.ndarray:
    """The pixels under the second of two tiles."""
    return dark(strip_of(200, 200, 1, score))[MARGIN + 200 :, 200 + MARGIN :]


def test_the_score_stands_under_the_tile_to_a_tenth() -> None:
    assert np.array_equal(caption(31.42), caption(31.4))
    assert not np.array_equal(caption(31.42), caption(31.5))


def test_an_infinite_score_reads_as_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _self, _xy, text, *_, **__: drawn.append(text))
    strip_of(200, 200, 1, math.inf)
    assert drawn == ["original", "relu1_2\nlossless"]


def test_reconstructions_keep_their_order_and_colours() -> None:
    def plain(*colour: float) -> Tensor:
        return torch.tensor(colour).view(3, 1, 1).expand(3, 200, 200)

    reconstructions = {"relu2_2": plain(0, 1, 0), "relu1_2": plain(0, 0, 1)}
    strip = depth_strip(plain(1, 0, 0), reconstructions, {"relu1_2": 1.0, "relu2_2": 2.0})
    middles = [strip.getpixel((MARGIN + 100 + column * (200 + MARGIN), MARGIN + 100)) for column in range(3)]
    assert middles == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
