"""`invert train`: from a configuration to published decoders."""

import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelCheckpoint,
    ThroughputMonitor,
    WeightAveraging,
)
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from inverters.data.datamodule import ImageDataModule
from inverters.decoders.base import Decoder
from inverters.decoders.linear import fit_linear_decoders
from inverters.decoders.published import DecoderCard, find_checkpoints, load_decoder, publish_decoder
from inverters.devices import find_device, has_fast_bfloat16
from inverters.encoders.base import Encoder
from inverters.encoders.registry import create_encoder
from inverters.errors import DataError, TrainingError
from inverters.files import make_folder
from inverters.inversion.inverter import Inverter
from inverters.lightning import interruptible, make_trainer
from inverters.metrics import peak_signal_noise_ratio
from inverters.progress import quieten, with_progress
from inverters.training.callbacks import STOPPED, AtomicCheckpointIO, SaveOnSignal
from inverters.training.config import TrainConfig
from inverters.training.loggers import make_logger
from inverters.training.module import InversionModule
from inverters.training.resume import read_state

STATISTICS_IMAGES = 64
VERSIONED = ("inverters", "torch", "torchvision", "pytorch-lightning", "datasets")


def train(config: TrainConfig, output_dir: Path, resume: bool = False) -> list[Path]:
    """Makes a decoder for each layer of `config` and publishes it under `output_dir/checkpoints/`.

    `output_dir/state/` holds Lightning's checkpoints (`last.ckpt`, and the best by mean validation PSNR), from which
    `resume` continues; `output_dir/logs/` the TensorBoard and CSV logs. Linear decoders need neither.

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
        raise TrainingError(
            f"{output_dir} already holds a run: continue it with --resume, or name another --output-dir"
        )
    make_folder(output_dir)
    quieten()
    try:
        return _train(config, output_dir, last if resume else None)
    except DataError as error:  # one from a worker process has that process's traceback before it
        raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None


def _train(config: TrainConfig, output_dir: Path, last: Path | None) -> list[Path]:
    state = read_state(last, config) if last else None
    data = ImageDataModule(**config.data.model_dump(), steps=config.trainer.steps, seed=config.seed)
    data.setup()
    encoder = create_encoder(config.encoder.name, config.encoder.chosen_weights, config.encoder_layers)
    if config.objective == "linear":
        decoders, psnr = _fit_linear(config, encoder, data)
    else:
        decoders, psnr = _descend(config, encoder, data, output_dir, last, state)
    if unreadable := data.unreadable():
        rank_zero_info(f"warning: images that could not be read and were skipped: {unreadable}")
    return [
        publish_decoder(decoder, _card(config, encoder, decoder, psnr[layer]), output_dir / "checkpoints")
        for layer, decoder in decoders.items()
    ]


def _fit_linear(
    config: TrainConfig, encoder: Encoder, data: ImageDataModule
) -> tuple[Mapping[str, Decoder], dict[str, float]]:
    """Linear decoders, fitted to the crops that training would see, and their validation PSNR in dB."""
    device = _device(config.trainer.accelerator)
    batches = with_progress(data.train_dataloader(), config.trainer.steps)
    decoders = fit_linear_decoders(
        encoder.to(device), config.layers, batches, config.linear.kernel_size, config.linear.ridge
    )
    inverter = Inverter(encoder, decoders, device)
    psnr: dict[str, list[float]] = {layer: [] for layer in decoders}
    for images in data.val_dataloader():
        if len(images):  # else it is unreadable
            for layer, preds in inverter.reconstruct(images).items():
                psnr[layer].append(peak_signal_noise_ratio(preds.cpu(), images).item())
    return decoders, {layer: fmean(values) for layer, values in psnr.items()}


def _descend(
    config: TrainConfig,
    encoder: Encoder,
    data: ImageDataModule,
    output_dir: Path,
    last: Path | None,
    state: dict[str, Any] | None,
) -> tuple[Mapping[str, Decoder], dict[str, float]]:
    """Decoders trained by gradient descent, and their validation PSNR in dB; none but on rank zero."""
    module = InversionModule(config, encoder)
    if state is None:
        module.fit_statistics(data.first_images(STATISTICS_IMAGES))
    if state is None and config.decoder.initial:
        _start_from(Path(config.decoder.initial), module, encoder)

    trainer = _trainer(config, output_dir, state["global_step"] if state else 0)
    images = trainer.world_size * config.data.batch_size
    rates = "  ".join(f"{layer} {rate:.2g}" for layer, rate in module.learning_rates().items())
    rank_zero_info(f"{images} images a step on {trainer.world_size} devices; learning rates: {rates}")
    if state and state["global_step"] >= config.trainer.steps:  # it ended between training and publishing
        module.load_state_dict(state["state_dict"])
    else:
        _fit(trainer, module, data, last)
    if config.trainer.steps % config.trainer.validate_every or "psnr/mean" not in trainer.callback_metrics:
        trainer.validate(module, data, verbose=False)
    if not trainer.is_global_zero:
        return {}, {}
    decoders = {layer: decoder for layer, decoder in module.decoders.items() if isinstance(decoder, Decoder)}
    return decoders, {layer: float(trainer.callback_metrics[f"psnr/{layer}"]) for layer in decoders}


def _start_from(root: Path, module: InversionModule, encoder: Encoder) -> None:
    """Gives the module's decoders the weights, and the statistics, of those published under `root`.

    Raises:
        CheckpointError: there is none for a layer, or it belongs to another encoder.
        TrainingError: it has other sizes.
    """
    for layer, decoder in module.decoders.items():
        published = load_decoder(find_checkpoints(root) / f"{encoder.name}-{encoder.weights}" / layer, encoder)
        if published.arguments != decoder.arguments:
            raise TrainingError(
                f"the decoder of {layer} in {root} has the arguments {published.arguments}, that of the configuration "
                f" {decoder.arguments}"
            )
        decoder.load_state_dict(published.state_dict())


def _fit(trainer: pl.Trainer, module: InversionModule, data: ImageDataModule, last: Path | None) -> None:
    try:
        with interruptible(trainer):
            trainer.fit(module, data, ckpt_path=last, weights_only=True if last else None)
    except SIGTERMException:
        rank_zero_info(f"stopped at step {trainer.global_step}; continue with --resume")
        sys.exit(STOPPED)


def _trainer(config: TrainConfig, output_dir: Path, first_step: int) -> pl.Trainer:
    settings = config.trainer
    return make_trainer(
        settings.accelerator,
        settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        plugins=[AtomicCheckpointIO()],
        precision=_precision(settings.precision, settings.accelerator),
        max_steps=settings.steps,
        max_epochs=-1,
        val_check_interval=min(settings.validate_every, settings.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, settings.steps),
        logger=[make_logger(name, output_dir, first_step) for name in settings.loggers],
        callbacks=[
            WeightAveraging(avg_fn=_warmed_up_average(config.optimizer.ema_decay)),
            SaveOnSignal(output_dir / "state" / "last.ckpt"),
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
            ModelCheckpoint(
                output_dir / "state",
                filename="last",
                train_time_interval=timedelta(minutes=settings.checkpoint_minutes),
                enable_version_counter=False,
            ),
            *([LearningRateMonitor("step"), ThroughputMonitor(_count, separator="/")] if settings.loggers else []),
            *([DeviceStatsMonitor(cpu_stats=False)] if settings.loggers else []),
        ],
    )


def _count(images: Tensor) -> int:
    """How many images a batch counts as; that of an unreadable one is empty."""
    return max(1, len(images))


def _precision(precision: str, accelerator: str) -> Any:
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_fast_bfloat16(_device(accelerator)) else "32-true"


def _device(accelerator: str) -> torch.device:
    return find_device("cpu" if accelerator == "cpu" else "auto")


def _warmed_up_average(decay: float) -> Any:
    """An exponential moving average whose decay grows to `decay`, so that it soon forgets the initial weights."""

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        return averaged.lerp(current, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))

    return average


def _card(config: TrainConfig, encoder: Encoder, decoder: Decoder, psnr: float) -> DecoderCard:
    layer = decoder.layer.name
    return DecoderCard(
        encoder=encoder.name,
        weights=encoder.weights,
        fingerprint=encoder.fingerprint(layer),
        layer=layer,
        objective=config.objective,
        architecture="linear" if config.objective == "linear" else "conv",
        decoder=decoder.arguments,
        initial=config.decoder.initial,
        loss={"ridge": config.linear.ridge} if config.objective == "linear" else config.loss.model_dump(),
        data=config.data.model_dump(include={"train", "validation", "resize", "crop_size", "batch_size"}),
        steps=config.trainer.steps,
        seed=config.seed,
        versions={name: version(name) for name in VERSIONED},
        metrics={"psnr": round(psnr, 3)},
    )
