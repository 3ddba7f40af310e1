"""The methods that `invert evaluate` compares: each makes an image of another image's features."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from inverters.encoder import VGGEncoder
from inverters.inverter import Inverter, load_inverter, weights_digest
from inverters.measurement import timed
from inverters.optimization import OptimizationResult, invert_by_optimization

REPEATS = 5  # runs of a decoder, whose median is its time


@dataclass(frozen=True)
class Bench:
    """What inverts one layer.

    `encoder` ends at `layer` and computes in float32. The `inverters`, by their decoders' objective, share it, and
    compute in the precision that a user gets. `iterations` and `seed` are those of the search.
    """

    layer: str
    encoder: VGGEncoder
    inverters: dict[str, Inverter]
    iterations: int
    seed: int
    device: torch.device


class Outcome(NamedTuple):
    """A reconstruction, 1×3×H×W in [0, 1], and what it took to get there from the image, its features included."""

    preds: Tensor
    seconds: float
    encoder_passes: int
    notes: list[str]


def _decode(bench: Bench, image: Tensor, objective: str) -> Outcome:
    """One pass through encoder and decoder."""
    reconstruct = partial(bench.inverters[objective].reconstruct, image)
    reconstruct()  # warms up
    runs = [timed(reconstruct, bench.device) for _ in range(REPEATS)]
    return Outcome(runs[0][0][bench.layer], median(seconds for _, seconds in runs), 1, [])


def _search(bench: Bench, image: Tensor, start: Tensor | None = None) -> Outcome:
    """L-BFGS from noise, or from `start`."""

    def run() -> OptimizationResult:
        return invert_by_optimization(
            bench.encoder(image)[bench.layer],
            bench.encoder,
            bench.layer,
            (image.shape[2], image.shape[3]),
            iterations=bench.iterations,
            init="noise" if start is None else start,
            seed=bench.seed,
        )

    result, seconds = timed(run, bench.device)
    if result.interrupted:
        raise KeyboardInterrupt
    return Outcome(result.images, seconds, 1 + result.encoder_passes[0], [note for note in result.notes if note])


def _refine(bench: Bench, image: Tensor) -> Outcome:
    """L-BFGS from the decoder's reconstruction (Dosovitskiy & Brox 2016)."""
    decoded = _decode(bench, image, "pixel")
    refined = _search(bench, image, decoded.preds)
    return refined._replace(seconds=decoded.seconds + refined.seconds, encoder_passes=1 + refined.encoder_passes)


class Method(NamedTuple):
    """A way to invert features: which decoders it needs, by their objective, and what it does with a 1×3×H×W image."""

    objectives: tuple[str, ...]
    invert: Callable[[Bench, Tensor], Outcome]


METHODS = {
    "decoder": Method(("pixel",), partial(_decode, objective="pixel")),
    "perceptual": Method(("perceptual",), partial(_decode, objective="perceptual")),
    "linear": Method(("linear",), partial(_decode, objective="linear")),
    "lbfgs": Method((), _search),
    "decoder+lbfgs": Method(("pixel",), _refine),
}
DEFAULT_METHODS = ("decoder", "linear", "lbfgs", "decoder+lbfgs")


def load_benches(
    methods: Sequence[str],
    layers: Sequence[str],
    encoder: str,
    weights: str,
    checkpoints: Path | None,
    device: torch.device,
    iterations: int,
    seed: int,
) -> list[Bench]:
    """A bench for each of `layers`, with the decoders that `methods` need.

    Raises:
        UnknownNameError, WeightsError, CheckpointError: see `load_inverter`.
    """
    objectives = {objective for method in methods for objective in METHODS[method].objectives}
    loaded = {
        objective: load_inverter(layers, encoder, weights, checkpoints, str(device), objective)
        for objective in sorted(objectives)
    }
    benches = []
    for layer in layers:
        network = VGGEncoder([layer], encoder, weights).to(device).to(memory_format=torch.channels_last)
        inverters = {
            objective: Inverter(network, {layer: inverter.decoders[layer]}, device)
            for objective, inverter in loaded.items()
        }
        benches.append(Bench(layer, network, inverters, iterations, seed, device))
    return benches


def fingerprint(benches: Iterable[Bench]) -> str:
    """SHA-256 over the weights of all encoders and decoders."""
    return weights_digest(network for bench in benches for network in (bench.encoder, *bench.inverters.values()))
