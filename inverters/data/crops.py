"""Data sets of crops and of whole images, over the rows that Hugging Face `datasets` reads."""

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

from inverters.data.images import resize_shorter_side
from inverters.data.sources import read_image, read_rows
from inverters.errors import DataError, ImageError

MOST_WORKERS = 1024


@dataclass(frozen=True)
class RandomCrop:
    """A random square of `size` pixels, flipped half of the time; a smaller image is enlarged to fit.

    Attributes:
        size: of the square's sides.
        resize: pixels of the shorter side to which larger images are shrunk first; None leaves them as they are.
        seed: of crops and flips.
    """

    size: int
    resize: int | None
    seed: int

    def __call__(self, image: Tensor, sample: int) -> Tensor:
        """Crop a 3×H×W image; number `sample` of a run is always cropped in the same way."""
        if self.resize:
            image = resize_shorter_side(image, self.resize)
        size = self.size
        if min(image.shape[-2:]) < size:
            image = torch.nn.functional.interpolate(
                image[None], size=[max(size, side) for side in image.shape[-2:]], mode="bilinear", antialias=True
            )[0]
        random = np.random.default_rng([self.seed, sample])
        top, left = (random.integers(side - size, endpoint=True) for side in image.shape[-2:])
        crop = image[:, top : top + size, left : left + size]
        return crop.flip(-1) if random.random() < 0.5 else crop.contiguous()


class TrainingCrops(Dataset[Tensor]):
    """Random crops, by (sample number, index). An unreadable image is replaced by the next readable one."""

    def __init__(self, rows: datasets.Dataset, source: str, crop: RandomCrop) -> None:
        self.rows, self.source, self.crop = rows, source, crop
        self.unreadable = _shared(len(rows), torch.bool)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: tuple[int, int]) -> Tensor:
        sample, index = draw
        for candidate in chain(range(index, len(self)), range(index)):
            try:
                image = read_image(self.rows[candidate])
            except ImageError:
                self.unreadable[candidate] = True
            else:
                return self.crop(image, sample)
        raise DataError(f"none of the {len(self)} images in {self.source} can be read")


class StreamedCrops(IterableDataset[Tensor]):
    """Random crops from a stream, which starts over when it ends. An unreadable image is replaced by the next readable.

    So every row makes one crop, and where a run goes on, rows are passed over without being decoded.
    """

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
        self.unreadable = _shared(MOST_WORKERS, torch.int64)  # a counter for each worker
        self.empty_workers = _shared(MOST_WORKERS, torch.bool)  # workers that have found no image in a whole epoch

    def begin(self, first: int, rank: int, ranks: int) -> int:
        """Continue at step `first`, with this process's part of the stream: its shards, or else every so many rows.

        A loader lets its workers take turns, starting with the first. Returns how many leading batches to discard.
        """
        self.rank, self.ranks = rank, ranks
        discarded = first % self._taking_turns()
        self.first = first - discarded
        return discarded

    def _taking_turns(self) -> int:
        """How many workers there are rows for; the others end at once."""
        return min(max(1, self.workers), int(self._epoch(0).num_shards))

    def _epoch(self, epoch: int) -> datasets.IterableDataset:
        """This process's rows of an epoch. (`set_epoch` would not do: its number is shared by all workers.)"""
        order = np.random.default_rng([self.crop.seed, epoch])  # also of the shards, and so of who gets them
        shuffled = self.rows.shuffle(generator=order, buffer_size=self.shuffle_buffer)
        return split_dataset_by_node(shuffled, self.rank, self.ranks)

    def __iter__(self) -> Iterator[Tensor]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        done = self.first // self._taking_turns() * self.batch_size
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
                return  # there are fewer shards than workers


class WholeImages(Dataset[Tensor]):
    """Whole images, 1×3×H×W; 0×3×1×1 where one cannot be read, and beyond the last."""

    def __init__(
        self, rows: datasets.Dataset | Sequence[Mapping[str, Any]], limit: int | None, resize: int | None
    ) -> None:
        self.rows, self.limit, self.resize = rows, limit, resize
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
        return (resize_shorter_side(image, self.resize) if self.resize else image)[None]


class ShuffledDraws(Sampler[tuple[int, int]]):
    """(sample number, index) of what one of `ranks` processes draws in the steps `first` … `steps` − 1.

    Samples are numbered through one shuffled epoch after the other. A step takes the next ranks · batch_size of them;
    each process a run of batch_size.
    """

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
            for position, index in enumerate(np.random.default_rng([self.seed, epoch]).permutation(self.size)):
                sample = epoch * self.size + position
                if start <= sample < stop and sample // self.batch_size % self.ranks == self.rank:
                    yield sample, int(index)


def _shared(size: int, dtype: torch.dtype) -> Tensor:
    """Zeros that workers write and the parent reads."""
    return torch.zeros(size, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]
