"""`invert train`: from a configuration to published decoders."""

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from inverters.data.datamodule import ImageDataModule
from inverters.decoders.card import CARD_FILE, DecoderCard
from inverters.decoders.linear import fit_linear_decoders
from inverters.decoders.published import as_published, publish_decoder
from inverters.decoders.through import find_through
from inverters.encoders.base import Encoder
from inverters.encoders.registry import create_encoder
from inverters.errors import DataError, TrainingError
from inverters.inversion.inverter import Inverter
from inverters.lightning import interruptible
from inverters.locks import locked
from inverters.progress import quieten, with_progress
from inverters.training.callbacks import STOPPED, BestDecoders
from inverters.training.config import TrainConfig
from inverters.training.initial import find_initial, load_initial, new_decoders
from inverters.training.module import InversionModule
from inverters.training.optimizers import peak_learning_rates
from inverters.training.resume import read_state
from inverters.training.trained import TrainedDecoder, add_quantiles, choose_storage, mean_psnr
from inverters.training.trainer import last_checkpoint, training_device, training_trainer

CHECKPOINTS = "checkpoints"
STATISTICS_IMAGES = 64
VERSIONED = ("inverters", "torch", "torchvision", "pytorch-lightning", "datasets")


def train(
    config: TrainConfig, output_dir: Path, resume: bool = False, quiet: bool = False
) -> dict[Path, TrainedDecoder]:
    """Make a decoder for each layer of `config` and publish it under `output_dir/checkpoints/`.

    Published is the decoder that was best in validation, its weights as `choose_storage` says.
    `output_dir/state/last.ckpt` holds the state of the run, and `output_dir/logs/` its curves; linear decoders need
    neither.

    Args:
        config: of the run.
        output_dir: of its results.
        resume: continue the run in this folder.
        quiet: show no progress.

    Returns:
        The decoders by the folder that they are published in; none on other ranks than the first.

    Raises:
        TrainingError: the folder holds a run or decoders, there is nothing to resume, or a loss is no longer finite.
        CheckpointError: a decoder to start from is missing, damaged, or belongs to another encoder.
        DataError, WeightsError, UnknownNameError: what the configuration names cannot be found or downloaded.
    """
    last = last_checkpoint(output_dir)
    exists = os.path.isfile(last)  # noqa: PTH113 (Path.is_file raises where a name is too long)
    if resume and not exists:
        raise TrainingError(f"nothing to resume: there is no {last}")
    if not resume and exists:
        raise TrainingError(f"{output_dir} already holds a run: continue it with --resume, or use another --output-dir")
    quieten(quiet)
    try:
        with locked(output_dir) if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext():
            published = output_dir / CHECKPOINTS
            if not resume and any(published.glob(f"*/*/{CARD_FILE}")):
                raise TrainingError(f"{published} already holds decoders: use another --output-dir")
            return _train(config, output_dir, resume, quiet)
    except DataError as error:  # a worker process puts its traceback before the message
        raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None


def _train(config: TrainConfig, output_dir: Path, resume: bool, quiet: bool) -> dict[Path, TrainedDecoder]:
    state = read_state(last_checkpoint(output_dir), config) if resume else None
    data = ImageDataModule(
        **config.data.model_dump(), validation_crop=config.image_crop, steps=config.trainer.steps, seed=config.seed
    )
    data.setup()
    encoder = create_encoder(config.encoder.name, config.encoder.weights, config.encoder_layers)
    if config.objective == "linear":
        trained = _fit_linear(config, encoder, data, quiet)
    else:
        trained = _descend(config, encoder, data, output_dir, state, quiet)
    if unreadable := data.unreadable():
        rank_zero_info(f"warning: images that could not be read and were skipped: {unreadable}")
    root = output_dir / CHECKPOINTS
    return {publish_decoder(made.decoder, _card(config, encoder, made), root): made for made in trained}


def _fit_linear(config: TrainConfig, encoder: Encoder, data: ImageDataModule, quiet: bool) -> list[TrainedDecoder]:
    """Fit linear decoders to the crops that training would see."""
    device = training_device(config.trainer.accelerator)
    batches = with_progress(data.train_dataloader(), config.trainer.steps, quiet)
    fitted = fit_linear_decoders(
        encoder.to(device),
        config.layers,
        batches,
        config.linear.kernel_size,
        config.linear.ridge,
        config.data.crop_size,
    )
    decoders = {layer: as_published(decoder) for layer, decoder in fitted.items()}
    psnr = mean_psnr(Inverter(encoder, decoders, device), data.val_dataloader())
    trained = [TrainedDecoder(decoder, psnr[layer], config.trainer.steps, {}) for layer, decoder in decoders.items()]
    trained = choose_storage(trained, encoder, data.val_dataloader(), device)
    return add_quantiles(trained, encoder, data.val_dataloader(), device)


def _descend(
    config: TrainConfig,
    encoder: Encoder,
    data: ImageDataModule,
    output_dir: Path,
    state: Mapping[str, Any] | None,
    quiet: bool,
) -> list[TrainedDecoder]:
    """Train decoders by gradient descent, and return the best of each layer; none on other ranks than the first."""
    module, best = _new_module(config, encoder, data, state), BestDecoders(config)
    trainer = training_trainer(config, best, output_dir, state["global_step"] if state else 0, quiet)
    images = trainer.world_size * config.data.batch_size
    peaks = peak_learning_rates(config.optimizer, dict(module.decoders.items()))
    rates = "  ".join(f"{layer} {rate:.2g}" for layer, rate in peaks.items())
    rank_zero_info(f"{images} images per step on {trainer.world_size} devices; learning rates: {rates}")
    try:
        with interruptible(trainer):
            if state is None:
                trainer.validate(module, data, verbose=False)
            trainer.fit(module, data, ckpt_path=last_checkpoint(output_dir) if state else None, weights_only=True)
            if config.trainer.steps not in best.psnr:
                trainer.validate(module, data, verbose=False)
    except SIGTERMException:
        rank_zero_info(f"stopped at step {trainer.global_step}; continue with --resume")
        sys.exit(STOPPED)
    trained = _best_decoders(config, encoder, best)
    device = trainer.strategy.root_device
    trained = choose_storage(trained, encoder, data.val_dataloader(), device)
    trained = add_quantiles(trained, encoder, data.val_dataloader(), device)
    return trained if trainer.is_global_zero else []


def _new_module(
    config: TrainConfig, encoder: Encoder, data: ImageDataModule, state: Mapping[str, Any] | None
) -> InversionModule:
    """The module at the start of the run, or with the architecture of the run that is resumed."""
    if state is not None:
        return InversionModule(config, encoder, new_decoders(config, encoder, state.get("decoders")))
    folders = find_initial(config, encoder)
    for layer, folder in folders.items():
        rank_zero_info(f"{layer} starts from {folder}")
    initial = {layer: load_initial(layer, folder, config, encoder) for layer, folder in folders.items()}
    module = InversionModule(config, encoder, initial or new_decoders(config, encoder))
    module.fit_statistics(data.first_images(STATISTICS_IMAGES))
    return module


def _best_decoders(config: TrainConfig, encoder: Encoder, best: BestDecoders) -> list[TrainedDecoder]:
    trained = []
    decoders = new_decoders(config, encoder, {layer: kept["description"] for layer, kept in best.best.items()})
    for layer, decoder in decoders.items():
        kept = best.best[layer]
        decoder.load_state_dict(kept["state"])
        history = {step: psnr[layer] for step, psnr in best.psnr.items()}
        trained.append(TrainedDecoder(decoder, history[kept["step"]], kept["step"], history))
    return trained


def _card(config: TrainConfig, encoder: Encoder, made: TrainedDecoder) -> DecoderCard:
    linear, layer = config.objective == "linear", made.decoder.layer.name
    unused = set() if find_through(made.decoder) else {"through"}
    return DecoderCard(
        encoder=encoder.name,
        weights=encoder.weights,
        fingerprint=encoder.fingerprint(layer),
        layer=layer,
        objective=config.objective,
        architecture=made.decoder.architecture,
        decoder=made.decoder.arguments,
        initial=None if linear else config.decoder.initial,
        storage=made.storage,
        loss={"ridge": config.linear.ridge} if linear else config.loss.model_dump(exclude=unused),
        data=config.data.model_dump(include={"train", "validation", "resize", "scale", "crop_size", "batch_size"}),
        steps=made.step,
        seed=config.seed,
        versions={name: version(name) for name in VERSIONED},
        metrics={"psnr": round(made.psnr, 3)},
        error_quantiles=made.error_quantiles,
    )
