"""Lightning's trainer, as a configuration describes it."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor

from inverters.devices import find_device, has_fast_bfloat16
from inverters.lightning import make_trainer
from inverters.training.callbacks import AtomicCheckpointIO, BestDecoders, MovingAverage, SaveOnSignal
from inverters.training.config import TrainConfig
from inverters.training.loggers import Throughput, make_logger

LOG_STEPS = 50


def last_checkpoint(output_dir: Path) -> Path:
    """The checkpoint that the run in `output_dir` is resumed from."""
    return output_dir / "state" / "last.ckpt"


def training_trainer(
    config: TrainConfig, best: BestDecoders, output_dir: Path, first_step: int, quiet: bool
) -> pl.Trainer:
    """Create the trainer of a run.

    Args:
        config: of the run.
        best: keeps its best decoders.
        output_dir: of its checkpoint and its logs.
        first_step: that it starts or resumes at.
        quiet: whether to show no progress.

    Raises:
        InverterError: the machine has no such devices.
        TrainingError: a logger cannot be used.
    """
    settings = config.trainer
    save = SaveOnSignal(last_checkpoint(output_dir), settings.checkpoint_every, settings.checkpoint_minutes)
    log_every = min(LOG_STEPS, settings.steps)
    monitors: list[Callback] = [LearningRateMonitor("step"), Throughput(log_every), DeviceStatsMonitor(cpu_stats=False)]
    return make_trainer(
        settings.accelerator,
        settings.devices,
        quiet=quiet,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        plugins=[AtomicCheckpointIO()],
        precision=_precision(settings.precision, settings.accelerator),
        max_steps=settings.steps,
        max_epochs=-1,
        val_check_interval=min(settings.validate_every, settings.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        logger=[make_logger(name, output_dir, first_step) for name in settings.loggers],
        enable_checkpointing=False,
        inference_mode=False,  # the first validation moves the encoder to the device, and training needs it there
        callbacks=[
            MovingAverage(config.optimizer.ema_decay),
            best,
            save,
            *(monitors if settings.loggers else []),
        ],
    )


def training_device(accelerator: str) -> torch.device:
    """The device of one process of a run."""
    return find_device("cpu" if accelerator == "cpu" else "auto")


def _precision(precision: str, accelerator: str) -> Any:
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_fast_bfloat16(training_device(accelerator)) else "32-true"
