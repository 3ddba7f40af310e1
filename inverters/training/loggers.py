"""Where a run's curves go."""

import os
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from inverters.errors import TrainingError

PROJECT = "inverters"  # the experiment's name on a server


def make_logger(name: str, output_dir: Path, first_step: int) -> Logger:
    """The logger of this name for the run in `output_dir`, which starts or goes on at `first_step`.

    `tensorboard` and `csv` write into `output_dir/logs/`. So does `wandb` where `$WANDB_MODE` is offline; otherwise it
    and `mlflow` send the curves to their servers, where the later part of an interrupted run is a run of its own.

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
