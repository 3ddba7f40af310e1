"""`LayerContext`: the methods that an evaluation compares at one layer, and how one of them is run and timed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from inverters.encoders.registry import create_encoder
from inverters.evaluation.profiling import timed
from inverters.inversion.edit_names import Edit
from inverters.inversion.edits import apply
from inverters.inversion.inputs import require_finite_pixels
from inverters.inversion.inverter import Inverter, weights_digest
from inverters.inversion.loading import load_inverters
from inverters.inversion.methods import Decode, Method, Optimize, Reconstruction, create_method

REPEATS = 5  # runs of a decoder; its time is their median


@dataclass(frozen=True)
class LayerContext:
    """The methods compared at `layer`.

    Attributes:
        layer: name of the layer.
        inverter: computes features; it has no decoders.
        methods: by name, those that can invert the layer.
        edits: of the features, which decoders then decode.
        seed: of the random ones.
    """

    layer: str
    inverter: Inverter
    methods: Mapping[str, Method]
    edits: Sequence[Edit] = ()
    seed: int = 0

    @property
    def tasks(self) -> list[tuple[str, Edit | None]]:
        """Each method without an edit and, if it is a decoder, with each of the edits."""
        return [
            (name, edit)
            for name, method in self.methods.items()
            for edit in (None, *(self.edits if isinstance(method, Decode) else ()))
        ]

    def run(self, name: str, image: Tensor, edit: Edit | None = None) -> tuple[Reconstruction, float]:
        """Reconstruct `image`, 1×3×H×W, by the method of this name, from edited features if there is an `edit`.

        Returns:
            The reconstruction, and the seconds that it took, encoder included. An optimisation and an edit run once; a
            decoder is warmed up, and its time is a median.

        Raises:
            InverterError: its pixels are not finite.
            KeyboardInterrupt: Ctrl-C ended an optimisation.
        """
        method, encoder, size = self.methods[name], self.inverter.encoder, (image.shape[2], image.shape[3])

        def reconstruct() -> Reconstruction:
            features = self.inverter.encode(image, [self.layer], exact=method.exact)
            if edit and isinstance(method, Decode):
                features = apply(features, [edit], method.inverter, size, self.seed)
            return method(features[self.layer], encoder, encoder.layers[self.layer], size)

        if edit or isinstance(method, Optimize):
            result, seconds = timed(reconstruct, self.inverter.device)
        else:
            reconstruct()
            runs = [timed(reconstruct, self.inverter.device) for _ in range(REPEATS)]
            result, seconds = runs[0][0], median(some for _, some in runs)
        if result.interrupted:
            raise KeyboardInterrupt
        require_finite_pixels(result.images, self.layer, name)
        return result, seconds


def load_contexts(
    selection: Mapping[str, Sequence[str]],
    encoder: str,
    weights: str | None,
    checkpoints: Path | str | None,
    device: torch.device,
    corrections: int | None,
    iterations: int,
    seed: int,
    edits: Sequence[Edit] = (),
) -> tuple[list[LayerContext], str]:
    """Load the encoder, and the decoders that the methods need.

    Args:
        selection: see `inversion.selection.select_methods`.
        encoder, weights, checkpoints, device, corrections: see `load_inverter`.
        iterations, seed: see `create_method`.
        edits: see `LayerContext`.

    Returns:
        A context for each layer, and the SHA-256 of the weights of all networks.

    Raises:
        WeightsError, CheckpointError: see `load_inverter`.
    """
    inverter = Inverter(create_encoder(encoder, weights, selection), {}, device)
    decoding = load_inverters(selection, encoder, weights, checkpoints, str(device), corrections)
    contexts = [
        LayerContext(
            layer, inverter, {name: create_method(name, decoding, iterations, seed) for name in methods}, edits, seed
        )
        for layer, methods in selection.items()
    ]
    return contexts, weights_digest([inverter.encoder, *(decoding[name].decoders for name in sorted(decoding))])
