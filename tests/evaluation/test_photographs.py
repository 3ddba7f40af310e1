from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from inverters.data.images import to_pillow
from inverters.errors import DataError
from inverters.evaluation.photographs import load_photographs

pytestmark = pytest.mark.usefixtures("datasets_cache")


class Hub:
    """Stands for `datasets.load_dataset`: a data set of greys 0, 1, …, and a record of what is asked of it."""

    def __init__(self, count: int, small: set[int]) -> None:
        self.count, self.small = count, small
        self.streaming: list[bool] = []
        self.read: list[int] = []

    def rows(self) -> Any:
        for number in range(self.count):
            self.read.append(number)
            side = 8 if number in self.small else 40
            yield {"image": Image.new("RGB", (side, side), (number,) * 3)}

    def load(self, name: str, split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
        assert (name, split) == ("owner/photos", "test")
        self.streaming.append(streaming)
        kind = datasets.IterableDataset if streaming else datasets.Dataset
        return kind.from_generator(self.rows, features=datasets.Features({"image": datasets.Image()}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(count=50, small={1, 3})
    monkeypatch.setattr(datasets, "load_dataset", hub.load)
    return hub


def test_of_a_hub_data_set_only_the_needed_rows_are_read(hub: Hub) -> None:
    photographs, skipped = load_photographs("owner/photos", "test", "image", 32, limit=4)
    assert [(photograph.row, photograph.name) for photograph in photographs] == [(n, f"row {n}") for n in (0, 2, 4, 5)]
    assert [int(photograph.pixels.max() * 255 + 0.5) for photograph in photographs] == [0, 2, 4, 5]
    assert skipped == [f"row {number}: 8×8 pixels, smaller than 32×32" for number in (1, 3)]
    assert hub.streaming == [True]
    assert hub.read == [0, 1, 2, 3, 4, 5]


def test_without_a_limit_a_hub_data_set_is_cached(hub: Hub) -> None:
    photographs, _ = load_photographs("owner/photos", "test", "image", 32, limit=None)
    assert len(photographs) == 48
    assert hub.streaming == [False]


@pytest.mark.usefixtures("hub")
def test_a_hub_data_set_that_breaks_off_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Hub) -> Any:
        yield {"image": Image.new("RGB", (40, 40))}
        raise ConnectionError("the connection broke\nin two")

    monkeypatch.setattr(Hub, "rows", broken)
    with pytest.raises(DataError, match=r"^cannot read owner/photos after row 0: the connection broke$"):
        load_photographs("owner/photos", "test", "image", 32, limit=4)


def test_photographs_are_centre_squares(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ((photograph,), skipped) = load_photographs(str(tmp_path), "test", "image", 40, limit=None)
    assert skipped == []
    assert photograph.name == "a.png"
    assert np.array_equal(to_pillow(photograph.pixels), pixels[:, 10:50])


def test_data_without_a_usable_image_is_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (8, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"^no image of .* can be used\. a\.png: 8×9 pixels, smaller than 32×32$"):
        load_photographs(str(tmp_path), "test", "image", 32, limit=None)
