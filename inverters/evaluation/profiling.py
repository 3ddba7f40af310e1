"""How long a function takes, and how much memory it needs."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")


def timed(function: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """The function's result, and the seconds until `device` has computed it."""
    _synchronize(device)
    started = time.perf_counter()
    result = function()
    _synchronize(device)
    return result, time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def with_memory(function: Callable[[], Result], device: torch.device) -> tuple[Result, float | None]:
    """The function's result, and its peak memory in MB (10⁶ bytes) beyond what was in use before.

    On CUDA this is the memory of PyTorch's tensors. On the CPU it is the resident memory of the process, accurate to a
    few MB; glibc's allocator first returns what it caches. None where the system is not Linux with glibc.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = function()
        return result, (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present, see proc(5)
    except (AttributeError, OSError, TypeError):
        return function(), None
    before = _resident_peak()
    result = function()
    return result, (_resident_peak() - before) / 1e6


def _resident_peak() -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024
