"""Data sets of random crops and of whole images, on top of the rows from `open_images`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Sampler

from inverters.data.images import center_crop, resize_shorter_side
from inverters.data.sources import read_image, read_rows
from inverters.errors import DataError, ImageError

MAX_WORKERS = 1024


@dataclass(frozen=True)
class RandomCrop:
    """Random square crops with random horizontal flips.

    Attributes:
        size: side of the crops in pixels; smaller images are enlarged to it.
        resize: shorter side in pixels to which larger images are shrunk before cropping; None keeps their size.
        seed: of scales, positions and flips.
        scale: range of the random factor by which images are shrunk, but not below `size`; None keeps their size.
    """

    size: int
    resize: int | None
    seed: int
    scale: tuple[float, float] | None = None

    def __call__(self, image: Tensor, sample: int) -> Tensor:
        """Crop a 3×H×W image; scale, position and flip depend on the seed and the number `sample` only."""
        random = np.random.default_rng([self.seed, sample])
        if self.resize:
            image = resize_shorter_side(image, self.resize)
        size = self.size
        if self.scale:
            shorter = round(min(image.shape[-2:]) * random.uniform(*self.scale))
            image = resize_shorter_side(image, max(size, shorter))
        if min(image.shape[-2:]) < size:
            image = torch.nn.functional.interpolate(
                image[None], size=[max(size, side) for side in image.shape[-2:]], mode="bilinear", antialias=True
            )[0]
        top, left = (random.integers(side - size, endpoint=True) for side in image.shape[-2:])
        crop = image[:, top : top + size, left : left + size]
        return crop.flip(-1) if random.random() < 0.5 else crop.contiguous()


class TrainingCrops(Dataset[Tensor]):
    """Random crops, indexed by (sample, row) as `ShuffledDraws` yields them.

    An unreadable image is replaced by the next readable one.
    """

    rows: datasets.Dataset
    source: str
    crop: RandomCrop
    unreadable: Tensor

    def __init__(self, rows: datasets.Dataset, source: str, crop: RandomCrop) -> None:
        self.rows, self.source, self.crop = rows, source, crop
        self.unreadable = _shared(len(rows), torch.bool)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: tuple[int, int]) -> Tensor:
        sample, row = draw
        for candidate in chain(range(row, len(self)), range(row)):
            try:
                image = read_image(self.rows[candidate])
            except ImageError:
                self.unreadable[candidate] = True
            else:
                return self.crop(image, sample)
        raise DataError(f"none of the {len(self)} images in {self.source} can be read")


class StreamedCrops(IterableDataset[Tensor]):
    """Random crops from a stream, epoch after epoch.

    An unreadable image is replaced by the next readable one. Every row thus gives one crop, and a resumed run can skip
    rows without decoding them.

    Args:
        rows: from `open_images`.
        source: what error messages call them.
        crop: makes the crops.
        batch_size: of the loader.
        workers: of the loader.
        shuffle_buffer: number of images that are shuffled at a time.
    """

    rows: datasets.IterableDataset
    source: str
    crop: RandomCrop
    batch_size: int
    workers: int
    shuffle_buffer: int
    first: int
    rank: int
    ranks: int
    unreadable: Tensor
    empty_workers: Tensor

    def __init__(
        self,
        rows: datasets.IterableDataset,
        source: str,
        crop: RandomCrop,
        *,
        batch_size: int,
        workers: int,
        shuffle_buffer: int,
    ) -> None:
        self.rows, self.source, self.crop = rows, source, crop
        self.batch_size, self.workers, self.shuffle_buffer = batch_size, workers, shuffle_buffer
        self.first, self.rank, self.ranks = 0, 0, 1
        self.unreadable = _shared(MAX_WORKERS, torch.int64)  # images, by worker
        self.empty_workers = _shared(MAX_WORKERS, torch.bool)  # workers without a readable image in their last epoch

    def begin(self, first: int, rank: int, ranks: int) -> int:
        """Start at step `first`, on process `rank` of `ranks`, each of which reads its own shards or rows.

        Returns:
            How many leading batches to discard: workers take turns at yielding batches, always from worker 0 on.
        """
        self.rank, self.ranks = rank, ranks
        discarded = first % self._active_workers()
        self.first = first - discarded
        return discarded

    def _active_workers(self) -> int:
        """Return the number of workers that have shards to read; the others end at once."""
        return min(max(1, self.workers), int(self._epoch(0).num_shards))

    def _epoch(self, epoch: int) -> datasets.IterableDataset:
        """Return this process's rows of an epoch. (`set_epoch` does not serve: all workers share its number.)"""
        order = np.random.default_rng([self.crop.seed, epoch])  # of shards too, which decides who reads which
        shuffled = self.rows.shuffle(generator=order, buffer_size=self.shuffle_buffer)
        return split_dataset_by_node(shuffled, self.rank, self.ranks)

    def __iter__(self) -> Iterator[Tensor]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        done = self.first // self._active_workers() * self.batch_size
        row_number, replaced, unreadable, found = 0, 0, 0, done > 0
        for epoch in count():
            before = row_number
            for row_number, row in enumerate(read_rows(self._epoch(epoch), self.source), start=before + 1):
                if row_number <= done:
                    continue
                try:
                    image = read_image(row)
                except ImageError:
                    unreadable += epoch == 0
                    self.unreadable[number] = unreadable
                    replaced += 1
                else:
                    found = True
                    for crop in range(row_number - 1 - replaced, row_number):
                        sample = self.rank * workers + number + crop * workers * self.ranks
                        yield self.crop(image, sample)
                    replaced = 0
            self.empty_workers[number] = not found
            if self.empty_workers[:workers].all():
                raise DataError(f"none of the {int(self.unreadable.sum())} images in {self.source} can be read")
            if row_number == before:
                return  # more workers than shards


class WholeImages(Dataset[Tensor]):
    """Whole images, 1×3×H×W, or an empty batch 0×3×1×1 for an unreadable image and for an index beyond the last.

    Args:
        rows: from `open_images`.
        limit: number of images; None takes all.
        resize: shorter side in pixels to which larger images are shrunk; None keeps their size.
        crop: of the square in the middle that is taken, its side in pixels and the part of the shorter side that it
            covers; None takes whole images.
    """

    rows: datasets.Dataset | Sequence[Mapping[str, Any]]
    limit: int | None
    resize: int | None
    crop: tuple[int, float] | None
    unreadable: Tensor

    def __init__(
        self,
        rows: datasets.Dataset | Sequence[Mapping[str, Any]],
        limit: int | None,
        resize: int | None,
        crop: tuple[int, float] | None = None,
    ) -> None:
        self.rows, self.limit, self.resize, self.crop = rows, limit, resize, crop
        self.unreadable = _shared(len(self), torch.bool)

    def __len__(self) -> int:
        return min(len(self.rows), self.limit or len(self.rows))

    def __getitem__(self, index: int) -> Tensor:
        if index >= len(self):
            return torch.empty(0, 3, 1, 1)
        try:
            image = read_image(self.rows[index])
        except ImageError:
            self.unreadable[index] = True
            return torch.empty(0, 3, 1, 1)
        if self.crop:
            return center_crop(image[None], *self.crop)
        return (resize_shorter_side(image, self.resize) if self.resize else image)[None]


class ShuffledDraws(Sampler[tuple[int, int]]):
    """Draws (sample, row) of process `rank` of `ranks` in the steps `first` … `steps` − 1.

    Samples are numbered consecutively over shuffled epochs. Each step takes the next ranks · batch_size samples, of
    which each process takes batch_size consecutive ones.
    """

    size: int
    steps: int
    first: int
    seed: int
    batch_size: int
    rank: int
    ranks: int

    def __init__(
        self, size: int, steps: int, first: int, seed: int, batch_size: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.size, self.steps, self.first, self.seed = size, steps, first, seed
        self.batch_size, self.rank, self.ranks = batch_size, rank, ranks

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, stop = (steps * self.batch_size * self.ranks for steps in (self.first, self.steps))
        for epoch in range(start // self.size, -(-stop // self.size)):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            for sample, row in enumerate(order, start=epoch * self.size):
                if start <= sample < stop and sample // self.batch_size % self.ranks == self.rank:
                    yield sample, int(row)


def _shared(size: int, dtype: torch.dtype) -> Tensor:
    """Create zeros in memory that loader processes share with their parent."""
    return torch.zeros(size, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]
