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
    """Compute float32 convolutions and matrix products in float32 on NVIDIA GPUs, never in TF32.

    TF32 has 10 bits of mantissa, too few for the first layers, whose reconstructions are almost lossless, and for the
    objective of an optimisation. Features, reconstructions and metrics are always computed under this setting, so
    that `predict`, `optimize` and `evaluate` agree; only training uses TF32, where PyTorch does.
    """
    # `torch.backends.cudnn.flags` would also reset `benchmark` and `deterministic`.
    operators = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [operator.fp32_precision for operator in operators]
    try:
        for operator in operators:
            operator.fp32_precision = "ieee"
        yield
    finally:
        for operator, precision in zip(operators, before, strict=True):
            operator.fp32_precision = precision
