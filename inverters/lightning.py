"""What runs on one device or many share of Lightning's trainer."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.utilities.exceptions import SIGTERMException

from inverters.errors import InverterError
from inverters.progress import PlainProgress


def make_trainer(
    accelerator: str,
    devices: int | None,
    *,
    callbacks: Sequence[pl.Callback] = (),
    plugins: Sequence[Any] = (),
    **settings: Any,
) -> pl.Trainer:
    """Lightning's trainer, which shows its progress as a bar on a terminal and in plain lines elsewhere.

    Args:
        accelerator: auto, cpu, gpu or mps.
        devices: how many of each node; None takes all there are, of the CPU one.
        callbacks, plugins, settings: see `pytorch_lightning.Trainer`.

    Raises:
        InverterError: the machine has no such devices, or the strategy does not fit them.
    """
    # Lightning would write a checkpoint of its own and queue the job again; here the job's script does the latter.
    slurm = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    terminal = sys.stdout.isatty()  # where Lightning draws its bar
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices or ("auto" if accelerator != "cpu" else 1),
            plugins=[*plugins, *slurm],
            callbacks=[*callbacks, TQDMProgressBar() if terminal else PlainProgress()],
            enable_progress_bar=terminal,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **settings,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        wanted = f"{devices or 'all'} devices of accelerator {accelerator!r}"
        raise InverterError(f"cannot run on {wanted}: {' '.join(str(error).split())}") from None


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Lets Ctrl-C out as it came, where Lightning would exit with a status of its own."""
    try:
        yield
    except SIGTERMException:
        raise
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
