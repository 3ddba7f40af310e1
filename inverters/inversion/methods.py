"""Methods of inversion: functions from features to images, which never see the original image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from inverters.data.images import pad_to_multiple
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.errors import InverterError
from inverters.inversion.inputs import padded_size
from inverters.inversion.inverter import Inverter
from inverters.inversion.method_names import REFINED, decoder_objective
from inverters.inversion.optimization import Progress, invert_by_optimization
from inverters.inversion.presets import PRESETS, OptimizationSettings

MAX_OPTIMIZED = 2_000_000  # pixels; measured on a CPU, L-BFGS through VGG-19 takes up to 3.7 kB a pixel, 7.5 GB in all


class Reconstruction(NamedTuple):
    """The result of a method.

    Attributes:
        images: N×3×H×W float32 in [0, 1].
        encoder_passes: passes per image, without the one that computed its features.
        notes: remarks for the reader of the result, such as why an optimisation ended early.
        interrupted: Ctrl-C ended the optimisation; `images` are the best so far.
    """

    images: Tensor
    encoder_passes: int = 0
    notes: tuple[str, ...] = ()
    interrupted: bool = False


class Method(Protocol):
    """A function from features to images.

    Attributes:
        exact: whether the features must be float32 (`Inverter.encode(..., exact=True)`).
    """

    exact: bool

    def __call__(self, features: Tensor, encoder: Encoder, layer: Layer, size: tuple[int, int]) -> Reconstruction:
        """Reconstruct images.

        Args:
            features: N×C×h×w, of `layer`, on the encoder's device.
            encoder: the network that computed them.
            layer: one of its layers.
            size: height and width of the images.
        """
        ...


@dataclass(frozen=True)
class Decode:
    """Inversion by the decoder of the layer, in one pass."""

    inverter: Inverter
    exact = False

    def __call__(self, features: Tensor, encoder: Encoder, layer: Layer, size: tuple[int, int]) -> Reconstruction:  # noqa: ARG002
        return Reconstruction(self.inverter.decode({layer.name: features}, size)[layer.name])


@dataclass(frozen=True)
class Optimize:
    """Inversion by optimisation, see `invert_by_optimization`.

    Attributes:
        init: `noise`, `grey`, or a decoder, whose reconstruction is the initial image (Dosovitskiy & Brox 2016).
        settings, iterations, seed, progress: see `invert_by_optimization`.
    """

    settings: OptimizationSettings = PRESETS["gatys"]
    iterations: int = 200
    init: Literal["noise", "grey"] | Decode = "noise"
    seed: int = 0
    progress: Progress | None = None
    exact = True

    def __call__(self, features: Tensor, encoder: Encoder, layer: Layer, size: tuple[int, int]) -> Reconstruction:
        """See `Method`.

        Raises:
            InverterError: the images are too large for the memory.
        """
        self.check_size(size)
        height, width = size
        init: Tensor | Literal["noise", "grey"]
        if isinstance(self.init, Decode):
            init = pad_to_multiple(self.init(features, encoder, layer, size).images, encoder.input_multiple)
        else:
            init = self.init
        result = invert_by_optimization(
            features,
            encoder,
            layer,
            padded_size(size, encoder.input_multiple),
            settings=self.settings,
            iterations=self.iterations,
            init=init,
            seed=self.seed,
            progress=self.progress,
        )
        return Reconstruction(
            result.images[..., :height, :width],
            max(result.encoder_passes),
            tuple(note for note in result.notes if note),
            result.interrupted,
        )

    @staticmethod
    def check_size(size: tuple[int, int]) -> None:
        """Raise InverterError if an image of this height and width is too large; this takes no features."""
        height, width = size
        if height * width > MAX_OPTIMIZED:
            fits = int(min(size) * (MAX_OPTIMIZED / (height * width)) ** 0.5 - 0.5)  # the longer side gets rounded
            raise InverterError(
                f"an image of {width}×{height} pixels is too large for optimisation: shrink its shorter side to {fits} "
                "with --size"
            )


def create_method(name: str, inverters: Mapping[str, Inverter], iterations: int = 200, seed: int = 0) -> Method:
    """Create the method `name`.

    Args:
        name: one of `METHODS`.
        inverters: by objective; at least the one of `decoder_objective(name)`.
        iterations, seed: for methods that optimise, see `invert_by_optimization`.

    Raises:
        UnknownNameError: there is no such method.
    """
    objective = decoder_objective(name)
    if objective is None:
        return Optimize(iterations=iterations, seed=seed)
    decode = Decode(inverters[objective])
    return Optimize(iterations=iterations, seed=seed, init=decode) if name.endswith(REFINED) else decode
