"""Training of several decoders at once, each independent of the others."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchmetrics import MeanMetric

from inverters.data.images import pad_to_multiple
from inverters.decoders.base import LayerDict, module_key
from inverters.decoders.convolutional import ConvDecoder
from inverters.encoders.base import Encoder
from inverters.errors import TrainingError
from inverters.metrics import peak_signal_noise_ratio
from inverters.training.config import TrainConfig
from inverters.training.discriminator import Discriminator, adversarial_losses
from inverters.training.losses import feature_loss, pixel_loss, total_variation

# Adam's largest stable learning rate falls as 1/width (Yang et al. 2021, "Tensor Programs V"): the configured rate is
# that of a decoder of this width. With one rate for all, relu5_2 diverged while relu1_2 crept.
LEARNING_RATE_WIDTH = 64
DISCRIMINATORS_LEARNING_RATE = 2e-4  # that of Dosovitskiy & Brox 2016
STRIP_IMAGES = 4  # validation images shown in the log


class _Shared(list[Encoder]):
    """What the moving average's copy of the module shares with the module."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class InversionModule(pl.LightningModule):
    """One decoder for each layer of the configuration, trained on the features of one encoder pass.

    The decoders share nothing: each has its own initial seed, its own loss (with its own `Discriminator` that learns
    along, where the loss has an adversarial term) and its own gradient clipping, and the optimizers treat every
    parameter by itself: AdamW, or Muon (Jordan et al. 2024), which orthogonalises the updates of convolutions, scaled
    so that AdamW's learning rates hold (Liu et al. 2025), and leaves biases to AdamW, both with Nesterov momentum. So
    what a decoder becomes does not depend on which others train beside it.
    """

    def __init__(self, config: TrainConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        # In a list, so that it is no submodule: not in checkpoints, not in DDP, not in the moving average.
        self._frozen = _Shared([encoder.to(memory_format=torch.channels_last)])
        self.decoders = LayerDict({layer: self._seeded_decoder(layer) for layer in config.layers})
        opposed = config.layers if config.loss.adversarial else []
        self.discriminators = LayerDict({layer: self._seeded_discriminator(layer) for layer in opposed})
        self.to(memory_format=torch.channels_last)
        for other in {other for layer in config.layers for other in config.compared_layers(layer)}:
            channels = encoder.layers[other].channels
            self.register_buffer(f"std_{module_key(other)}", torch.ones(1, channels, 1, 1))
        self.psnr = LayerDict({layer: MeanMetric() for layer in config.layers})

    def _seeded_decoder(self, layer: str) -> ConvDecoder:
        of_encoder, sizes = self._frozen[0].layers[layer], self.config.decoder
        stages = sizes.stages.get(of_encoder.spatial_stride)
        with self._seeded(layer):
            return ConvDecoder(of_encoder, stages, sizes.log_compress)

    def _seeded_discriminator(self, layer: str) -> Discriminator:
        with self._seeded(layer):
            return Discriminator()

    @contextmanager
    def _seeded(self, layer: str) -> Iterator[None]:
        """Draws the initial weights of the layer's networks from a seed of their own."""
        digest = hashlib.sha256(f"{self.config.seed} {layer}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest[:8]) >> 1)
            yield

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder, on the module's device."""
        return self._frozen[0].to(self.device)

    @torch.no_grad()
    def fit_statistics(self, batches: list[Tensor]) -> None:
        """Sets the mean and standard deviation of all features from `batches` of images, N×3×S×S each."""
        layers = self.config.encoder_layers
        sums = {layer: torch.zeros(2, self.encoder.layers[layer].channels, dtype=torch.float64) for layer in layers}
        counts = dict.fromkeys(layers, 0)
        for images in batches:
            for layer, features in self.encoder(images, layers).items():
                values = features.double().transpose(0, 1).flatten(1)  # C×(N·h·w)
                sums[layer] += torch.stack([values.sum(1), values.square().sum(1)]).cpu()
                counts[layer] += values.shape[1]
        for layer, (total, squares) in sums.items():
            mean = total / counts[layer]
            std = (squares / counts[layer] - mean.square()).clamp_min(0).sqrt()
            if layer in self.decoders:
                self.decoders[layer].set_statistics(mean.float(), std.float())
            if hasattr(self, f"std_{module_key(layer)}"):
                self.get_buffer(f"std_{module_key(layer)}").copy_(
                    std.view(1, -1, 1, 1).clamp_min(1e-6 * float(std.max()) + 1e-12)
                )

    def training_step(self, images: Tensor, batch_index: int) -> Tensor:  # noqa: ARG002
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            features = self.encoder(images, self.config.encoder_layers)
        losses = {layer: self._loss(layer, images, features) for layer in self.decoders}
        total = torch.stack(list(losses.values()))
        if not total.isfinite().all():
            raise self._diverged("loss", losses)
        self.log_dict({f"loss/{layer}": loss.detach() for layer, loss in losses.items()})
        return total.sum()

    def _loss(self, layer: str, images: Tensor, features: dict[str, Tensor]) -> Tensor:
        decoder, weights = self.decoders[layer], self.config.loss
        preds = decoder(features[layer])
        loss = weights.pixel * pixel_loss(preds, images)
        compared = self.config.compared_layers(layer)
        weight_of = {other: weights.perceptual / len(compared) for other in compared}
        if weights.feature:
            weight_of[layer] = weight_of.get(layer, 0.0) + weights.feature
        if weight_of:
            found = self.encoder(preds, list(weight_of))
            for other, weight in weight_of.items():
                std = decoder.std if other == layer else self.get_buffer(f"std_{module_key(other)}")
                loss = loss + weight * feature_loss(found[other], features[other], std)
        if weights.total_variation:
            loss = loss + weights.total_variation * total_variation(preds)
        if weights.adversarial:
            discriminator: Discriminator = self.discriminators[layer]
            generator_loss, discriminator_loss = adversarial_losses(discriminator, preds, images)
            self.log(f"discriminator/{layer}", discriminator_loss.detach())
            loss = loss + weights.adversarial * generator_loss
            loss = loss + (
                discriminator_loss - discriminator_loss.detach()
            )  # its gradient is the discriminator's; the loss stays
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,  # noqa: ARG002
        gradient_clip_val: float | None = None,  # noqa: ARG002
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        largest = self.config.optimizer.gradient_clip
        for discriminator in self.discriminators.values():
            nn.utils.clip_grad_norm_(discriminator.parameters(), largest)
        norms = {
            layer: nn.utils.clip_grad_norm_(decoder.parameters(), largest) for layer, decoder in self.decoders.items()
        }
        if not torch.stack(list(norms.values())).isfinite().all():
            raise self._diverged("gradient", norms)
        self.log_dict({f"gradient_norm/{layer}": norm for layer, norm in norms.items()})

    def _diverged(self, what: str, values: dict[str, Tensor]) -> TrainingError:
        layers = ", ".join(layer for layer, value in values.items() if not value.isfinite())
        return TrainingError(
            f"the {what} of {layers} is no longer finite at step {self.global_step + 1}. The checkpoints of earlier "
            "steps are kept; train anew with a lower optimizer.learning_rate, in another --output-dir"
        )

    def learning_rates(self) -> dict[str, float]:
        """The largest that each layer's decoder is trained at."""
        rate = self.config.optimizer.learning_rate
        return {layer: rate * LEARNING_RATE_WIDTH / decoder.stages[0][0] for layer, decoder in self.decoders.items()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings, steps = self.config.optimizer, self.config.trainer.steps
        groups = [
            {"name": layer, "params": list(self.decoders[layer].parameters()), "lr": rate}
            for layer, rate in self.learning_rates().items()
        ]
        groups += [
            {"name": f"discriminator/{layer}", "params": list(network.parameters()), "lr": DISCRIMINATORS_LEARNING_RATE}
            for layer, network in self.discriminators.items()
        ]
        optimizer: Optimizer
        if settings.algorithm == "muon":
            optimizer = Muon(groups, weight_decay=settings.weight_decay, nesterov=True)
        else:
            optimizer = AdamW(groups, weight_decay=settings.weight_decay)
        warmup = max(1, min(settings.warmup_steps, steps - 1))
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps - warmup)),
            ],
            milestones=[warmup],
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, images: Tensor, batch_index: int) -> None:
        if len(images) == 0:  # an unreadable image
            return
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.encoder.input_multiple).contiguous(memory_format=torch.channels_last)
        features = self.encoder(padded, self.config.layers)
        strip = [images]
        for layer, decoder in self.decoders.items():
            preds = decoder(features[layer])[..., :height, :width].float()
            self.psnr[layer].update(peak_signal_noise_ratio(preds, images))
            strip.append(preds.clamp(0, 1))
        if batch_index < STRIP_IMAGES:
            self._log_strip(batch_index, torch.cat(strip, dim=-1)[0])

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"psnr/{layer}": metric for layer, metric in self.psnr.items()})
        values = torch.stack([metric.compute() for metric in self.psnr.values()])
        self.log("psnr/mean", values.mean(), prog_bar=True, sync_dist=True)

    def _log_strip(self, number: int, strip: Tensor) -> None:
        """The original and its reconstructions side by side, as an image in TensorBoard."""
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"reconstructions/{number}", strip.cpu(), self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration, and refuses weights that would replace good ones by useless ones."""
        norms = {
            layer: nn.utils.get_total_norm(decoder.parameters()).detach() for layer, decoder in self.decoders.items()
        }
        if not all(norm.isfinite() for norm in norms.values()):
            raise self._diverged("norm of the weights", norms)
        checkpoint["config"] = self.config.model_dump(mode="json")
