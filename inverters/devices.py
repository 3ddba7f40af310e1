"""Which device to compute on, and in which precision."""

import torch

from inverters.errors import InverterError


def find_device(name: str) -> torch.device:
    """The device of this name; `auto` is the best one at hand: CUDA, then Apple's MPS, then the CPU.

    Raises:
        InverterError: there is no such device on this machine.
    """
    at_hand = ["cpu"]
    if torch.backends.mps.is_available():
        at_hand.insert(0, "mps")
    if torch.cuda.is_available():
        at_hand = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *at_hand]
    if name == "auto":
        return torch.device(at_hand[0])
    if name not in at_hand:
        raise InverterError(f"no device {name!r} on this machine. Valid: auto, {', '.join(at_hand)}")
    return torch.device(name)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes convolutions in bfloat16 natively, which is about twice as fast as float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
