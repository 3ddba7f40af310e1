"""`MethodRunner`: runs one method over several layers of an image."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from inverters.data.images import center_crop
from inverters.devices import find_device
from inverters.encoders.classes import Classifier, find_classifier
from inverters.encoders.labels import Label
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.encoders.registry import create_encoder
from inverters.inversion.feature_errors import feature_errors
from inverters.inversion.inputs import require_finite_pixels
from inverters.inversion.inversion import Inversion
from inverters.inversion.inverter import Inverter, weights_digest
from inverters.inversion.loading import load_inverters
from inverters.inversion.method_names import DECODER_METHODS, decoder_objective
from inverters.inversion.methods import Decode, Optimize, create_method
from inverters.inversion.presets import PRESETS
from inverters.inversion.provenance import Provenance
from inverters.inversion.strip import ORIGINAL
from inverters.inversion.verdicts import FeatureError, locate


class Step(NamedTuple):
    """Progress on one image: tiles, or iterations of the optimisation at one layer and its objective."""

    done: int
    total: int
    layer: str | None = None
    objective: float | None = None


Progress = Callable[[Step], None]


@dataclass(frozen=True)
class MethodRunner:
    """Runs one method over several layers of an image.

    Attributes:
        inverter: the encoder, and the decoders that the method needs.
        provenance: of the inversions that it makes; its layers are those that are inverted.
        optimize: the optimisation that makes the reconstructions; None where the decoders make them in one pass.
        classifier: says what it sees in the image and in each reconstruction.
        crop: the side in pixels of the square in the middle of images that is inverted, where the encoder or a decoder
            takes one size only; None takes whole images.
    """

    inverter: Inverter
    provenance: Provenance
    optimize: Optimize | None = None
    classifier: Classifier | None = None
    crop: int | None = None

    @property
    def shorter_side(self) -> int | None:
        """Pixels to which the shorter side of larger images is to be shrunk for `run`; None for their full size."""
        return None if self.crop else self.provenance.size

    def run(
        self, image: Tensor, source: str | None = None, tile: int | None = None, progress: Progress | None = None
    ) -> Inversion:
        """Invert `image`, 3×H×W in [0, 1], from every layer.

        Args:
            image: already shrunk to `shorter_side`.
            source: the name of the image.
            tile: see `Inverter.reconstruct`; optimisation takes images whole.
            progress: called after each tile or iteration.

        Raises:
            InverterError: the image is too large for optimisation, `tile` does not fit the encoder, or a reconstruction
                is not finite.
        """
        if self.crop:
            (image,) = center_crop(image[None], self.crop, self.inverter.encoder.input_crop)
        started = time.perf_counter()
        if self.optimize:
            images, interrupted, notes = self._optimize(image, self.optimize, progress)
        else:
            images, interrupted, notes = self._decode(image, tile, progress), False, ()
        seconds = time.perf_counter() - started
        for layer, one in images.items():
            require_finite_pixels(one, layer, self.provenance.method)
        errors = {} if self.provenance.edits else self._feature_errors(image, images, tile)
        labels: dict[str, tuple[Label, ...]] = {}
        if self.classifier:
            found = self.classifier.labels(torch.stack([image.cpu(), *images.values()]))
            labels = dict(zip((ORIGINAL, *images), found, strict=True))
        return Inversion(image.cpu(), images, seconds, self.provenance, source, interrupted, notes, labels, errors)

    def _feature_errors(self, image: Tensor, images: Mapping[str, Tensor], tile: int | None) -> dict[str, FeatureError]:
        """The feature errors of the reconstructions; those of decoders with their percentile, where that is known."""
        found = feature_errors(self.inverter, image[None], {layer: one[None] for layer, one in images.items()}, tile)
        decoders = self.inverter.decoders.items()
        quantiles = {layer: decoder.error_quantiles for layer, decoder in decoders if not self.optimize}
        return {layer: locate(error.item(), quantiles.get(layer)) for layer, error in found.items()}

    def _decode(self, image: Tensor, tile: int | None, progress: Progress | None) -> dict[str, Tensor]:
        def show(done: int, total: int) -> None:
            if progress:
                progress(Step(done, total))

        return {layer: images[0].cpu() for layer, images in self.inverter.reconstruct(image[None], tile, show).items()}

    def _optimize(
        self, image: Tensor, method: Optimize, progress: Progress | None
    ) -> tuple[dict[str, Tensor], bool, tuple[str, ...]]:
        """The reconstructions, whether Ctrl-C ended the last of them, and notes."""
        encoder, size = self.inverter.encoder, (image.shape[1], image.shape[2])
        method.check_size(size)  # before the encoder takes all memory
        images: dict[str, Tensor] = {}
        notes: list[str] = []
        for layer in self.provenance.layers:

            def show(_: int, done: int, objective: float, layer: str = layer) -> None:
                if progress:
                    progress(Step(done, method.iterations, layer, objective))

            features = self.inverter.encode(image[None], [layer], exact=method.exact)[layer]
            result = replace(method, progress=show)(features, encoder, encoder.layers[layer], size)
            images[layer] = result.images[0].cpu()
            notes += [f"{layer}: {note}" for note in result.notes]
            if result.interrupted:
                return images, True, tuple(notes)
        return images, False, tuple(notes)


def make_runner(
    inverter: Inverter,
    size: int | None = 512,
    *,
    objective: str | None = "pixel",
    corrections: int | None = None,
    layers: Iterable[str] | None = None,
    optimize: Optimize | None = None,
    crop: int | None = None,
) -> MethodRunner:
    """Create a runner and the provenance of its inversions.

    Args:
        inverter, optimize: see `MethodRunner`.
        size: pixels to which the shorter side of the images was shrunk; None for the full size.
        objective: the objective of the inverter's decoders.
        corrections: the number that they apply at most; None for all.
        layers: those to invert; None takes all that have a decoder.
        crop: see `MethodRunner`; None takes `inverter.input_size`.
    """
    encoder, preset, init, seed = inverter.encoder, None, None, None
    crop = crop or inverter.input_size
    names = tuple(inverter.layers if layers is None else layers)
    method = next((name for name, found in DECODER_METHODS.items() if found == objective), objective or "")
    if optimize:
        preset = next((name for name, settings in PRESETS.items() if settings == optimize.settings), None)
        init = "decoder" if isinstance(optimize.init, Decode) else optimize.init
        seed = optimize.seed if init == "noise" else None
        algorithm = "lbfgs" if preset == "gatys" else preset or optimize.settings.optimizer
        method, objective = (f"{method}+{algorithm}", objective) if init == "decoder" else (algorithm, None)
    provenance = Provenance(
        encoder.name,
        encoder.weights,
        weights_digest([inverter]),
        names,
        crop or size,
        method,
        objective,
        init,
        preset,
        optimize.iterations if optimize else None,
        seed,
        corrections if objective else None,
    )
    return MethodRunner(inverter, provenance, optimize, find_classifier(encoder), crop)


def load_runners(
    methods: Sequence[str],
    selection: Mapping[str, Sequence[str]],
    encoder: str = DEFAULT_ENCODER,
    weights: str | None = None,
    checkpoints: Path | str | None = None,
    device: str = "auto",
    size: int | None = 512,
    iterations: int = 200,
    corrections: int | None = None,
) -> list[MethodRunner]:
    """Load the encoder and decoders of each method. A method that can invert no layer has no runner.

    Args:
        methods: names from `METHODS`, in the order of the runners.
        selection: from `select_methods`.
        encoder, weights, checkpoints, device: see `load_inverter`.
        size: see `make_runner`.
        iterations: of methods that optimise.
        corrections: see `load_inverter`.

    Raises:
        InverterError: see `load_inverter`.
    """
    inverters = load_inverters(selection, encoder, weights, checkpoints, device, corrections)
    crop = next(filter(None, (inverter.input_size for inverter in inverters.values())), None)  # of all methods alike
    runners = []
    for method in methods:
        if not (layers := [layer for layer, some in selection.items() if method in some]):
            continue
        objective = decoder_objective(method)
        if objective:
            inverter = inverters[objective]
        else:
            inverter = Inverter(create_encoder(encoder, weights, layers), {}, find_device(device))
        made = create_method(method, inverters, iterations)
        optimize = made if isinstance(made, Optimize) else None
        runners.append(
            make_runner(
                inverter,
                size,
                objective=objective,
                corrections=corrections,
                layers=layers,
                optimize=optimize,
                crop=crop,
            )
        )
    return runners
