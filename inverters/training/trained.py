"""What a run made: its decoders, their quality, and how their weights are stored."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torchmetrics import MeanMetric

from inverters.decoders.base import Decoder
from inverters.decoders.card import Storage
from inverters.decoders.published import as_published
from inverters.encoders.base import Encoder
from inverters.inversion.error_quantiles import error_quantiles
from inverters.inversion.inverter import Inverter
from inverters.metrics import LARGEST_PSNR, peak_signal_noise_ratio

LARGEST_COST = 0.02  # dB that 8-bit weights may cost


class TrainedDecoder(NamedTuple):
    """A decoder that a run made.

    Attributes:
        decoder: as it is published, its weights rounded.
        psnr: its mean validation PSNR in dB.
        step: after which it was taken.
        history: the validation PSNR of the layer's decoder by step, with weights in half precision; empty for linear
            decoders.
        storage: of its weights.
        error_quantiles: see `DecoderCard`.
    """

    decoder: Decoder
    psnr: float
    step: int
    history: Mapping[int, float]
    storage: Storage = "float16"
    error_quantiles: tuple[float, ...] | None = None


def choose_storage(
    trained: Sequence[TrainedDecoder], encoder: Encoder, batches: Iterable[Tensor], device: torch.device
) -> list[TrainedDecoder]:
    """Round the weights of decoders to 8 bits, except where that costs `LARGEST_COST` or more.

    Args:
        trained: the decoders, their weights in half precision.
        encoder: whose features they decode.
        batches: the validation images; of several processes, each has its share.
        device: to compute on.
    """
    rounded = {made.decoder.layer.name: as_published(made.decoder, "int8") for made in trained}
    psnr = mean_psnr(Inverter(encoder, rounded, device), batches)
    cost = {made.decoder.layer.name: made.psnr - psnr[made.decoder.layer.name] for made in trained}
    rank_zero_info("8-bit weights cost, in dB: " + "  ".join(f"{layer} {value:.3f}" for layer, value in cost.items()))
    return [
        made._replace(decoder=rounded[layer], psnr=psnr[layer], storage="int8") if cost[layer] < LARGEST_COST else made
        for layer, made in zip(cost, trained, strict=True)
    ]


def add_quantiles(
    trained: Sequence[TrainedDecoder], encoder: Encoder, batches: Iterable[Tensor], device: torch.device
) -> list[TrainedDecoder]:
    """Measure how large the feature errors of decoders are among the validation images; takes the same arguments."""
    decoders = {made.decoder.layer.name: made.decoder for made in trained}
    quantiles = error_quantiles(Inverter(encoder, decoders, device), batches)
    return [made._replace(error_quantiles=quantiles[made.decoder.layer.name]) for made in trained]


def mean_psnr(inverter: Inverter, batches: Iterable[Tensor]) -> dict[str, float]:
    """The mean PSNR in dB of reconstructions, by layer, over the images of all processes."""
    means = {layer: MeanMetric(nan_strategy="disable").to(inverter.device) for layer in inverter.layers}
    for images in batches:
        if len(images):  # else it is unreadable
            target = images.to(inverter.device)
            for layer, preds in inverter.reconstruct(target).items():
                means[layer].update(peak_signal_noise_ratio(preds, target).clamp(max=LARGEST_PSNR))
    return {layer: mean.compute().item() for layer, mean in means.items()}
