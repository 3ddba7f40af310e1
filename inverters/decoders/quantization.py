"""Weights as 8-bit integers, with a scale for each output channel."""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"  # after the key of a tensor; no parameter has submodules, so no other key can look like this
LARGEST = 127


def quantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors of two or more dimensions to int8; others, such as biases, stay as they are.

    A weight w of an output channel, the first dimension, becomes an integer q of at most ±127 with w ≈ q·s. The scale s
    is that of the channel's largest weight. It is stored under the key of the tensor and `SCALE`, in bfloat16, so that
    q·s is exact in float32 and quantising again changes nothing.

    Weights are rounded to the nearest integer, except that the sum of each kernel stays within half a step: features
    are smooth, so most of what reaches the output passes through this sum. That halves what 8 bits cost.
    """
    stored: dict[str, Tensor] = {}
    for key, weight in weights.items():
        if weight.ndim < 2:
            stored[key] = weight
        else:
            kernels = weight.float().reshape(*weight.shape[:2], -1)  # output channels × input channels × positions
            largest = kernels.abs().amax((1, 2))
            scales = torch.where(largest > 0, largest / LARGEST, 1).bfloat16()
            stored[key] = _rounded(kernels / scales.float()[:, None, None]).to(torch.int8).view(weight.shape)
            stored[key + SCALE] = scales
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert what `quantize` returns back to float32, up to its rounding.

    Raises:
        ValueError: a tensor of integers has no scale for each output channel.
    """
    weights = dict(stored)
    for key, integers in stored.items():
        if integers.dtype == torch.int8:
            scales = weights.pop(key + SCALE, None)
            if scales is None or scales.shape != integers.shape[:1]:
                raise ValueError(f"{key} holds integers without a scale for each output channel")
            weights[key] = integers.float() * scales.float().view(-1, *[1] * (integers.ndim - 1))
    return weights


def _rounded(kernels: Tensor) -> Tensor:
    """Round `kernels`, K×C×positions, to integers with nearly the same sum.

    Where the errors of a kernel add up to n steps, its n weights nearest to the middle are rounded the other way. The
    largest integers stay: from them, quantising again finds the same scale.
    """
    nearest = kernels.round().clamp(-LARGEST, LARGEST)
    errors = kernels - nearest
    steps = errors.sum(2, keepdim=True).round()
    gain = (errors * steps.sign()).masked_fill(nearest.abs() == LARGEST, -torch.inf)
    rank = gain.argsort(2, descending=True).argsort(2)
    return nearest + torch.where((rank < steps.abs()) & gain.isfinite(), steps.sign(), 0)
