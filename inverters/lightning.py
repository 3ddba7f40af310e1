"""Lightning's trainer as training and prediction use it."""

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.exceptions import SIGTERMException

from inverters.errors import InverterError
from inverters.progress import ProgressBar, ProgressLines, on_terminal


def make_trainer(
    accelerator: str,
    devices: int | None,
    *,
    callbacks: Sequence[pl.Callback] = (),
    plugins: Sequence[Any] = (),
    quiet: bool = False,
    **settings: Any,
) -> pl.Trainer:
    """Create Lightning's trainer, which shows its progress as a bar on a terminal and in plain lines elsewhere.

    Args:
        accelerator: auto, cpu, gpu or mps.
        devices: number on each node; None takes all GPUs, or one CPU.
        callbacks, plugins, settings: see `pytorch_lightning.Trainer`.
        quiet: show no progress.

    Raises:
        InverterError: the machine has no such devices, or the strategy does not fit them.
    """
    # Without this, Lightning would write its own checkpoint and requeue the job, which the job's script does.
    slurm = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    bar = on_terminal() and not quiet
    progress: list[pl.Callback] = [] if quiet else [ProgressBar() if bar else ProgressLines()]
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices or ("auto" if accelerator != "cpu" else 1),
            plugins=[*plugins, *slurm],
            callbacks=[*callbacks, *progress],
            enable_progress_bar=bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **settings,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        wanted = f"{devices or 'all'} devices of accelerator {accelerator!r}"
        raise InverterError(f"cannot run on {wanted}: {' '.join(str(error).split())}") from None


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, where Lightning would exit with a status of its own."""
    try:
        yield
    except SIGTERMException:
        raise
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


@atexit.register
def _leave_process_group() -> None:
    """Stop gloo's threads: one that still runs when the process ends aborts it. Lightning does so for NCCL only."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
