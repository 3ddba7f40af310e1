"""The optimizer of a run, and its learning rates."""

import math
from collections.abc import Mapping

from timm.optim.muon import Muon
from torch import nn
from torch.optim import AdamW, Optimizer

from inverters.decoders.base import Decoder
from inverters.training.sections import OptimizerConfig

# Adam's largest stable learning rate falls as 1/width (Yang et al. 2021, "Tensor Programs V"): the configured rate is
# that of a decoder of this width. With one rate for all, relu5_2 diverged while relu1_2 crept.
LEARNING_RATE_WIDTH = 64
DISCRIMINATOR_LEARNING_RATE = 2e-4  # that of Dosovitskiy & Brox 2016


def make_optimizer(settings: OptimizerConfig, networks: Mapping[str, nn.Module]) -> Optimizer:
    """AdamW, or Muon (Jordan et al. 2024), with a parameter group for each of the `networks`.

    Muon orthogonalises the updates of convolutions, scaled so that AdamW's learning rates hold (Liu et al. 2025), and
    leaves biases to AdamW, both with Nesterov momentum.
    """
    groups = [
        {"name": name, "params": [parameter for parameter in network.parameters() if parameter.requires_grad]}
        for name, network in networks.items()
    ]
    if settings.algorithm == "muon":
        return Muon(groups, settings.learning_rate, weight_decay=settings.weight_decay, nesterov=True)
    return AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay)


def peak_learning_rates(settings: OptimizerConfig, decoders: Mapping[str, Decoder]) -> dict[str, float]:
    """The largest learning rate of each decoder, in inverse proportion to its width."""
    return {layer: settings.learning_rate * LEARNING_RATE_WIDTH / decoder.width for layer, decoder in decoders.items()}


def schedule(step: int, steps: int, warmup_steps: int) -> float:
    """The learning rate of a step over its peak: linear warm-up from 1/`warmup_steps`, then cosine decay to zero.

    A function of the step and not the state of a scheduler: a run that is resumed with more steps follows the schedule
    of the longer run from there on.
    """
    warmup = max(1, min(warmup_steps, steps - 1))
    if step < warmup:
        return 1 / warmup + (1 - 1 / warmup) * step / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
