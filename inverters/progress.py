"""What a user sees of a long run: a bar on a terminal, plain lines elsewhere, and no chatter of libraries."""

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import datasets
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from rich.progress import track
from torch import Tensor

PLAIN_SECONDS = 30  # between two lines, where there is no terminal for a progress bar
LIGHTNING_CHATTER = (
    *("💡", "GPU available", "TPU available", "Using bfloat16", "`Trainer.fit`"),
    *("Initializing distributed", "-----"),
    *("Restoring states", "Restored all states", "Found current_model_state"),
)


def with_progress(batches: Iterable[Tensor], steps: int) -> Iterator[Tensor]:
    """The first `steps` batches, with a progress bar on a terminal and a line now and then elsewhere."""
    terminal, shown = sys.stdout.isatty(), time.monotonic()
    for step, batch in enumerate(track(islice(batches, steps), "fitting", steps, disable=not terminal), start=1):
        yield batch
        if not terminal and (step == steps or time.monotonic() - shown > PLAIN_SECONDS):
            shown = time.monotonic()
            rank_zero_info(f"step {step}/{steps}")


class PlainProgress(Callback):
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
        values = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("psnr/")}
        shown = "  ".join(f"{key.removeprefix('psnr/')} {float(value):.2f}" for key, value in values.items())
        rank_zero_info(f"step {trainer.global_step}  validation PSNR in dB: {shown}")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a user of `invert train` can do anything with this message of Lightning's."""
    return not record.getMessage().startswith(LIGHTNING_CHATTER)


def quieten() -> None:
    """Silences advice of the libraries that a user of `invert train` can do nothing with."""
    for logger in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.distributed"):
        logging.getLogger(logger).addFilter(_is_news)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*ended before the epoch ended.*")
    warnings.filterwarnings("ignore", message=".*directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*you need to define a `flops_per_batch` attribute.*")
    warnings.filterwarnings("ignore", message=".*was called before the ``update`` method.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*epoch parameter in `scheduler.step.*")
