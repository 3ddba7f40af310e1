"""What a run keeps when it is interrupted: checkpoints written whole, and one more when it is asked to stop."""

import io
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

from inverters.data.workers import STOP_SIGNALS
from inverters.files import atomic_write, make_folder

STOPPED = 128 + signal.SIGTERM  # the status of a run that was asked to stop, and did


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writes to the system's temporary folder first, which may be on another disk: no rename is whole.

    Raises:
        OutputError: a checkpoint cannot be written; the one before it is still there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        content = io.BytesIO()
        torch.save(checkpoint, content)
        make_folder(Path(path).parent)
        atomic_write(Path(path), content.getvalue())


class SaveOnSignal(Callback):
    """On SIGTERM or SIGUSR1, to any of the run's processes, the step is finished, a checkpoint saved, the run ended.

    Lightning would end the run by the first without a checkpoint, and save one in the middle of a step by the second.
    Comes after the callbacks that do something at the end of a step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        process = os.getpid()

        def ask(number: int, _: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if not self.asked and launcher is not None and os.getpid() == process:
                launcher.kill(signal.Signals(number))  # hands it on to the processes that this one started
            self.asked = True

        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, ask)  # until Lightning restores what was there before the run

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.save_checkpoint(self.path)
            raise SIGTERMException
