"""Photographs for training and validation, through Hugging Face `datasets`."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from inverters.config import DataConfig
from inverters.errors import DataError, ImageError
from inverters.images import find_images, load_image, resize_shorter_side

BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}
PACKAGE = "package:"


class ImageDataModule(pl.LightningDataModule):
    """Random crops for training, whole images for validation.

    Training is counted in steps, not epochs: sample number k of a run, its place in the shuffled order, its crop and
    its flip are functions of the seed and k alone, so neither the number of workers nor an interruption changes what a
    step sees.

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
        """Opens both sets.

        Raises:
            DataError: a set does not exist, is empty, or has no such column.
        """
        config = self.config
        train = open_images(config.train, config.train_split, config.image_column, config.streaming)
        self.train: TrainingCrops | StreamedCrops
        if config.streaming:
            self.train = StreamedCrops(train, config, self.seed)
        else:
            self.train = TrainingCrops(train, config, self.seed)
        validation = open_images(config.validation, config.validation_split, config.image_column, streaming=False)
        limit = min(config.validation_limit or len(validation), len(validation))
        self.validation = WholeImages(validation.select(range(limit)), config)

    def train_dataloader(self) -> DataLoader[Tensor]:
        done = self.trainer.global_step if self.trainer else 0
        return self._train_loader(start=done * self.config.batch_size)

    def _train_loader(self, start: int = 0) -> DataLoader[Tensor]:
        config = self.config
        total = self.steps * config.batch_size
        sampler = None if config.streaming else ShuffledDraws(len(self.train), total, start, self.seed)
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
        return [batch for batch, _ in zip(self._train_loader(), range(count), strict=False)]

    def unreadable(self) -> int:
        """How many images of both sets could not be read so far."""
        return int(self.train.unreadable.sum() + self.validation.unreadable.sum())


class TrainingCrops(Dataset[Tensor]):
    """Random crops, by (sample number, index). An unreadable image is replaced by the next readable one."""

    def __init__(self, rows: datasets.Dataset, config: DataConfig, seed: int) -> None:
        self.rows, self.config, self.seed = rows, config, seed
        self.unreadable = torch.zeros(len(rows), dtype=torch.bool).share_memory_()  # workers write, the parent reads

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
        self.unreadable = torch.zeros(1024, dtype=torch.int64).share_memory_()  # a counter for each worker

    def __iter__(self) -> Iterator[Tensor]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        sample, epoch, unreadable = number, 0, 0
        while True:
            self.rows.set_epoch(epoch)
            readable = 0
            for row in self.rows:
                try:
                    image = read_image(row[self.config.image_column])
                except ImageError:
                    unreadable += epoch == 0
                    self.unreadable[number] = unreadable
                else:
                    yield crop_randomly(image, self.config, self.seed, sample)
                    sample += workers
                    readable += 1
            if readable == 0 and unreadable > 0:
                raise DataError(f"none of the {unreadable} images in {', '.join(self.config.train)} can be read")
            if readable == 0:
                return  # fewer shards than workers: this worker has none
            epoch += 1


class WholeImages(Dataset[Tensor]):
    """Whole images, 1×3×H×W; 0×3×1×1 where one cannot be read."""

    def __init__(self, rows: datasets.Dataset, config: DataConfig) -> None:
        self.rows, self.config = rows, config
        self.unreadable = torch.zeros(len(rows), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.rows)

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


def open_images(
    sources: Sequence[str], split: str, column: str, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of a data set whose `column` holds encoded images; decode them with `read_image`.

    Args:
        sources: image files, folders of images, parquet or webdataset (`.tar`) files or folders of them, glob patterns
            of any of these, `package:NAME/PATH` for what ships inside an installed Python package; or one hub id.
        split: which split of a hub data set; local files have none.
        column: for image files the name that the column gets.

    Raises:
        DataError: nothing is there, it cannot be read, or there is no such column.
    """
    files = [file for source in sources for file in _local_files(source)]
    try:
        if not files:
            rows = _from_hub(sources, split, streaming)
        elif builder := BUILDERS.get(files[0].suffix.lower()):
            names = [str(file) for file in files]
            rows = datasets.load_dataset(builder, data_files={"train": names}, split="train", streaming=streaming)
        else:
            rows = datasets.Dataset.from_dict({column: [str(file) for file in files]})
            rows = rows.to_iterable_dataset(num_shards=min(64, len(files))) if streaming else rows
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"cannot read {', '.join(sources)}: {_first_line(error)}") from None
    names = rows.column_names or list(next(iter(rows), {}))
    if column not in names:
        raise DataError(f"{', '.join(sources)} has no column {column!r}. Valid: {', '.join(names)}")
    return rows.cast_column(column, datasets.Image(decode=False))


def read_image(cell: dict[str, Any]) -> Tensor:
    """The image in a cell of an undecoded image column; raises ImageError."""
    return load_image(cell["bytes"] if cell["bytes"] is not None else cell["path"])


def _local_files(source: str) -> list[Path]:
    """The files that `source` stands for; none if it looks like a hub id."""
    path = Path(source).expanduser()
    if source.startswith(PACKAGE):
        package, _, inner = source.removeprefix(PACKAGE).partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise DataError(f"{source}: the Python package {package!r} is not installed")
        path = Path(spec.submodule_search_locations[0]) / inner
    if any(character in source for character in "*?["):
        files = sorted(file for file in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if file.is_file())
        if not files:
            raise DataError(f"no file matches {source}")
        return files
    if path.is_dir():
        shards = sorted(file for file in path.rglob("*") if file.suffix.lower() in BUILDERS)
        return [file for file in shards if file.suffix == shards[0].suffix] or find_images(path)
    if path.is_file():
        return [path]
    if path.suffix or source.count("/") > 1 or source.startswith((".", "/", "~", PACKAGE)):
        raise DataError(f"no such file or folder: {source}")
    return []


def _from_hub(sources: Sequence[str], split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    if len(sources) > 1:
        raise DataError(f"no such files: {', '.join(sources)}. More than one hub data set cannot be joined")
    try:
        return datasets.load_dataset(sources[0], split=split, streaming=streaming)
    except Exception as error:  # the hub client's errors come from several libraries
        raise DataError(
            f"{sources[0]!r} is no local file or folder, and as a data set of the hub it cannot be opened: "
            f"{_first_line(error)}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
