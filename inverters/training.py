"""`invert train`: from a configuration to published decoders."""

import logging
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from inverters.checkpoint import DecoderCard, publish_decoder
from inverters.config import TrainConfig
from inverters.data import ImageDataModule
from inverters.decoder import FeatureDecoder
from inverters.devices import find_device, has_fast_bfloat16
from inverters.encoder import VGGEncoder
from inverters.errors import TrainingError
from inverters.module import InversionModule

STATISTICS_BATCHES = 8
VERSIONED = ("inverters", "torch", "torchvision", "pytorch-lightning", "datasets")


def train(config: TrainConfig, output_dir: Path, resume: bool = False) -> list[Path]:
    """Trains a decoder for each layer of `config` and publishes it under `output_dir/checkpoints/`.

    `output_dir/state/` holds Lightning's checkpoints (`last.ckpt`, and the best by mean validation PSNR), from which
    `resume` continues; `output_dir/logs/` the TensorBoard and CSV logs.

    Returns:
        The folders of the published decoders.

    Raises:
        TrainingError: the folder holds another run, there is nothing to resume, or a loss is no longer finite.
        DataError, WeightsError, UnknownNameError: what the configuration names is not to be had.
    """
    last = output_dir / "state" / "last.ckpt"
    if resume and not last.is_file():
        raise TrainingError(f"nothing to resume: there is no {last}")
    if not resume and last.exists():
        raise TrainingError(f"{output_dir} already holds a run: continue it with --resume, or name another --output-dir")
    _quieten()

    data = ImageDataModule(config.data, config.trainer.steps, config.seed)
    data.setup()
    module = InversionModule(config, VGGEncoder(config.layers, config.encoder.name, config.encoder.weights))
    if not resume:
        module.fit_statistics(data.first_batches(STATISTICS_BATCHES))

    trainer = _trainer(config, output_dir)
    trainer.fit(module, data, ckpt_path=last if resume else None, weights_only=True if resume else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if unreadable := data.unreadable():
        rank_zero_warn(f"{unreadable} images could not be read and were skipped")
    if not trainer.is_global_zero:
        return []
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    return [
        publish_decoder(decoder, _card(config, module, decoder, metrics), output_dir / "checkpoints")
        for decoder in module.decoders.values()
        if isinstance(decoder, FeatureDecoder)
    ]


def _trainer(config: TrainConfig, output_dir: Path) -> pl.Trainer:
    settings = config.trainer
    terminal = sys.stderr.isatty()
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices or ("auto" if settings.accelerator != "cpu" else 1),
        precision=_precision(settings.precision, settings.accelerator),
        max_steps=settings.steps,
        max_epochs=-1,
        val_check_interval=min(settings.validate_every, settings.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, settings.steps),
        use_distributed_sampler=False,
        logger=[TensorBoardLogger(output_dir, name="logs", version=""), CSVLogger(output_dir, name="logs", version="")],
        callbacks=[
            WeightAveraging(avg_fn=_warmed_up_average(config.optimizer.ema_decay)),
            ModelCheckpoint(
                output_dir / "state",
                filename="best",
                monitor="psnr/mean",
                mode="max",
                enable_version_counter=False,
            ),
            ModelCheckpoint(
                output_dir / "state",
                filename="last",
                every_n_train_steps=settings.checkpoint_every,
                enable_version_counter=False,
            ),
            LearningRateMonitor("step"),
            TQDMProgressBar() if terminal else PlainProgress(),
        ],
        enable_progress_bar=terminal,
        enable_model_summary=False,
    )


def _precision(precision: str, accelerator: str) -> Any:
    if precision != "auto":
        return precision
    device = find_device("cpu" if accelerator == "cpu" else "auto")
    return "bf16-mixed" if has_fast_bfloat16(device) else "32-true"


def _warmed_up_average(decay: float) -> Any:
    """An exponential moving average whose decay grows to `decay`, so that it soon forgets the initial weights."""

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        return averaged.lerp(current, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))

    return average


def _card(config: TrainConfig, module: InversionModule, decoder: FeatureDecoder, metrics: dict[str, float]) -> DecoderCard:
    layer, encoder = decoder.layer.name, module.encoder
    return DecoderCard(
        encoder=encoder.name,
        weights=encoder.weights,
        fingerprint=encoder.fingerprint(layer),
        layer=layer,
        decoder={"stages": decoder.stages},
        loss=config.loss.model_dump(),
        data=config.data.model_dump(include={"train", "validation", "resize", "crop_size", "batch_size"}),
        steps=module.global_step,
        seed=config.seed,
        versions={name: version(name) for name in VERSIONED},
        metrics={"psnr": round(metrics[f"psnr/{layer}"], 3)},
    )


class PlainProgress(Callback):
    """A line now and then, where there is no terminal for a progress bar."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.started = self.shown = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int  # noqa: ARG002
    ) -> None:
        now, step, steps = time.monotonic(), trainer.global_step, trainer.max_steps
        if now - self.shown < self.seconds and step < steps:
            return
        self.shown = now
        pace = (now - self.started) / max(1, step - self.first_step)
        losses = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("loss/")}
        shown = "  ".join(f"{key.removeprefix('loss/')} {float(value):.5f}" for key, value in losses.items())
        rank_zero_info(
            f"step {step}/{steps}  {len(batch) * trainer.world_size / pace:.1f} images/s  "
            f"{pace * (steps - step) / 60:.0f} min left  loss: {shown}"
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        values = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("psnr/")}
        shown = "  ".join(f"{key.removeprefix('psnr/')} {float(value):.2f}" for key, value in values.items())
        rank_zero_info(f"step {trainer.global_step}  validation PSNR in dB: {shown}")


def _quieten() -> None:
    """Silences advice of the libraries that a user of `invert train` can do nothing with."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: not record.getMessage().startswith(("💡", "GPU available", "TPU available", "Using bfloat16", "`Trainer.fit`"))
    )
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*epoch parameter in `scheduler.step.*")
