"""Progress of long work: a bar on a terminal, plain lines elsewhere, and no messages that no user can act on."""

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import datasets
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.utilities import rank_zero_info
from rich.console import Console
from rich.progress import track
from torch import Tensor

PLAIN_SECONDS = 30  # between two plain lines
IGNORED_MESSAGES = (
    *("💡", "GPU available", "TPU available", "Using bfloat16", "`Trainer.fit`"),
    *("Initializing distributed", "-----"),
    *("Restoring states", "Restored all states", "Found current_model_state"),
)
IGNORED_WARNINGS = (
    *("does not have many workers", "ended before the epoch ended", "directory .* exists and is not empty"),
    *("was called before the ``update`` method", "LeafSpec", "Total length of `DataLoader` across ranks is zero"),
)


def on_terminal() -> bool:
    """Whether progress, which goes to stderr, is shown on a terminal."""
    return sys.stderr.isatty()


def with_progress(batches: Iterable[Tensor], steps: int, quiet: bool = False) -> Iterator[Tensor]:
    """Yield the first `steps` batches, and show how many are done."""
    terminal, shown = on_terminal(), time.monotonic()
    console = Console(stderr=True)
    bar = track(islice(batches, steps), "fitting", steps, console=console, disable=quiet or not terminal)
    for step, batch in enumerate(bar, start=1):
        yield batch
        if not (quiet or terminal) and (step == steps or time.monotonic() - shown > PLAIN_SECONDS):
            shown = time.monotonic()
            rank_zero_info(f"step {step}/{steps}")


class ProgressBar(RichProgressBar):
    """Lightning's bar, on stderr, with the validation results above it."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, console_kwargs={"stderr": True})

    def get_metrics(self, *_: Any) -> dict[str, Any]:
        """Return none: the bar would wait for the device in every step to show them."""
        return {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.progress is not None and trainer.is_global_zero:
            self.progress.console.print(validation_line(trainer), highlight=False)

    def _get_train_description(self, current_epoch: int) -> str:  # noqa: ARG002
        return "Training"  # is counted in steps: an epoch is the whole run


class ProgressLines(Callback):
    """A line now and then, where there is no terminal for a progress bar."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.started = self.shown = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Tensor,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        now, step, steps = time.monotonic(), trainer.global_step, trainer.max_steps
        if now - self.shown < PLAIN_SECONDS and step < steps:
            return
        self.shown = now
        pace = (now - self.started) / max(1, step - self.first_step)
        losses = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("loss/")}
        shown = "  ".join(f"{key.removeprefix('loss/')} {float(value):.5f}" for key, value in losses.items())
        rank_zero_info(
            f"step {step}/{steps}  {len(batch) * trainer.world_size / pace:.1f} images/s  "
            f"{pace * (steps - step) / 60:.0f} min left  loss: {shown}"
        )

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.started = self.shown = time.monotonic()

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        now, done, images = time.monotonic(), batch_idx + 1, int(sum(trainer.num_predict_batches))
        if now - self.shown < PLAIN_SECONDS:
            return
        self.shown = now
        pace = (now - self.started) / done
        of_all = f" of the first of {trainer.world_size} processes" if trainer.world_size > 1 else ""
        rank_zero_info(
            f"image {done}/{images}{of_all}  {trainer.world_size / pace:.1f} images/s  "
            f"{pace * (images - done) / 60:.0f} min left"
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        rank_zero_info(validation_line(trainer))


def validation_line(trainer: pl.Trainer) -> str:
    """The mean validation PSNR of each layer at this step."""
    values = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("psnr/")}
    shown = "  ".join(f"{key.removeprefix('psnr/')} {float(value):.2f}" for key, value in values.items())
    return f"step {trainer.global_step}  validation PSNR in dB: {shown}"


def quieten(quiet: bool = False) -> None:
    """Hide the libraries' messages that no user can act on; with `quiet` all but warnings and errors."""
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.distributed"):
        logger = logging.getLogger(name)
        logger.addFilter(_is_news)
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if quiet or not on_terminal():
        datasets.disable_progress_bars()
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(IGNORED_MESSAGES)
