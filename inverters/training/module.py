"""Training of several decoders at once, each independent of the others."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from inverters.decoders.base import Decoder, LayerDict, module_key
from inverters.decoders.published import as_published
from inverters.decoders.through import find_through, watch_predictions
from inverters.encoders.base import Encoder
from inverters.inversion.inverter import Inverter
from inverters.metrics import LARGEST_PSNR, peak_signal_noise_ratio
from inverters.training.config import TrainConfig
from inverters.training.discriminator import Discriminator, adversarial_losses
from inverters.training.divergence import diverged, norm, require_finite
from inverters.training.initial import feature_statistics, seeded
from inverters.training.losses import feature_loss, pixel_loss, total_variation
from inverters.training.optimizers import DISCRIMINATOR_LEARNING_RATE, make_optimizer, peak_learning_rates, schedule

CHECK_STEPS = 50  # between two checks that the losses are finite, for which the host waits for the device
STRIP_IMAGES = 4  # validation images shown in the log
SMALLEST_LOSS = 1e-10  # added before a logarithm: 100 dB

EncodeLayers = Callable[[Tensor, Collection[str]], dict[str, Tensor]]


class _Shared(list[Encoder]):
    """The encoder, which the module and its moving average share, without a copy each."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class InversionModule(pl.LightningModule):
    """One decoder for each layer of the configuration, trained on the features of one encoder pass.

    The decoders share nothing. Each has its own loss, with its own `Discriminator` where the loss has an adversarial
    term, and its own gradient clipping, and the optimizer treats every parameter by itself. So what a decoder becomes
    does not depend on which others train beside it.

    Attributes:
        candidates: during validation, the decoders as they would be published, by layer.
    """

    decoders: LayerDict[Decoder]
    discriminators: LayerDict[Discriminator]
    psnr: LayerDict[MeanMetric]
    validation_loss: LayerDict[MeanMetric]

    def __init__(self, config: TrainConfig, encoder: Encoder, decoders: Mapping[str, Decoder]) -> None:
        super().__init__()
        self.config = config
        # In a list, so that it is no submodule: not in checkpoints, not in DDP, not in the moving average.
        self._frozen = _Shared([encoder.to(memory_format=torch.channels_last)])
        self.decoders = LayerDict(decoders)
        opposed = config.layers if config.loss.adversarial else []
        self.discriminators = LayerDict({layer: self._new_discriminator(layer) for layer in opposed})
        self.to(memory_format=torch.channels_last)
        for other in {other for layer in config.layers for other in config.compared_layers(layer)}:
            channels = encoder.layers[other].channels
            self.register_buffer(f"std_{module_key(other)}", torch.ones(1, channels, 1, 1))
        self.psnr = LayerDict({layer: _mean() for layer in config.layers})
        scored = config.layers if config.objective == "perceptual" else []
        self.validation_loss = LayerDict({layer: _mean() for layer in scored})
        self.candidates: dict[str, Decoder] = {}
        through = {layer: found for layer, decoder in decoders.items() if (found := find_through(decoder))}
        self._targets = {layer: found.target.layer.name for layer, found in through.items()}
        self._encoded = [*dict.fromkeys([*config.encoder_layers, *self._targets.values()])]

    def _new_discriminator(self, layer: str) -> Discriminator:
        with seeded(self.config.seed, layer):
            return Discriminator()

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder, on the module's device."""
        return self._frozen[0].to(self.device)

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Set the mean and standard deviation of all features from `batches` of images, N×3×S×S each.

        Decoders that training does not start from scratch keep their own.
        """
        statistics = feature_statistics(self.encoder, self._encoded, batches)
        settings = self.config.decoder
        for layer, decoder in self.decoders.items():
            if settings.initial is None or settings.through:
                decoder.set_statistics(*statistics[layer])
            if settings.initial is None and (through := find_through(decoder)):
                through.target.set_statistics(*statistics[self._targets[layer]])
        for layer, (_, std) in statistics.items():
            if hasattr(self, f"std_{module_key(layer)}"):
                floor = 1e-6 * float(std.max()) + 1e-12
                self.get_buffer(f"std_{module_key(layer)}").copy_(std.view(1, -1, 1, 1).clamp_min(floor))

    # --- the loss ---

    def training_step(self, images: Tensor, batch_index: int) -> Tensor:  # noqa: ARG002
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            features = self.encoder(images, self._encoded)
        losses = {layer: self._loss(layer, images, features) for layer in self.decoders}
        step = self.global_step + 1
        if step % CHECK_STEPS == 0:
            require_finite("losses", losses, step)
        return torch.stack(list(losses.values())).sum()

    def _loss(self, layer: str, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """The loss of the layer's decoder, and of its discriminator, if it has one.

        That of a decoder with several steps is the sum of the logarithms of their losses, so that the gradients of
        steps with small errors are as large as those of others.
        """

        def encode(images: Tensor) -> Tensor:
            found: Tensor = self.encoder(images, [layer])[layer]
            return found

        decoder = self.decoders[layer]
        with watch_predictions(decoder) as predicted:
            steps = decoder.steps(features[layer], encode)
        trained = [step for step in steps if step.requires_grad]
        losses = [self._reconstruction_loss(layer, step, images, features, self.encoder) for step in trained]
        if (through := find_through(decoder)) and predicted[0].requires_grad:
            with torch.no_grad():
                target = through.target.prepare(features[self._targets[layer]])
            losses[0] = losses[0] + self.config.loss.through * pixel_loss(predicted[0], target)
        if weight := self.config.loss.adversarial:
            generator_loss, discriminator_loss = adversarial_losses(self.discriminators[layer], trained[-1], images)
            self.log(f"discriminator/{layer}", discriminator_loss.detach())
            losses[-1] = losses[-1] + weight * generator_loss
        self.log(f"loss/{layer}", losses[-1].detach())
        loss = losses[0] if len(steps) == 1 else (torch.stack(losses) + SMALLEST_LOSS).log().sum()
        if self.config.loss.adversarial:  # adds the gradient of the discriminator's loss, but not its value
            loss = loss + (discriminator_loss - discriminator_loss.detach())
        return loss

    def _reconstruction_loss(
        self, layer: str, preds: Tensor, images: Tensor, features: Mapping[str, Tensor], encode: EncodeLayers
    ) -> Tensor:
        """The loss without its adversarial term, which compares `preds` with the images and their features."""
        weights = self.config.loss
        loss = weights.pixel * pixel_loss(preds, images)
        compared = self.config.compared_layers(layer)
        weight_of = {other: weights.perceptual / len(compared) for other in compared}
        if weights.feature:
            weight_of[layer] = weight_of.get(layer, 0.0) + weights.feature
        if weight_of:
            found = encode(preds, list(weight_of))
            for other, weight in weight_of.items():
                std = self.decoders[layer].std if other == layer else self.get_buffer(f"std_{module_key(other)}")
                loss = loss + weight * feature_loss(found[other], features[other], std)
        if weights.total_variation:
            loss = loss + weights.total_variation * total_variation(preds)
        return loss

    # --- optimisation ---

    def configure_optimizers(self) -> Optimizer:
        discriminators = {f"discriminator/{layer}": network for layer, network in self.discriminators.items()}
        return make_optimizer(self.config.optimizer, {**self.decoders, **discriminators})

    def set_learning_rates(self, optimizer: Optimizer) -> None:
        """Set the learning rates of the next step."""
        peaks = peak_learning_rates(self.config.optimizer, dict(self.decoders.items()))
        factor = schedule(self.global_step, self.config.trainer.steps, self.config.optimizer.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = peaks.get(group["name"], DISCRIMINATOR_LEARNING_RATE) * factor

    def on_train_start(self) -> None:
        self.set_learning_rates(self.trainer.optimizers[0])

    def on_train_batch_end(self, *_: Any) -> None:
        self.set_learning_rates(self.trainer.optimizers[0])

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        largest = self.config.optimizer.gradient_clip
        for discriminator in self.discriminators.values():
            nn.utils.clip_grad_norm_(discriminator.parameters(), largest)
        norms = {
            layer: nn.utils.clip_grad_norm_(decoder.parameters(), largest) for layer, decoder in self.decoders.items()
        }
        self.log_dict({f"gradient_norm/{layer}": norm for layer, norm in norms.items()})

    # --- validation ---

    def on_validation_epoch_start(self) -> None:
        self.candidates = {layer: as_published(decoder) for layer, decoder in self.decoders.items()}
        require_finite(
            "weights", {layer: norm(decoder) for layer, decoder in self.candidates.items()}, self.global_step
        )

    def validation_step(self, images: Tensor, batch_index: int) -> None:
        """Measure the candidates by an `Inverter`, in its precision, as `invert predict` computes."""
        if len(images) == 0:  # an unreadable image
            return
        inverter = Inverter(self.encoder, self.candidates, self.device)
        reconstructions = inverter.reconstruct(images)
        for layer, preds in reconstructions.items():
            self.psnr[layer].update(peak_signal_noise_ratio(preds, images).clamp(max=LARGEST_PSNR))
        if self.validation_loss:
            features = inverter.encode(images, self.config.encoder_layers)
        for layer, metric in self.validation_loss.items():
            metric.update(self._reconstruction_loss(layer, reconstructions[layer], images, features, inverter.encode))
        if batch_index < STRIP_IMAGES:
            self._log_strip(batch_index, torch.cat([images, *reconstructions.values()], dim=-1)[0])

    def on_validation_epoch_end(self) -> None:
        psnr = {layer: metric.compute() for layer, metric in self.psnr.items()}
        if broken := [layer for layer, value in psnr.items() if value.isnan()]:
            raise diverged("reconstructions", broken, self.global_step)
        self.log_dict({f"psnr/{layer}": metric for layer, metric in self.psnr.items()})
        self.log("psnr/mean", torch.stack(list(psnr.values())).mean(), sync_dist=True)
        self.log_dict({f"validation_loss/{layer}": metric for layer, metric in self.validation_loss.items()})

    def on_validation_end(self) -> None:
        self.candidates = {}

    def _log_strip(self, number: int, strip: Tensor) -> None:
        """Log the original and its reconstructions side by side as an image, where there is a TensorBoard."""
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"reconstructions/{number}", strip.cpu(), self.global_step)

    # --- checkpoints ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what resuming needs, and refuse to save weights that are not finite.

        Weights that are not finite never become finite again, so the moving average is finite where they are.
        """
        for networks in (self.decoders, self.discriminators):
            require_finite("weights", {layer: norm(network) for layer, network in networks.items()}, self.global_step)
        checkpoint["config"] = self.config.model_dump(mode="json")
        checkpoint["decoders"] = {layer: decoder.description for layer, decoder in self.decoders.items()}


def _mean() -> MeanMetric:
    return MeanMetric(nan_strategy="disable")  # by default it would leave out what is not a number
