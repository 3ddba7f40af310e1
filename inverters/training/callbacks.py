"""What a run keeps: the moving average of its weights, the best decoders, and checkpoints to resume from."""

import io
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from inverters.data.workers import STOP_SIGNALS
from inverters.files import atomic_write, make_folder
from inverters.training.config import TrainConfig
from inverters.training.module import InversionModule

STOPPED = 128 + signal.SIGTERM  # exit status of a run that was asked to stop
AGREE_STEPS = 16  # between two agreements of several processes


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically.

    Lightning writes to the system's temporary folder first, which may be on another disk: its rename is a copy.

    Raises:
        OutputError: a checkpoint cannot be written; the one before it is still there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        content = io.BytesIO()
        torch.save(checkpoint, content)
        make_folder(Path(path).parent)
        atomic_write(Path(path), content.getvalue())


class MovingAverage(WeightAveraging):
    """An exponential moving average of the weights, which is what is validated and published.

    Its decay grows to `decay`, so that it soon forgets the initial weights. Lightning's own update reads the number of
    updates from the device in every step, and so waits for it.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert self._average_model is not None
        updates = trainer.global_step - 1
        decay = min(self.decay, (1 + updates) / (10 + updates)) if updates else 0.0
        averaged: list[Tensor] = list(self._average_model.module.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](pl_module.parameters()), 1 - decay)


class BestDecoders(Callback):
    """Keep of each layer the decoder that was best in validation, the initial one included.

    Decoders are independent, so each layer has its own best step. Best is the highest PSNR, or for objective perceptual
    the lowest loss. With an adversarial term, which no validation measures, it is the last decoder.

    Attributes:
        psnr: mean validation PSNR in dB by step, then by layer.
        best: by layer the `step`, `score`, `description` and `state` (the weights) of the best decoder.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.psnr: dict[int, dict[str, float]] = {}
        self.best: dict[str, dict[str, Any]] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, InversionModule)
        step, metrics = trainer.global_step, trainer.callback_metrics
        self.psnr[step] = {layer: float(metrics[f"psnr/{layer}"]) for layer in pl_module.candidates}
        for layer, decoder in pl_module.candidates.items():
            if self.config.loss.adversarial:
                score = float(step)
            elif self.config.objective == "perceptual":
                score = -float(metrics[f"validation_loss/{layer}"])
            else:
                score = self.psnr[step][layer]
            if layer not in self.best or score > self.best[layer]["score"]:
                state = {key: value.cpu() for key, value in decoder.state_dict().items()}
                self.best[layer] = {"step": step, "score": score, "description": decoder.description, "state": state}

    def state_dict(self) -> dict[str, Any]:
        return {"psnr": self.psnr, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.psnr, self.best = state_dict["psnr"], state_dict["best"]


class SaveOnSignal(Callback):
    """Save the state of the run every few steps and minutes, after the last step, and on SIGTERM or SIGUSR1.

    After a signal, to any of the run's processes, it also ends the run. Lightning would end it by the first signal
    without a checkpoint, and save one in the middle of a step by the second.

    A checkpoint of a step that is validated is saved after the validation, and so holds its results. Several processes
    agree every `AGREE_STEPS` steps on whether to save, since for that each waits for all others. Must come after the
    callbacks whose state it saves.

    Args:
        path: of the checkpoint.
        steps, minutes: between two checkpoints.
    """

    def __init__(self, path: Path, steps: int, minutes: float) -> None:
        self.path, self.steps, self.seconds = path, steps, 60 * minutes
        self.asked = False  # to stop, by a signal to this process
        self.stopping = False  # since one of the processes was asked to
        self.due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.saved = time.monotonic()
        process = os.getpid()

        def ask(number: int, _: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if not self.asked and launcher is not None and os.getpid() == process:
                launcher.kill(signal.Signals(number))  # passes it on to the processes that this one started
            self.asked = True

        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, ask)  # until Lightning restores the handlers from before the run

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step, agree = trainer.global_step, trainer.strategy.reduce_boolean_decision
        self.due |= step % self.steps == 0 or step >= trainer.max_steps
        if trainer.world_size == 1 or step % AGREE_STEPS == 0:
            overdue = time.monotonic() - self.saved > self.seconds
            if agree(self.asked or overdue, all=False):
                self.due, self.stopping = True, agree(self.asked, all=False)
        if self.due and not self._validates(trainer):
            self._save(trainer)

    def _validates(self, trainer: pl.Trainer) -> bool:
        """Whether a validation follows the step that has just ended."""
        return isinstance(trainer.val_check_batch, int) and trainer.global_step % trainer.val_check_batch == 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if self.due:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self.due, self.saved = False, time.monotonic()
        if self.stopping:
            raise SIGTERMException
