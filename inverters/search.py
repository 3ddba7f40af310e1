"""Searching for images of any height and width, from what a decoder makes of them or from nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inverters.images import pad_to_multiple
from inverters.inverter import Inverter
from inverters.layers import INPUT_MULTIPLE
from inverters.optimization import OptimizationResult, invert_by_optimization


def search(images: Tensor, inverter: Inverter, layer: str, init: Tensor | Any, **settings: Any) -> OptimizationResult:
    """`invert_by_optimization` to the features of N×3×H×W `images` at `layer`, for any height and width.

    Raises:
        UnknownNameError, InverterError: see `invert_by_optimization`.
    """
    height, width = images.shape[-2:]
    target = pad_to_multiple(images.to(inverter.device), INPUT_MULTIPLE)
    with torch.no_grad():
        features = inverter.encoder(target, [layer])[layer]
    start = pad_to_multiple(init, INPUT_MULTIPLE) if isinstance(init, Tensor) else init
    with torch.enable_grad():
        result = invert_by_optimization(
            features, inverter.encoder, layer, (target.shape[2], target.shape[3]), init=start, **settings
        )
    return replace(result, images=result.images[..., :height, :width])


def refine(
    images: Tensor, inverter: Inverter, reconstructions: Mapping[str, Tensor], iterations: int
) -> dict[str, Tensor]:
    """What a search of so many iterations makes of the reconstructions, N×3×H×W by layer.

    Raises:
        KeyboardInterrupt: Ctrl-C ended a search.
    """
    refined = {}
    for layer, preds in reconstructions.items():
        result = search(images, inverter, layer, preds, iterations=iterations)
        if result.interrupted:
            raise KeyboardInterrupt
        refined[layer] = result.images
    return refined
