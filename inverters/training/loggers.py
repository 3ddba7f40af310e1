"""Where the curves of a run go, and how fast it is."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor

from inverters.errors import TrainingError

PROJECT = "inverters"  # the experiment's name on a server


def make_logger(name: str, output_dir: Path, first_step: int) -> Logger:
    """Create the logger `name` of the run in `output_dir`, which starts or resumes at `first_step`.

    `tensorboard` and `csv` write into `output_dir/logs/`. So does `wandb` if `$WANDB_MODE` is offline; otherwise it and
    `mlflow` send the curves to their servers, where the parts of a resumed run are separate runs.

    Raises:
        TrainingError: its package is not installed, or `$MLFLOW_TRACKING_URI` names no server.
    """
    logs, server = output_dir / "logs", os.environ.get("MLFLOW_TRACKING_URI")
    part = f"from-step-{first_step}" if first_step else ""
    makers: dict[str, Callable[[], Logger]] = {
        "tensorboard": lambda: TensorBoardLogger(logs, name="", version=""),
        "csv": lambda: CSVLogger(logs, name="", version=part),  # it empties its folder
        "wandb": lambda: WandbLogger(f"{output_dir.name} {part}".strip(), logs, project=PROJECT),
        "mlflow": lambda: MLFlowLogger(PROJECT, f"{output_dir.name} {part}".strip(), tracking_uri=server),
    }
    if name == "mlflow" and not server:
        raise TrainingError("the logger 'mlflow' needs a server: name it in $MLFLOW_TRACKING_URI")
    try:
        return makers[name]()
    except ModuleNotFoundError:
        raise TrainingError(f"the logger {name!r} is not installed: pip install 'inverters[{name}]'") from None


class Throughput(Callback):
    """Log the images per second since the last logged step or validation as `train/samples_per_sec`.

    Lightning's ThroughputMonitor waits for the device in every step.

    Args:
        steps: between two logged steps.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_start(self, *_: Any) -> None:
        self._restart()

    def on_validation_end(self, *_: Any) -> None:
        self._restart()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        del pl_module, outputs, batch_idx
        self.images += len(batch) * trainer.world_size
        if trainer.global_step % self.steps == 0:
            rate = self.images / (time.perf_counter() - self.start)
            for logger in trainer.loggers:
                logger.log_metrics({"train/samples_per_sec": rate}, trainer.global_step - 1)
            self._restart()

    def _restart(self) -> None:
        self.start, self.images = time.perf_counter(), 0
