"""Methods of inversion: each makes an image from the features of another image, which it never sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from inverters.data.images import pad_to_multiple
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.errors import InverterError, unknown_name
from inverters.inversion.inverter import Inverter
from inverters.inversion.optimization import Progress, invert_by_optimization
from inverters.inversion.presets import PRESETS, OptimizationSettings

MAX_OPTIMIZED = 2_000_000  # pixels of an image; L-BFGS keeps the encoder's activations and 40 images


class Reconstruction(NamedTuple):
    """What a method makes of features.

    Attributes:
        images: N×3×H×W float32 in [0, 1].
        encoder_passes: for each image, beside the one that computed its features.
        notes: what a reader of the result should know.
        interrupted: Ctrl-C ended the optimisation, and `images` are the best so far.
    """

    images: Tensor
    encoder_passes: int = 0
    notes: tuple[str, ...] = ()
    interrupted: bool = False


class Method(Protocol):
    """Inverts features.

    `exact` says whether it needs features in float32, or takes them in the precision of `Inverter.encode`.
    """

    exact: bool

    def __call__(self, features: Tensor, encoder: Encoder, layer: Layer, size: tuple[int, int]) -> Reconstruction:
        """Reconstruct images of `size` (height, width) from `features`, N×C×h×w, of `layer`."""
        ...


@dataclass(frozen=True)
class Decode:
    """One pass through the decoder of the layer."""

    inverter: Inverter
    exact = False

    def __call__(self, features: Tensor, encoder: Encoder, layer: Layer, size: tuple[int, int]) -> Reconstruction:  # noqa: ARG002
        return Reconstruction(self.inverter.decode({layer.name: features}, size)[layer.name])


@dataclass(frozen=True)
class Optimize:
    """`invert_by_optimization`, from noise, mid-grey, or the result of a decoder (Dosovitskiy & Brox 2016)."""

    settings: OptimizationSettings = PRESETS["gatys"]
    iterations: int = 200
    init: Literal["noise", "grey"] | Decode = "noise"
    seed: int = 0
    progress: Progress | None = None
    exact = True

    def __call__(self, features: Tensor, encoder: Encoder, layer: Layer, size: tuple[int, int]) -> Reconstruction:
        """See `Method`.

        Raises:
            InverterError: the images are too large for the memory that this takes.
        """
        height, width = size
        if height * width > MAX_OPTIMIZED:
            fits = int(min(size) * (MAX_OPTIMIZED / (height * width)) ** 0.5)
            raise InverterError(
                f"{width}×{height} pixels are too many for optimisation: shrink the shorter side to {fits} with --size"
            )
        multiple = encoder.input_multiple
        padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        start: Any = self.init
        if isinstance(self.init, Decode):
            start = pad_to_multiple(self.init(features, encoder, layer, size).images, multiple)
        with torch.enable_grad():
            result = invert_by_optimization(
                features,
                encoder,
                layer,
                padded,
                settings=self.settings,
                iterations=self.iterations,
                init=start,
                seed=self.seed,
                progress=self.progress,
            )
        return Reconstruction(
            result.images[..., :height, :width],
            max(result.encoder_passes),
            tuple(note for note in result.notes if note),
            result.interrupted,
        )


DECODER_METHODS = {"decoder": "pixel", "perceptual": "perceptual", "linear": "linear"}  # by name, their objective
REFINED = "+lbfgs"
METHODS = (*DECODER_METHODS, "lbfgs", *(f"{name}{REFINED}" for name in DECODER_METHODS))


def decoder_objective(method: str) -> str | None:
    """The objective of the decoder that a method needs; None for one that needs no decoder.

    Raises:
        UnknownNameError: there is no such method.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    return DECODER_METHODS.get(method.removesuffix(REFINED))


def create_method(name: str, inverters: Mapping[str, Inverter], iterations: int = 200, seed: int = 0) -> Method:
    """The method of this name.

    Args:
        name: one of `METHODS`.
        inverters: by objective, those that hold the decoders.
        iterations, seed: of methods that optimise; see `invert_by_optimization`.

    Raises:
        UnknownNameError: there is no such method.
    """
    objective = decoder_objective(name)
    if objective is None:
        return Optimize(iterations=iterations, seed=seed)
    decode = Decode(inverters[objective])
    return Optimize(iterations=iterations, seed=seed, init=decode) if name.endswith(REFINED) else decode
