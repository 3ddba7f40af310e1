"""`Encoder`: the frozen network whose features are inverted."""

from collections.abc import Collection, Iterable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from inverters.encoders.layers import Layer
from inverters.errors import InverterError, unknown_name


class Encoder(nn.Module):
    """A frozen network that returns the features of several layers in one pass.

    It normalises its input, always stays in evaluation mode, and has no trainable parameters.

    Attributes:
        name: the architecture, such as `vgg19`.
        weights: the label of the weights, such as `original`.
        layers: the available layers by name, in order of execution.
        input_multiple: image sides that are multiples of this many pixels are covered fully by the features.
        input_size: the side of the images in pixels, for networks that take one size only; else None.
        input_crop: the part of the shorter side that the network's own preprocessing keeps where it centre-crops.
    """

    name: str
    weights: str
    layers: Mapping[str, Layer]
    input_multiple: int
    input_size: int | None = None
    input_crop: float = 1.0

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Compute the features of `images` in one pass, which ends at the deepest of `layers`.

        Layers of stride 1 are computed in float32, under autocast too: their reconstructions are almost lossless, and
        bfloat16 would limit them. The pass goes on from there in the precision of autocast.

        Args:
            images: N×3×H×W, RGB in [0, 1].
            layers: names of `self.layers`.

        Returns:
            By layer, N×C×⌊H/stride⌋×⌊W/stride⌋.

        Raises:
            UnknownNameError: a name is not in `self.layers`.
        """
        raise NotImplementedError

    def fingerprint(self, layer: str) -> str:
        """Return a SHA-256 over the preprocessing and all weights that the features of `layer` depend on.

        Raises:
            UnknownNameError: `layer` is not in `self.layers`.
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.buffers()).device

    def require_layers(self, names: Iterable[str]) -> None:
        """Raise UnknownNameError unless all `names` are in `self.layers`."""
        for name in names:
            if name not in self.layers:
                raise unknown_name(f"layer of {self.name} up to {[*self.layers][-1]}", name, self.layers)

    def require_size(self, height: int, width: int) -> None:
        """Raise InverterError unless the network takes images of this height and width."""
        if self.input_size and (height, width) != (self.input_size, self.input_size):
            raise InverterError(
                f"{self.name} takes images of {self.input_size}×{self.input_size} pixels only, not {width}×{height}"
            )

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in evaluation mode."""
        return super().train(False)


def require_finite(features: Tensor, encoder: str, layer: str) -> None:
    """Raise InverterError if `features` of a layer are not finite."""
    if not features.isfinite().all():
        raise InverterError(
            f"{encoder} gives features at {layer} that are not finite: check its weights and its preprocessing"
        )
