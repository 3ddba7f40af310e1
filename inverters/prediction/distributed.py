"""Predicting on several devices and machines: Lightning starts the processes and gives each its part of the images."""

import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from inverters.errors import printable
from inverters.lightning import interruptible, make_trainer
from inverters.locks import locked
from inverters.prediction.pipeline import Item, Pipeline, Reader
from inverters.prediction.summary import Summary
from inverters.prediction.writers import Failure, Prediction
from inverters.progress import quieten

NO_IMAGE = -1  # placeholder index for ranks without images: Lightning wants a batch for each rank


def predict_distributed(
    pipeline: Pipeline, *, accelerator: str = "auto", devices: int = 1, num_nodes: int = 1, quiet: bool = False
) -> Summary | None:
    """Invert every image of the pipeline, each on one of the devices.

    Args:
        pipeline: its runners are moved to the devices.
        accelerator: auto, cpu, gpu or mps.
        devices: number of devices on each node, with a process each.
        num_nodes: number of machines.
        quiet: show no progress.

    Returns:
        Counts and mean PSNR over all processes; None except on the first process.

    Raises:
        InverterError: there are no such devices.
        OutputError: results cannot be written, or another run writes there. What is wrong with a single image is
            printed on stderr.
    """
    quieten(quiet)
    trainer = make_trainer(
        accelerator,
        devices,
        num_nodes=num_nodes,
        quiet=quiet,
        strategy="ddp" if devices * num_nodes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        inference_mode=False,  # L-BFGS needs gradients
    )
    module = _Predictor(pipeline)
    writer = pipeline.reader.writer
    with locked(writer.output_dir) if trainer.is_global_zero else nullcontext():
        try:
            with interruptible(trainer):
                trainer.predict(module, _Images(pipeline.reader), return_predictions=False)
            module.count_rest()
        finally:
            pipeline.close()
        summaries = _gather(module.summary)  # also waits until every process has written its results
        if not trainer.is_global_zero:
            return None
        writer.close()
    total = Summary()
    for summary in summaries:
        total.merge(summary)
    return total


def _gather(summary: Summary) -> list[Summary]:
    """The summaries of all processes, gathered as Python objects because not every device has float64."""
    if not torch.distributed.is_initialized():
        return [summary]
    summaries: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(summaries, summary)
    return summaries


class _Images(pl.LightningDataModule):
    """This rank's part of the images."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def predict_dataloader(self) -> DataLoader[Any]:
        trainer: Any = self.trainer
        chunk = self.reader.writer.chunk
        indices = [
            index
            for index in range(len(self.reader.images))
            if index // chunk % trainer.world_size == trainer.global_rank
        ]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, cores // trainer.num_devices - 1)
        return DataLoader(
            _ItemDataset(self.reader), batch_size=None, sampler=indices or [NO_IMAGE], num_workers=workers
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """No-op: runners move images to their device."""
        return batch


class _ItemDataset(Dataset[tuple[int, Item | None]]):
    """What `Reader.read` returns, with its index."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader.images)

    def __getitem__(self, index: int) -> tuple[int, Item | None]:
        return index, None if index == NO_IMAGE else self.reader.read(index)


class _Predictor(pl.LightningModule):
    """Passes images through a pipeline and counts the results."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self.inverters = nn.ModuleList(runner.inverter for runner in pipeline.runners)  # which Lightning moves
        self.pipeline = pipeline
        self.summary = Summary()

    def predict_step(self, batch: tuple[int, Item | None]) -> int:
        index, item = batch
        if item is not None:
            self._count(self.pipeline.process(index, item))
        return index

    def count_rest(self) -> None:
        """Wait until everything is written."""
        self._count(self.pipeline.drain())

    def _count(self, results: Iterable[Prediction | Failure]) -> None:
        for result in results:
            self.summary.add(result)
            if isinstance(result, Failure):
                print(f"error: {printable(result.reason)}", file=sys.stderr)
