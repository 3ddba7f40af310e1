"""What stops a training whose losses or weights are no longer finite."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from inverters.errors import TrainingError


def norm(network: nn.Module) -> Tensor:
    """The norm of all parameters, which is finite only if they are."""
    return nn.utils.get_total_norm(network.parameters()).detach()


def require_finite(what: str, values: Mapping[str, Tensor], step: int) -> None:
    """Raise TrainingError if one of the `values`, by layer, is not finite."""
    finite = torch.stack(list(values.values())).isfinite().tolist() if values else []
    if not all(finite):
        raise diverged(what, [layer for layer, good in zip(values, finite, strict=True) if not good], step)


def diverged(what: str, layers: Iterable[str], step: int) -> TrainingError:
    """The error that says `what` of these layers is no longer finite at `step`, and what to do."""
    return TrainingError(
        f"the {what} of {', '.join(layers)} are no longer finite at step {step}. The last checkpoint is kept; train "
        "again with a lower optimizer.learning_rate, in another --output-dir"
    )
