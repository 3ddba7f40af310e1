"""Which device to compute on, and in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inverters.errors import InverterError


def find_device(name: str) -> torch.device:
    """The device of this name; `auto` is the best one available: CUDA, then Apple's MPS, then the CPU.

    Raises:
        InverterError: there is no such device on this machine.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *available]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise InverterError(f"no device {name!r} on this machine. Valid: auto, {', '.join(available)}")
    return torch.device(name)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes convolutions in bfloat16 natively, which is about twice as fast as float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 convolutions in float32, not in TF32, whose 10 bits of mantissa would limit block 1."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
