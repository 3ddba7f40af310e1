"""The scores of a reconstruction: which there are, how they are shown, how they are computed."""

from collections.abc import Collection
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from inverters import metrics
from inverters.data.images import round_to_8_bits
from inverters.encoders.base import Encoder
from inverters.encoders.classes import Classifier
from inverters.encoders.network import NetworkEncoder
from inverters.encoders.registry import create_encoder
from inverters.evaluation.profiling import with_memory

JUDGE = "efficientnet-lite0"


class Metric(NamedTuple):
    """How a metric is shown: title, unit, number format, whether higher is better, and a definition."""

    title: str
    unit: str
    format: str
    higher_is_better: bool
    meaning: str

    @property
    def label(self) -> str:
        """`PSNR (dB)`, or the title alone where there is no unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = {
    "psnr": Metric("PSNR", "dB", ".2f", True, "Peak signal-to-noise ratio of the 8-bit image."),
    "ssim": Metric("SSIM", "", ".3f", True, "Structural similarity (Wang et al. 2004); 1 is perfect."),
    "ms_ssim": Metric("MS-SSIM", "", ".3f", True, "Structural similarity over five scales (Wang et al. 2003)."),
    "lpips": Metric("LPIPS", "", ".3f", False, "Perceptual distance in AlexNet (Zhang et al. 2018); 0 is perfect."),
    "feature_error": Metric(
        "Feature error", "", ".4f", False, "‖φ(x̂) − φ(x)‖ / ‖φ(x)‖ at the layer itself, of the 8-bit image."
    ),
    "normalized_error": Metric(
        "Normalised error",
        "",
        ".3f",
        False,
        "‖x̂ − x‖ over the mean distance between two images of the set (Dosovitskiy & Brox 2016).",
    ),
    "resolved_detail": Metric(
        "Resolved detail",
        "cycles per pixel",
        ".3f",
        True,
        "The frequency up to which the image stands 3 dB above the error; 0.5 is the highest that pixels can hold.",
    ),
    "agreement": Metric(
        "Top-1 agreement",
        "",
        ".2f",
        True,
        "Share of reconstructions whose likeliest ImageNet class is that of the photograph, by EfficientNet-Lite0.",
    ),
    "seconds": Metric(
        "Time per image", "s", ".3f", False, "Encoder and decoder, or the whole optimisation; images one by one."
    ),
    "encoder_passes": Metric("Encoder passes", "per image", ".0f", False, "Forward passes for one image."),
    "peak_memory": Metric(
        "Peak memory", "MB", ".0f", False, "Memory in use at once, beyond the loaded libraries and networks."
    ),
}


def top_1_agreement(preds: Tensor, target: Tensor) -> Tensor:
    """Whether `JUDGE` sees the same ImageNet class in each of `preds` as in its target; 1.0 or 0.0, N values."""
    return _judge(preds.device).agreement(preds, target)


@cache
def _judge(device: torch.device) -> Classifier:
    """The classifier of all evaluations, whatever network they invert."""
    encoder = create_encoder(JUDGE, None, ["logits"])
    assert isinstance(encoder, NetworkEncoder)
    return Classifier(encoder.to(device))


IMAGE_METRICS = {
    "psnr": metrics.peak_signal_noise_ratio,
    "ssim": metrics.structural_similarity,
    "ms_ssim": metrics.multiscale_structural_similarity,
    "lpips": metrics.learned_perceptual_similarity,
    "resolved_detail": metrics.resolved_detail,
    "agreement": top_1_agreement,
}


def left_out_metrics(size: int, images: int, device: torch.device) -> dict[str, str]:
    """The metrics that cannot be computed, and why."""
    smallest = metrics.SMALLEST_MULTISCALE_SSIM
    reasons = {
        "ms_ssim": f"images must have at least {smallest} pixels per side, not {size}" if size < smallest else None,
        "lpips": metrics.lpips_unavailable(),
        "normalized_error": "it takes at least two images" if images < 2 else None,
        "peak_memory": "this system does not report it" if with_memory(lambda: None, device)[1] is None else None,
    }
    return {name: reason for name, reason in reasons.items() if reason}


def measure(
    preds: Tensor, image: Tensor, encoder: Encoder, layer: str, mean_distance: float, left_out: Collection[str]
) -> dict[str, float]:
    """The scores of one reconstruction as a user would get it, rounded to 8 bits.

    Args:
        preds: 1×3×H×W in [0, 1], like `image`.
        encoder: computes in float32.
        layer: of the encoder, where the feature error is taken.
        mean_distance: between two images of the set, see `normalized_error`.
        left_out: names of metrics that are not computed.
    """
    preds = round_to_8_bits(preds)
    scores = {name: metric(preds, image) for name, metric in IMAGE_METRICS.items() if name not in left_out}
    scores["feature_error"] = metrics.feature_error(encoder(preds, [layer])[layer], encoder(image, [layer])[layer])
    scores["normalized_error"] = metrics.normalized_error(preds, image, mean_distance)
    return {name: score.item() for name, score in scores.items()}
