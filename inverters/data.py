"""Photographs for training and validation: what a run's steps see of them."""

from collections.abc import Iterable, Iterator
from itertools import islice

import datasets
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from inverters.config import DataConfig
from inverters.crops import ShuffledDraws, StreamedCrops, TrainingCrops, WholeImages
from inverters.errors import DataError
from inverters.interruption import leave_signals_to_the_parent
from inverters.sources import local_files, open_images, readable


class ImageDataModule(pl.LightningDataModule):
    """Random crops for training, whole images for validation.

    Training is counted in steps, not epochs: sample number k of a run, its place in the shuffled order, its crop and
    its flip are functions of the seed and k alone, so neither an interruption nor the number of workers or devices that
    share a step's images changes what the step sees. A stream has this order only for a given number of workers and
    devices.

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

    def train_dataloader(self) -> Iterable[Tensor]:
        if self.trainer is None:
            return self._train_loader(0, self.steps)
        trainer = self.trainer
        return self._train_loader(trainer.global_step, self.steps, trainer.global_rank, trainer.world_size)

    def _train_loader(self, first: int, steps: int, rank: int = 0, ranks: int = 1) -> Iterable[Tensor]:
        config = self.config
        sampler, too_many = None, 0
        if isinstance(self.train, TrainingCrops):
            sampler = ShuffledDraws(len(self.train), steps, first, self.seed, config.batch_size, rank, ranks)
        else:
            too_many = self.train.begin(first, rank, ranks)
        loader = DataLoader(
            self.train,
            batch_size=config.batch_size,
            sampler=sampler,
            num_workers=config.workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=config.workers > 0,
            worker_init_fn=leave_signals_to_the_parent,
        )
        return _WithoutFirst(loader, too_many) if too_many else loader

    def val_dataloader(self) -> DataLoader[Tensor]:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            self.validation,
            batch_size=None,
            sampler=range(rank, max(len(self.validation), ranks), ranks),  # Lightning wants one for each process
            num_workers=self.config.workers,
            worker_init_fn=leave_signals_to_the_parent,
        )

    def first_images(self, count: int) -> list[Tensor]:
        """The first `count` training images, in batches; the same in every process, however many there are."""
        batch = self.config.batch_size
        steps = -(-count // batch)
        batches = islice(self._train_loader(0, steps), steps)
        return [images[: count - number * batch] for number, images in enumerate(batches)]

    def unreadable(self) -> int:
        """How many images of both sets could not be read so far."""
        return int(self.train.unreadable.sum() + self.validation.unreadable.sum())


class _WithoutFirst:
    """A loader without its first batches."""

    def __init__(self, loader: DataLoader[Tensor], count: int) -> None:
        self.loader, self.count = loader, count

    def __iter__(self) -> Iterator[Tensor]:
        return islice(self.loader, self.count, None)
