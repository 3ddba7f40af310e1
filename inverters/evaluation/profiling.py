"""What an evaluation measures: the scores of a reconstruction, time and memory."""

import ctypes
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from inverters import metrics
from inverters.data.images import round_to_8_bits
from inverters.encoders.base import Encoder

IMAGE_METRICS = {
    "psnr": metrics.peak_signal_noise_ratio,
    "ssim": metrics.structural_similarity,
    "ms_ssim": metrics.multiscale_structural_similarity,
    "lpips": metrics.learned_perceptual_similarity,
    "resolved_detail": metrics.resolved_detail,
}

Result = TypeVar("Result")


def left_out_metrics(size: int, images: int, device: torch.device) -> dict[str, str]:
    """The metrics that cannot be taken, and why."""
    reasons = {
        "ms_ssim": f"it takes images of at least {metrics.SMALLEST_MULTISCALE_SSIM} pixels, and these have {size}"
        if size < metrics.SMALLEST_MULTISCALE_SSIM
        else None,
        "lpips": metrics.lpips_unavailable(),
        "normalized_error": "it takes at least two images" if images < 2 else None,
        "peak_memory": "this system does not tell it" if with_memory(lambda: None, device)[1] is None else None,
    }
    return {name: reason for name, reason in reasons.items() if reason}


def measure(
    preds: Tensor, image: Tensor, encoder: Encoder, layer: str, unit: float, left_out: Collection[str]
) -> dict[str, float]:
    """The scores of one reconstruction as a user would get it, rounded to 8 bits.

    Args:
        preds: 1×3×H×W in [0, 1], like `image`.
        encoder: computes in float32.
        unit: of the normalized error, the mean distance between two images.
        left_out: the names of metrics that are not taken.
    """
    preds = round_to_8_bits(preds)
    scores = {name: metric(preds, image) for name, metric in IMAGE_METRICS.items() if name not in left_out}
    scores["feature_error"] = metrics.feature_error(encoder(preds, [layer])[layer], encoder(image, [layer])[layer])
    scores["normalized_error"] = metrics.normalized_error(preds, image, unit)
    return {name: score.item() for name, score in scores.items()}


def timed(function: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """The function's result, and the seconds until the device had it."""
    _wait_for(device)
    started = time.perf_counter()
    result = function()
    _wait_for(device)
    return result, time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def with_memory(function: Callable[[], Result], device: torch.device) -> tuple[Result, float | None]:
    """The function's result, and the most memory that it had in use at once, in MB (10⁶ bytes) beyond what was before.

    On CUDA it is what PyTorch's tensors took; on the CPU the resident memory of the process, good to a few MB, for
    which glibc's allocator must first give back what it keeps for reuse. None where the system is not Linux with glibc.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = function()
        return result, (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the present, see proc(5)
    except (AttributeError, OSError, TypeError):
        return function(), None
    before = _resident_peak()
    result = function()
    return result, (_resident_peak() - before) / 1e6


def _resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024
