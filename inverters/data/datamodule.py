"""Photographs for training and validation: what a run's steps see of them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from inverters.data.crops import RandomCrop, ShuffledDraws, StreamedCrops, TrainingCrops, WholeImages
from inverters.data.sources import is_hub_id, open_images, read_rows
from inverters.data.workers import ignore_group_signals
from inverters.errors import DataError


class ImageDataModule(pl.LightningDataModule):
    """Random crops for training, whole images for validation.

    Training is counted in steps, not epochs: sample number k of a run, its place in the shuffled order, its crop and
    its flip are functions of the seed and k alone, so neither an interruption nor the number of workers or devices that
    share a step's images changes what the step sees. A stream has this order only for a given number of workers and
    devices.

    Args:
        train, validation: sources of images, as `open_images` takes them.
        steps: number of optimizer steps of the run.
        batch_size: images of a step, per device.
        crop_size: pixels of the training crops' sides.
        train_split, validation_split, image_column, streaming: see `open_images`; only training is streamed.
        shuffle_buffer: images that a stream is shuffled within.
        validation_limit: number of images to validate on; None takes all.
        resize: pixels of the shorter side to which larger images are shrunk; None leaves them as they are.
        workers: processes that load images.
        seed: of order, crops and flips.

    Batches are N×3×S×S for training (S the crop size) and 1×3×H×W for validation, or 0×3×1×1 for an unreadable image.
    """

    def __init__(
        self,
        train: Sequence[str],
        validation: Sequence[str],
        *,
        steps: int,
        batch_size: int,
        crop_size: int,
        train_split: str = "train",
        validation_split: str = "validation",
        image_column: str = "image",
        streaming: bool = False,
        shuffle_buffer: int = 1000,
        validation_limit: int | None = None,
        resize: int | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources, self.validation_sources = list(train), list(validation)
        self.splits, self.image_column = (train_split, validation_split), image_column
        self.steps, self.batch_size, self.workers, self.seed = steps, batch_size, workers, seed
        self.streaming, self.shuffle_buffer = streaming, shuffle_buffer
        self.validation_limit, self.resize = validation_limit, resize
        self.crop = RandomCrop(crop_size, resize, seed)

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Open both sets; once, though Lightning asks for it at every start.

        Raises:
            DataError: a set does not exist, is empty, or has no such column, or no image for validation can be read.
        """
        if hasattr(self, "train"):
            return
        train_split, validation_split = self.splits
        source, validation_source = ", ".join(self.sources), ", ".join(self.validation_sources)
        train = open_images(self.sources, train_split, self.image_column, self.streaming)
        # Opened by index, a data set of the hub is downloaded with all of its splits.
        stream = self.streaming and all(map(is_hub_id, self.validation_sources))
        rows = open_images(self.validation_sources, validation_split, self.image_column, stream)
        if stream:
            rows = list(islice(read_rows(rows, validation_source), self.validation_limit))
        self.validation = WholeImages(rows, self.validation_limit, self.resize)
        if not any(len(self.validation[index]) for index in range(len(self.validation))):
            raise DataError(f"none of the {len(self.validation)} images in {validation_source} can be read")
        self.train: TrainingCrops | StreamedCrops
        if not self.streaming and len(train) == 0:
            raise DataError(f"{source} is empty")
        if self.streaming:
            self.train = StreamedCrops(
                train,
                source,
                self.crop,
                batch_size=self.batch_size,
                workers=self.workers,
                shuffle_buffer=self.shuffle_buffer,
            )
        else:
            self.train = TrainingCrops(train, source, self.crop)

    def train_dataloader(self) -> Iterable[Tensor]:
        if self.trainer is None:
            return self._train_loader(0, self.steps)
        trainer = self.trainer
        return self._train_loader(trainer.global_step, self.steps, trainer.global_rank, trainer.world_size)

    def _train_loader(self, first: int, steps: int, rank: int = 0, ranks: int = 1) -> Iterable[Tensor]:
        sampler, discarded = None, 0
        if isinstance(self.train, TrainingCrops):
            sampler = ShuffledDraws(len(self.train), steps, first, self.seed, self.batch_size, rank, ranks)
        else:
            discarded = self.train.begin(first, rank, ranks)
        loader = DataLoader(
            self.train,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            worker_init_fn=ignore_group_signals,
        )
        return _WithoutFirst(loader, discarded) if discarded else loader

    def val_dataloader(self) -> DataLoader[Tensor]:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            self.validation,
            batch_size=None,
            sampler=range(rank, max(len(self.validation), ranks), ranks),  # Lightning wants one for each process
            num_workers=self.workers,
            worker_init_fn=ignore_group_signals,
        )

    def first_images(self, count: int) -> list[Tensor]:
        """The first `count` training images, in batches; the same in every process, however many there are."""
        batch = self.batch_size
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
