import itertools
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from image_files import encoded, greys, parquet

from inverters.data.crops import RandomCrop, ShuffledDraws
from inverters.data.datamodule import ImageDataModule
from inverters.errors import DataError

pytestmark = pytest.mark.usefixtures("datasets_cache")


def noise(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encoded(random.integers(0, 256, (40, 36, 3), dtype=np.uint8)))
    return folder


def module(train: Path, validation: Path | None = None, steps: int = 6, **settings: Any) -> ImageDataModule:
    defaults = {"steps": steps, "crop_size": 32, "batch_size": 2, "seed": 7}
    data = ImageDataModule([str(train)], [str(validation or train)], **(defaults | settings))
    data.setup()
    return data


def values_of(batches: list[torch.Tensor]) -> list[int]:
    """The grey values of the images in `batches`."""
    return [int(value) for batch in batches for value in (batch[:, 0, 0, 0] * 255).round()]


# --- order, crops ---


def test_draws_are_shuffled_epochs_and_can_start_at_any_step() -> None:
    draws = list(ShuffledDraws(size=5, steps=13, first=0, seed=3, batch_size=1))
    assert [sample for sample, _ in draws] == list(range(13))
    first, second = ([index for _, index in draws[start : start + 5]] for start in (0, 5))
    assert sorted(first) == sorted(second) == list(range(5))
    assert first != second
    assert len({index for _, index in draws[10:]}) == 3
    for start in (0, 4, 5, 12, 13):
        assert list(ShuffledDraws(5, 13, start, 3, 1)) == draws[start:]
    assert [index for _, index in ShuffledDraws(5, 13, 0, 4, 1)] != [index for _, index in draws]


def test_batches_do_not_depend_on_workers_or_on_resuming(tmp_path: Path) -> None:
    folder = noise(tmp_path / "photos", 5)
    whole = list(module(folder).train_dataloader())
    assert len(whole) == 6
    assert len({batch.sum().item() for batch in whole}) == 6
    for workers in (1, 2):
        assert all(map(torch.equal, whole, module(folder, workers=workers).train_dataloader()))
    rest = list(module(folder, workers=1)._train_loader(4, 6))
    assert len(rest) == 2
    assert all(map(torch.equal, whole[4:], rest))
    for count in (5, 12, 64):  # also more than a run has
        first = torch.cat(module(folder).first_images(count))
        assert len(first) == count
        assert torch.equal(first[:12], torch.cat(whole)[:count])


@pytest.mark.parametrize(("ranks", "batch_size"), [(2, 3), (3, 2)])
def test_several_processes_draw_what_one_would(ranks: int, batch_size: int) -> None:
    alone = list(ShuffledDraws(size=7, steps=5, first=1, seed=3, batch_size=6))
    shares = [list(ShuffledDraws(7, 5, 1, 3, batch_size, rank, ranks)) for rank in range(ranks)]
    for step in range(4):
        together = [draw for share in shares for draw in share[step * batch_size : (step + 1) * batch_size]]
        assert together == alone[step * 6 : (step + 1) * 6]
    assert all(len(share) == 4 * batch_size for share in shares)


def test_a_crop_is_a_window_of_its_image_flipped_half_of_the_time() -> None:
    image = torch.rand(3, 40, 48)
    crop_randomly = RandomCrop(32, resize=None, seed=0)
    windows = image.unfold(1, 32, 1).unfold(2, 32, 1)  # 3×9×17×32×32
    positions, flipped = set(), 0
    for sample in range(60):
        crop = crop_randomly(image, sample)
        assert torch.equal(crop, crop_randomly(image, sample))
        hits = [
            (flip, *position) for flip in (False, True) for position in found(windows, crop.flip(-1) if flip else crop)
        ]
        assert len(hits) == 1
        flipped += hits[0][0]
        positions.add(hits[0][1:])
    assert 15 < flipped < 45
    assert {position[0] for position in positions} == set(range(9))  # up to both borders
    assert {position[1] for position in positions} >= {0, 16}


def found(windows: torch.Tensor, crop: torch.Tensor) -> list[list[int]]:
    positions: list[list[int]] = (windows == crop[:, None, None]).all(dim=(0, 3, 4)).nonzero().tolist()
    return positions


@pytest.mark.parametrize(("height", "width"), [(20, 90), (90, 20), (5, 5), (32, 32), (33, 31), (1, 200)])
def test_small_images_are_enlarged_to_the_crop_size(height: int, width: int) -> None:
    crop = RandomCrop(32, resize=None, seed=0)(torch.full((3, height, width), 0.25), 0)
    assert crop.shape == (3, 32, 32)
    assert torch.allclose(crop, torch.tensor(0.25))


def test_images_are_resized_before_cropping() -> None:
    image = torch.zeros(3, 256, 256)
    image[:, :, 128:] = 1
    crop = RandomCrop(32, resize=32, seed=0)(image, 0)  # the whole image, small
    assert crop.mean().item() == pytest.approx(0.5, abs=0.01)


def test_images_are_shrunk_at_random_but_not_below_the_crop() -> None:
    ramp = torch.linspace(0, 1, 200).expand(3, 100, 200)  # its slope in a crop tells the factor
    crop_randomly = RandomCrop(32, resize=None, seed=0, scale=(0.25, 1.0))
    crops = [crop_randomly(ramp, sample)[0, 16] for sample in range(60)]
    factors = [31 / 199 / abs(row[-1] - row[0]).item() for row in crops]
    assert min(factors) == pytest.approx(0.32, abs=0.02)  # 32 of 100 pixels
    assert 0.9 < max(factors) < 1.02
    assert 0.5 < sorted(factors)[30] < 0.75
    assert torch.equal(crop_randomly(ramp, 7), crop_randomly(ramp, 7))


# --- streams ---


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_yields_every_image_once_per_epoch(tmp_path: Path, workers: int) -> None:
    data = module(greys(tmp_path / "photos", 12), streaming=True, workers=workers, batch_size=3, shuffle_buffer=4)
    batches = list(itertools.islice(data.train_dataloader(), 8))
    epochs = [values_of(batches[:4]), values_of(batches[4:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(1, 13))] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(1, 13))


def test_a_stream_of_fewer_shards_than_workers_yields_every_image(tmp_path: Path) -> None:
    path = parquet(tmp_path / "one.parquet", [encoded(value) for value in (1, 2, 3, 4)])
    data = module(path, streaming=True, workers=2, image_column="photo")
    assert sorted(values_of(list(itertools.islice(data.train_dataloader(), 2)))) == [1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "shards"), [(0, 2), (2, 4), (3, 2)])
def test_a_stream_can_start_at_any_step(tmp_path: Path, workers: int, shards: int) -> None:
    random = np.random.default_rng(0)
    for shard in range(shards):
        cells: list[bytes | None] = [encoded(random.integers(0, 256, (40, 36, 3), dtype=np.uint8)) for _ in range(5)]
        cells[2] = b"damaged"
        parquet(tmp_path / f"{shard}.parquet", cells)
    options = {"streaming": True, "workers": workers, "image_column": "photo", "shuffle_buffer": 3}

    def batches(first: int) -> list[torch.Tensor]:
        data = module(tmp_path / "?.parquet", tmp_path / "0.parquet", steps=25, **options)
        return list(itertools.islice(data._train_loader(first, 25), 25 - first))

    whole = batches(0)
    assert len({batch.sum().item() for batch in whole}) == 25
    for first in (1, 2, 7, 20):
        assert all(map(torch.equal, whole[first:], batches(first)))


def test_several_processes_share_a_stream(tmp_path: Path) -> None:
    data = module(greys(tmp_path / "photos", 8), streaming=True, shuffle_buffer=4)
    shares = [values_of(list(itertools.islice(data._train_loader(0, 2, rank, 2), 2))) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(1, 9))


def test_a_stream_continues_where_one_worker_has_no_readable_image(tmp_path: Path) -> None:
    folder = greys(tmp_path / "photos", 2)
    (folder / "002.png").write_bytes(b"damaged")
    data = module(folder, streaming=True, workers=2, validation=folder)
    assert values_of(list(itertools.islice(data.train_dataloader(), 3))) == [1] * 6
    assert data.train.unreadable.sum() == 1


# --- unreadable images ---


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_skipped_and_counted_once(tmp_path: Path, workers: int, streaming: bool) -> None:
    folder = greys(tmp_path / "photos", 6)
    for name in ("002.png", "005.png"):
        (folder / name).write_bytes(b"damaged")
    validation = greys(tmp_path / "validation", 2, first=3)
    (validation / "004.png").write_bytes(b"")
    data = module(folder, validation, steps=20, workers=workers, streaming=streaming)
    for loader in (data.train_dataloader(), data.train_dataloader(), data.val_dataloader(), data.val_dataloader()):
        seen = values_of(list(itertools.islice(loader, 20)))
        assert set(seen) <= {1, 3, 4, 6}
    data.setup("validate")  # as Lightning's trainer.validate does
    assert data.unreadable() == 3


def test_a_replaced_image_keeps_the_crops_of_the_others(tmp_path: Path) -> None:
    folder = noise(tmp_path / "photos", 4)
    whole = module(folder)
    before = list(whole.train_dataloader())
    (folder / "1.png").write_bytes(b"damaged")
    after = list(module(folder, validation=folder).train_dataloader())
    indices = [index for _, index in ShuffledDraws(4, 12, 0, 7, 1)]
    pairs = zip(indices, torch.cat(before), torch.cat(after), strict=True)
    assert [index for index, old, new in pairs if not torch.equal(old, new)] == [1, 1, 1]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_without_readable_images_is_an_error(tmp_path: Path, workers: int, streaming: bool) -> None:
    folder = greys(tmp_path / "photos", 4)
    for path in folder.iterdir():
        path.write_bytes(b"damaged")
    data = module(folder, greys(tmp_path / "validation", 1), workers=workers, streaming=streaming)
    with pytest.raises(DataError, match=r"none of the 4 images in .*photos can be read"):
        data.first_images(1)
    with pytest.raises(DataError, match=r"none of the 4 images in .*photos can be read"):
        module(greys(tmp_path / "other", 1), folder)


# --- validation ---


def test_validation_images_are_whole(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"a": (40, 61), "b": (33, 20), "c": (35, 35)}.items():
        (folder / f"{name}.png").write_bytes(encoded(5, size))
    assert [batch.shape for batch in module(folder).val_dataloader()] == [
        (1, 3, 40, 61),
        (1, 3, 33, 20),
        (1, 3, 35, 35),
    ]
    few = module(folder, resize=20, validation_limit=2)
    assert [batch.shape for batch in few.val_dataloader()] == [(1, 3, 20, 30), (1, 3, 33, 20)]
    assert len(module(folder, validation_limit=100).val_dataloader()) == 3


def test_validation_images_on_the_hub_are_streamed_where_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without streaming, `datasets` downloads all splits of a hub data set."""
    read: list[int] = []

    def rows(split: str) -> Any:
        for value in range(1, 9):
            read.append(value) if split == "test" else None
            yield {"image": {"bytes": encoded(value), "path": None}}

    def load(name: str, split: str, streaming: bool) -> datasets.IterableDataset:
        assert streaming
        assert name == "owner/photos"
        features = datasets.Features({"image": datasets.Image()})
        return datasets.IterableDataset.from_generator(rows, gen_kwargs={"split": split}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    photos = Path("owner/photos")
    data = module(photos, streaming=True, validation_split="test", validation_limit=3)
    assert values_of(list(data.val_dataloader())) == [1, 2, 3]
    assert max(read) <= 4


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_without_an_image_is_unreadable(tmp_path: Path, streaming: bool) -> None:
    path = parquet(tmp_path / "a.parquet", [encoded(1), None, encoded(2)])
    data = module(path, image_column="photo", streaming=streaming)
    assert set(values_of(list(itertools.islice(data.train_dataloader(), 6)))) == {1, 2}
    assert data.train.unreadable.sum() == 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("damaged", "after"), [(slice(-50, None), ""), (slice(4, 204), " after row 0")])
def test_a_damaged_shard(tmp_path: Path, workers: int, damaged: slice, after: str) -> None:
    """Without its end it is refused before a row is read; where its rows are damaged, once they are reached."""
    first = parquet(tmp_path / "a.parquet", [encoded(1)] * 4)
    second = parquet(tmp_path / "b.parquet", [encoded(2)] * 4)
    content = bytearray(second.read_bytes())
    content[damaged] = bytes(len(content[damaged]))
    second.write_bytes(content)
    config = {"image_column": "photo", "streaming": True, "workers": workers, "shuffle_buffer": 1}
    with pytest.raises(DataError, match=rf"cannot read .*\?\.parquet{after}: \S+"):
        module(tmp_path / "?.parquet", first, steps=9, **config).first_images(18)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_while_training(tmp_path: Path, workers: int) -> None:
    shards = [parquet(tmp_path / f"{name}.parquet", [encoded(1)] * 4) for name in "ab"]
    config = {"image_column": "photo", "streaming": True, "workers": workers, "shuffle_buffer": 1}
    validation = parquet(tmp_path / "validation" / "v.parquet", [encoded(1)])
    data = module(tmp_path / "?.parquet", validation, steps=99, **config)
    batches = iter(data.train_dataloader())
    next(batches)
    for shard in shards:
        shard.unlink()
    with pytest.raises(DataError, match=r"cannot read .*\?\.parquet: .*No such file"):
        list(batches)


def test_processes_without_validation_images_get_an_empty_batch(tmp_path: Path) -> None:
    data = module(greys(tmp_path / "photos", 2))
    sizes = []
    for rank in range(3):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3)  # type: ignore[assignment]
        sizes.append([len(images) for images in data.val_dataloader()])
    assert sizes == [[1], [1], [0]]


def test_the_seed_decides_the_order(tmp_path: Path) -> None:
    folder = greys(tmp_path / "photos", 8)
    orders = []
    for seed in (0, 0, 1):
        orders.append(values_of(list(module(folder, steps=4, seed=seed).train_dataloader())))
    assert orders[0] == orders[1] != orders[2]
    assert Counter(orders[0]) == Counter(range(1, 9))
