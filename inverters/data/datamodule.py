"""Lightning's data module: random crops for training, whole images for validation."""

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

    Training batches are N×3×S×S with S the crop size, validation batches 1×3×H×W, or 0×3×1×1 for an unreadable image.

    Training is counted in steps, not epochs. The image, crop and flip of sample k of a run depend on the seed and k
    only, so resuming a run, or another number of workers or devices for the same total batch size, does not change
    what a step trains on. For a stream, this holds for a fixed number of workers and devices.

    Args:
        train, validation: sources of images, see `open_images`.
        steps: optimizer steps of the run.
        batch_size: training images per step and device.
        crop_size: side of the training crops in pixels.
        train_split, validation_split, image_column: see `open_images`.
        streaming: stream the training images, and the validation images if they are a data set of the hub.
        shuffle_buffer: number of streamed images that are shuffled at a time.
        validation_limit: number of validation images; None takes all.
        validation_crop: see `WholeImages.crop`.
        resize: shorter side in pixels to which larger images are shrunk; None keeps their size.
        scale: range of the random factor by which training images are then shrunk, see `RandomCrop`.
        workers: loader processes.
        seed: of order, scales, crops and flips.
    """

    sources: list[str]
    validation_sources: list[str]
    splits: tuple[str, str]
    image_column: str
    steps: int
    batch_size: int
    workers: int
    seed: int
    streaming: bool
    shuffle_buffer: int
    validation_limit: int | None
    validation_crop: tuple[int, float] | None
    resize: int | None
    crop: RandomCrop
    validation: WholeImages

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
        validation_crop: tuple[int, float] | None = None,
        resize: int | None = None,
        scale: tuple[float, float] | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources, self.validation_sources = list(train), list(validation)
        self.splits, self.image_column = (train_split, validation_split), image_column
        self.steps, self.batch_size, self.workers, self.seed = steps, batch_size, workers, seed
        self.streaming, self.shuffle_buffer = streaming, shuffle_buffer
        self.validation_limit, self.validation_crop, self.resize = validation_limit, validation_crop, resize
        self.crop = RandomCrop(crop_size, resize, seed, scale)

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Open both sets, unless they are open: Lightning calls this for each stage.

        Raises:
            DataError: a set does not exist, is empty or has no such column, or no validation image can be read.
        """
        if hasattr(self, "train"):
            return
        train_split, validation_split = self.splits
        source, validation_source = ", ".join(self.sources), ", ".join(self.validation_sources)
        train = open_images(self.sources, train_split, self.image_column, self.streaming)
        # Without streaming, all splits of a data set of the hub are downloaded.
        stream = self.streaming and all(map(is_hub_id, self.validation_sources))
        rows = open_images(self.validation_sources, validation_split, self.image_column, stream)
        if stream:
            rows = list(islice(read_rows(rows, validation_source), self.validation_limit))
        self.validation = WholeImages(rows, self.validation_limit, self.resize, self.validation_crop)
        if not any(len(self.validation[index]) for index in range(len(self.validation))):
            raise DataError(f"none of the {len(self.validation)} images in {validation_source} can be read")
        self.train: TrainingCrops | StreamedCrops
        if self.streaming:
            sizes = {"batch_size": self.batch_size, "workers": self.workers, "shuffle_buffer": self.shuffle_buffer}
            self.train = StreamedCrops(train, source, self.crop, **sizes)
        elif len(train):
            self.train = TrainingCrops(train, source, self.crop)
        else:
            raise DataError(f"{source} is empty")

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
            sampler=range(rank, max(len(self.validation), ranks), ranks),  # at least one index for each process
            num_workers=self.workers,
            worker_init_fn=ignore_group_signals,
        )

    def first_images(self, count: int) -> list[Tensor]:
        """Return the first `count` training images in batches, the same ones in every process."""
        batch = self.batch_size
        steps = -(-count // batch)
        batches = islice(self._train_loader(0, steps), steps)
        return [images[: count - number * batch] for number, images in enumerate(batches)]

    def unreadable(self) -> int:
        """Count the images of both sets that could not be read so far."""
        return int(self.train.unreadable.sum() + self.validation.unreadable.sum())


class _WithoutFirst:
    """A loader without its first `count` batches."""

    def __init__(self, loader: DataLoader[Tensor], count: int) -> None:
        self.loader, self.count = loader, count

    def __iter__(self) -> Iterator[Tensor]:
        return islice(self.loader, self.count, None)
