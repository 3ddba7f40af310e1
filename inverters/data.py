"""Photographs for training and validation, through Hugging Face `datasets`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import datasets
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from inverters.config import DataConfig
from inverters.errors import DataError, ImageError
from inverters.images import resize_shorter_side
from inverters.sources import local_files, open_images, read_image, readable

MOST_WORKERS = 1024


class ImageDataModule(pl.LightningDataModule):
    """Random crops for training, whole images for validation.

    Training is counted in steps, not epochs: sample number k of a run, its place in the shuffled order, its crop and
    its flip are functions of the seed and k alone, so neither the number of workers nor an interruption changes what a
    step sees. A stream has this order only for a given number of workers, and starts over after an interruption.

    Args:
        config: the sources and what a step sees of them.
        steps: the run's number of optimizer steps.
        seed: of order, crops and flips.

    Batches are N×3×S×S for training (S the crop size) and 1×3×H×W for validation, or 0×3×1×1 for an unreadable image.
    """

    def __init__(self, config: DataConfig, steps: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.steps = steps
        self.seed = seed

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Opens both sets; once, though Lightning asks for it at every start.

        Raises:
            DataError: a set does not exist, is empty, or has no such column, or no image for validation can be read.
        """
        if hasattr(self, "train"):
            return
        config = self.config
        train = open_images(config.train, config.train_split, config.image_column, config.streaming)
        # Opened by index, a set of the hub is downloaded with all of its splits.
        from_hub = not any(map(local_files, config.validation))
        rows = open_images(
            config.validation, config.validation_split, config.image_column, config.streaming and from_hub
        )
        if isinstance(rows, datasets.IterableDataset):
            with readable(config.validation):
                rows = list(islice(rows, config.validation_limit))
        self.validation = WholeImages(rows, config)
        if not any(len(self.validation[index]) for index in range(len(self.validation))):
            raise DataError(f"none of the {len(self.validation)} images in {', '.join(config.validation)} can be read")
        self.train: TrainingCrops | StreamedCrops
        if not config.streaming and len(train) == 0:
            raise DataError(f"{', '.join(config.train)} is empty")
        if config.streaming:
            self.train = StreamedCrops(train, config, self.seed)
        else:
            self.train = TrainingCrops(train, config, self.seed)

    def train_dataloader(self) -> DataLoader[Tensor]:
        done = self.trainer.global_step if self.trainer else 0
        return self._train_loader(start=done * self.config.batch_size)

    def _train_loader(self, start: int = 0) -> DataLoader[Tensor]:
        config = self.config
        total = self.steps * config.batch_size
        sampler = None
        if isinstance(self.train, TrainingCrops):
            sampler = ShuffledDraws(len(self.train), total, start, self.seed)
        return DataLoader(
            self.train,
            batch_size=config.batch_size,
            sampler=sampler,
            num_workers=config.workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=config.workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self.validation, batch_size=None, num_workers=self.config.workers)

    def first_batches(self, count: int) -> list[Tensor]:
        """The first `count` training batches, the same in every process: what the features' statistics are taken on."""
        return list(islice(self._train_loader(), count))

    def unreadable(self) -> int:
        """How many images of both sets could not be read so far."""
        return int(self.train.unreadable.sum() + self.validation.unreadable.sum())


class TrainingCrops(Dataset[Tensor]):
    """Random crops, by (sample number, index). An unreadable image is replaced by the next readable one."""

    def __init__(self, rows: datasets.Dataset, config: DataConfig, seed: int) -> None:
        self.rows, self.config, self.seed = rows, config, seed
        self.unreadable = _shared(len(rows), torch.bool)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: tuple[int, int]) -> Tensor:
        sample, index = draw
        for candidate in chain(range(index, len(self)), range(index)):
            try:
                image = read_image(self.rows[candidate][self.config.image_column])
            except ImageError:
                self.unreadable[candidate] = True
            else:
                return crop_randomly(image, self.config, self.seed, sample)
        raise DataError(f"none of the {len(self)} images in {', '.join(self.config.train)} can be read")


class StreamedCrops(IterableDataset[Tensor]):
    """Random crops from a stream, which starts over when it ends; unreadable images are passed over."""

    def __init__(self, rows: datasets.IterableDataset, config: DataConfig, seed: int) -> None:
        self.rows = rows.shuffle(seed=seed, buffer_size=config.shuffle_buffer)
        self.config, self.seed = config, seed
        self.unreadable = _shared(MOST_WORKERS, torch.int64)  # a counter for each worker
        self.barren = _shared(MOST_WORKERS, torch.bool)  # workers that have found no image in a whole epoch

    def __iter__(self) -> Iterator[Tensor]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        sample, epoch, unreadable, found = number, 0, 0, False
        while True:
            self.rows.set_epoch(epoch)  # which also shuffles the shards, and so hands other ones to this worker
            rows = 0
            for row in self._rows():
                rows += 1
                try:
                    image = read_image(row[self.config.image_column])
                except ImageError:
                    unreadable += epoch == 0
                    self.unreadable[number] = unreadable
                else:
                    found = True
                    yield crop_randomly(image, self.config, self.seed, sample)
                    sample += workers
            self.barren[number] = not found
            if self.barren[:workers].all():
                raise DataError(
                    f"none of the {int(self.unreadable.sum())} images in {', '.join(self.config.train)} can be read"
                )
            if rows == 0:
                return  # there are fewer shards than workers
            epoch += 1

    def _rows(self) -> Iterator[dict[str, Any]]:
        rows = iter(self.rows)
        while True:
            with readable(self.config.train):
                row = next(rows, None)
            if row is None:
                return
            yield row


class WholeImages(Dataset[Tensor]):
    """Whole images, 1×3×H×W; 0×3×1×1 where one cannot be read."""

    def __init__(self, rows: datasets.Dataset | Sequence[Mapping[str, Any]], config: DataConfig) -> None:
        self.rows, self.config = rows, config
        self.unreadable = _shared(len(self), torch.bool)

    def __len__(self) -> int:
        return min(len(self.rows), self.config.validation_limit or len(self.rows))

    def __getitem__(self, index: int) -> Tensor:
        try:
            image = read_image(self.rows[index][self.config.image_column])
        except ImageError:
            self.unreadable[index] = True
            return torch.empty(0, 3, 1, 1)
        return (resize_shorter_side(image, self.config.resize) if self.config.resize else image)[None]


class ShuffledDraws(Sampler[tuple[int, int]]):
    """(sample number, index) for the samples `start` … `total` − 1: one shuffled epoch after the other."""

    def __init__(self, size: int, total: int, start: int, seed: int) -> None:
        self.size, self.total, self.start, self.seed = size, total, start, seed

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for epoch in range(self.start // self.size, -(-self.total // self.size)):
            for position, index in enumerate(np.random.default_rng([self.seed, epoch]).permutation(self.size)):
                sample = epoch * self.size + position
                if self.start <= sample < self.total:
                    yield sample, int(index)


def _shared(size: int, dtype: torch.dtype) -> Tensor:
    """Zeros that workers write and the parent reads."""
    return torch.zeros(size, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]


def crop_randomly(image: Tensor, config: DataConfig, seed: int, sample: int) -> Tensor:
    """A random square of `crop_size` pixels, mirrored half of the time; 3×S×S. A smaller image is enlarged to fit."""
    if config.resize:
        image = resize_shorter_side(image, config.resize)
    size = config.crop_size
    if min(image.shape[-2:]) < size:
        image = torch.nn.functional.interpolate(
            image[None], size=[max(size, side) for side in image.shape[-2:]], mode="bilinear", antialias=True
        )[0]
    random = np.random.default_rng([seed, sample])
    top, left = (random.integers(side - size, endpoint=True) for side in image.shape[-2:])
    crop = image[:, top : top + size, left : left + size]
    return crop.flip(-1) if random.random() < 0.5 else crop.contiguous()
