"""`invert predict` on several devices, of data sets, or into parquet files: by Lightning's predict loop."""

import os
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from inverters.data.images import load_image, resize_shorter_side
from inverters.data.sources import open_images, read_image
from inverters.errors import ImageError
from inverters.files import make_folder
from inverters.inversion.inverter import Inverter
from inverters.lightning import interruptible, make_trainer
from inverters.prediction.parquet import ParquetShards
from inverters.prediction.predict import invert, provenance_of
from inverters.prediction.writers import Folders, NamedImages, folder_names
from inverters.progress import quieten

NOTHING = -1  # the number of no image, for a process that has none to invert: Lightning wants one for each
AHEAD = 4  # images that are encoded and written while the next one is inverted


class Summary(NamedTuple):
    """Over all devices: images inverted, there before, and failed; and the mean PSNR in dB of the first by layer."""

    inverted: int
    existing: int
    failed: int
    psnr: dict[str, float]


class ImageFiles(NamedImages):
    """Image files, each named as `predict` names its folder."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files, self.names = files, folder_names(files)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, number: int) -> str:
        return self.names[number]

    def source(self, number: int) -> str:
        return str(self.files[number])

    def load(self, number: int) -> Tensor:
        """The image, 3×H×W; raises ImageError."""
        return load_image(self.files[number])


class ImageRows(NamedImages):
    """The images in a column of a data set, each named by its row.

    Raises:
        DataError: see `open_images`.
    """

    def __init__(self, data: str, split: str = "validation", column: str = "image") -> None:
        self.data = data
        self.rows: datasets.Dataset = open_images([data], split, column)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, number: int) -> str:
        return f"{number:08d}"

    def source(self, number: int) -> str:
        return f"{self.data} row {number}"

    def load(self, number: int) -> Tensor:
        """The image, 3×H×W; raises ImageError."""
        return read_image(self.rows[number])


def predict_all(
    images: ImageFiles | ImageRows,
    inverter: Inverter,
    output_dir: Path,
    *,
    format: Literal["png", "parquet"] = "png",
    size: int | None = 512,
    iterations: int = 0,
    tile: int | None = None,
    skip_existing: bool = False,
    accelerator: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
) -> Summary | None:
    """Inverts `images`, each on one of the devices, and writes for each what `predict` writes, or a row of a file.

    Args:
        images: what to invert.
        inverter, output_dir, size, iterations, tile: see `predict`.
        format: `png`, as `predict` writes them; or `parquet`, see `ParquetShards`.
        skip_existing: whether to pass over what is there already, made in the same way; so an interrupted run goes on.
        accelerator: auto, cpu, gpu or mps.
        devices: how many of each node; a process each.
        num_nodes: how many machines.

    Returns:
        What became of the images; None but on the first of the processes.

    Raises:
        InverterError: there are no such devices.
        OutputError: nothing can be written to `output_dir`. Whatever is wrong with one image is a line on stderr.
    """
    make_folder(output_dir)
    quieten()
    provenance = provenance_of(inverter, size, iterations)
    results: Folders | ParquetShards
    results = (Folders if format == "png" else ParquetShards)(images, provenance, output_dir)
    trainer = make_trainer(
        accelerator,
        devices,
        num_nodes=num_nodes,
        strategy="ddp" if devices * num_nodes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        inference_mode=False,  # L-BFGS needs gradients
    )
    module = _Predictor(inverter, results, iterations, tile)
    mine = _Images(images, results, size, skip_existing)
    try:
        with interruptible(trainer):
            trainer.predict(module, mine, return_predictions=False)
        totals = torch.cat([torch.tensor([mine.existing]), module.totals()])
    finally:
        results.abandon()
    # Also makes each process wait until all have written what they have.
    everywhere = trainer.strategy.reduce(totals.to(trainer.strategy.root_device), reduce_op="sum")
    existing, inverted, failed, *psnr = everywhere.tolist()
    if not trainer.is_global_zero:
        return None
    results.finish()
    means = {layer: value / inverted for layer, value in zip(provenance.layers, psnr, strict=True)} if inverted else {}
    return Summary(int(inverted), int(existing), int(failed), means)


class _Images(pl.LightningDataModule):
    """This process's part of the images."""

    def __init__(
        self, images: ImageFiles | ImageRows, results: Folders | ParquetShards, size: int | None, skip_existing: bool
    ) -> None:
        super().__init__()
        self.images, self.results, self.size, self.skip_existing = images, results, size, skip_existing

    def predict_dataloader(self) -> DataLoader[Any]:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size  # type: ignore[union-attr]
        chunk = self.results.chunk
        mine = [number for number in range(len(self.images)) if number // chunk % ranks == rank]
        left = [number for number in mine if not (self.skip_existing and self.results.exists(number))]
        self.existing = len(mine) - len(left)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, cores // self.trainer.num_devices - 1)  # type: ignore[union-attr]
        reader = _Reader(self.images, self.size)
        return DataLoader(reader, batch_size=None, sampler=left or [NOTHING], num_workers=workers)


class _Reader(Dataset[tuple[int, Any]]):
    """(number, image) by number; in the image's place the reason why there is none."""

    def __init__(self, images: ImageFiles | ImageRows, size: int | None) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[int, Tensor | str]:
        if number == NOTHING:
            return number, ""
        try:
            image = self.images.load(number)
        except ImageError as error:
            return number, str(error)
        return number, resize_shorter_side(image, self.size) if self.size else image


class _Predictor(pl.LightningModule):
    """Inverts one image at a time; others are encoded and written meanwhile."""

    def __init__(self, inverter: Inverter, results: Folders | ParquetShards, iterations: int, tile: int | None) -> None:
        super().__init__()
        self.inverter, self.results, self.iterations, self.tile = inverter, results, iterations, tile
        self.threads = ThreadPoolExecutor(AHEAD)
        self.pending: deque[tuple[int, Future[Any] | None]] = deque()
        self.inverted, self.failed = 0, 0
        self.psnr = torch.zeros(len(inverter.layers), dtype=torch.float64)  # the sums by layer

    def predict_step(self, batch: tuple[int, Tensor | str]) -> int:
        number, image = batch
        if number == NOTHING:
            return number
        if isinstance(image, str):
            print(f"error: {image}", file=sys.stderr)
            self.failed += 1
            self.pending.append((number, None))
        else:
            reconstructions, seconds = invert(image, self.inverter, self.iterations, self.tile)
            making = self.threads.submit(self.results.make, number, image.cpu(), reconstructions, seconds)
            self.pending.append((number, making))
        if len(self.pending) > AHEAD:
            self._finish_one()
        return number

    def _finish_one(self) -> None:
        number, made = self.pending.popleft()
        row, psnr = made.result() if made else (None, None)
        self.results.add(number, row)
        if psnr:
            self.inverted += 1
            self.psnr += torch.tensor(list(psnr.values()), dtype=torch.float64)

    def totals(self) -> Tensor:
        """Waits until everything is written; how many images were inverted and failed, and the sums of their PSNR."""
        while self.pending:
            self._finish_one()
        return torch.cat([torch.tensor([self.inverted, self.failed], dtype=torch.float64), self.psnr])
