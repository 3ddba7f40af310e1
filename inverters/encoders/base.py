"""`Encoder`: the frozen network whose features are inverted."""

from collections.abc import Collection, Iterable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from inverters.encoders.layers import Layer
from inverters.errors import unknown_name


class Encoder(nn.Module):
    """A frozen network that returns the features of several layers from one pass.

    It normalises its input itself, stays in evaluation mode whatever its parent does, and has no trainable parameter.

    Attributes:
        name: of the architecture, such as `vgg19`.
        weights: the label of its weights, such as `original`.
        layers: those that features can be taken from, by name, in order of execution.
        input_multiple: sides that are multiples of this many pixels lose no border to a stride.
        input_size: pixels of both sides, where the network takes images of one size only.
    """

    name: str
    weights: str
    layers: Mapping[str, Layer]
    input_multiple: int
    input_size: int | None = None

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Features of `images`, N×3×H×W in [0, 1], by layer, each N×C×⌊H/stride⌋×⌊W/stride⌋.

        One pass, which ends at the deepest of `layers`.

        Raises:
            UnknownNameError: a name is not in `self.layers`.
        """
        raise NotImplementedError

    def fingerprint(self, layer: str) -> str:
        """SHA-256 over the preprocessing and the weights that the layer's features depend on.

        Raises:
            UnknownNameError: `layer` is not in `self.layers`.
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.buffers()).device

    def require_layers(self, names: Iterable[str]) -> None:
        """Raise UnknownNameError if one of `names` is not in `self.layers`."""
        for name in names:
            if name not in self.layers:
                raise unknown_name(f"layer of {self.name} up to {[*self.layers][-1]}", name, self.layers)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in evaluation mode."""
        return super().train(False)
