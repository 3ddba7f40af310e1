"""`LayerContext`: the methods that an evaluation compares at one layer, and how one of them is run and timed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from inverters.encoders.registry import create_encoder
from inverters.evaluation.profiling import timed
from inverters.inversion.inverter import Inverter, weights_digest
from inverters.inversion.loading import load_inverter
from inverters.inversion.methods import Method, Reconstruction, create_method, decoder_objective

REPEATS = 5  # runs of a decoder, whose median is its time


@dataclass(frozen=True)
class LayerContext:
    """The methods compared at `layer`.

    Attributes:
        inverter: computes features; it has no decoders.
        methods: by name.
        networks: the inverters that `methods` take their decoders from.
    """

    layer: str
    inverter: Inverter
    methods: Mapping[str, Method]
    networks: Sequence[Inverter]

    def run(self, name: str, image: Tensor) -> tuple[Reconstruction, float]:
        """The reconstruction of a 1×3×H×W image, and the seconds that it took, features included."""
        method, encoder = self.methods[name], self.inverter.encoder

        def reconstruct() -> Reconstruction:
            features = self.inverter.encode(image, [self.layer], exact=method.exact)[self.layer]
            return method(features, encoder, encoder.layers[self.layer], (image.shape[2], image.shape[3]))

        if method.exact:
            result, seconds = timed(reconstruct, self.inverter.device)
            if result.interrupted:
                raise KeyboardInterrupt
            return result, seconds
        reconstruct()  # warms up
        runs = [timed(reconstruct, self.inverter.device) for _ in range(REPEATS)]
        return runs[0][0], median(seconds for _, seconds in runs)


def load_contexts(
    methods: Sequence[str],
    layers: Sequence[str],
    encoder: str,
    weights: str | None,
    checkpoints: Path | None,
    device: torch.device,
    iterations: int,
    seed: int,
) -> list[LayerContext]:
    """A context for each of `layers`, with the decoders that `methods` need.

    Raises:
        UnknownNameError, WeightsError, CheckpointError: see `load_inverter`.
    """
    needed = {objective for method in methods if (objective := decoder_objective(method))}
    loaded = {
        objective: load_inverter(layers, encoder, weights, checkpoints, str(device), objective)
        for objective in sorted(needed)
    }
    contexts = []
    for layer in layers:
        inverter = Inverter(create_encoder(encoder, weights, [layer]), {}, device)
        made = {method: create_method(method, loaded, iterations, seed) for method in methods}
        contexts.append(LayerContext(layer, inverter, made, list(loaded.values())))
    return contexts


def fingerprint(contexts: Iterable[LayerContext]) -> str:
    """SHA-256 over the weights of all encoders and decoders."""
    return weights_digest(network for context in contexts for network in (context.inverter, *context.networks))
