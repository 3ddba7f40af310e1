"""Quantiles of the feature error over photographs, by which cards say what is usual."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import CatMetric

from inverters.inversion.feature_errors import feature_errors
from inverters.inversion.inverter import Inverter

QUANTILES = 21  # the smallest, every twentieth, the largest


def error_quantiles(inverter: Inverter, batches: Iterable[Tensor]) -> dict[str, tuple[float, ...] | None]:
    """Quantiles of the feature error of reconstructions by layer, over the images of all processes.

    Args:
        inverter: reconstructs.
        batches: photographs, N×3×H×W each; those of unreadable ones are empty.

    Returns:
        `QUANTILES` values with four digits, evenly spaced from the smallest to the largest error; None where no image
        has features that differ from zero.
    """
    errors = {layer: CatMetric(nan_strategy="ignore").to(inverter.device) for layer in inverter.layers}
    for images in batches:
        if len(images):
            for layer, values in feature_errors(inverter, images, inverter.reconstruct(images)).items():
                errors[layer].update(values)
    return {layer: _quantiles(torch.as_tensor(metric.compute())) for layer, metric in errors.items()}


def _quantiles(errors: Tensor) -> tuple[float, ...] | None:
    if not errors.numel():
        return None
    values = errors.double().quantile(torch.linspace(0, 1, QUANTILES, dtype=torch.double, device=errors.device))
    return tuple(float(f"{value:.4g}") for value in values.tolist())
