"""The cost of encoding, decoding and optimisation, compared within one process.

python benchmarks/inversion.py [--iterations 200] [--compile]
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter

import torch
from record import record, seconds
from torch import Tensor

from inverters.devices import exact_float32, has_fast_bfloat16
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.inversion.optimization import invert_by_optimization

SIZE, BATCH = 224, 8

Rows = list[dict[str, object]]


@torch.no_grad()
@exact_float32()
def decoding(compiled: bool) -> None:
    """Encoding to the deepest layer, with and without decoding each layer and all of them."""
    inverter = load_inverter()
    images = torch.rand(BATCH, 3, SIZE, SIZE, device=inverter.device).contiguous(memory_format=torch.channels_last)
    rows: Rows = []
    encode = 0.0
    for precision in ("float32", "bfloat16") if has_fast_bfloat16(inverter.device) else ("float32",):
        with torch.autocast(inverter.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            encode = seconds(partial(inverter.encoder, images, inverter.layers[-1:]))
            times = {"encode": encode} | _decoding_times(inverter, images)
            if compiled:
                times["the same, compiled"] = _compiled_time(inverter, images, precision)
        rows += [
            {"precision": precision, "what": what, "ms": 1000 * time, "× encode": time / encode}
            for what, time in times.items()
        ]
    time = seconds(partial(inverter.reconstruct, images))
    row = {"precision": "as `invert predict`", "what": "encode and decode all", "ms": 1000 * time}
    record("decoding", [*rows, row | {"× encode": time / encode}])


def _decoding_times(inverter: Inverter, images: Tensor) -> dict[str, float]:
    features = inverter.encoder(images, inverter.layers)
    times = {
        f"decode {layer}": seconds(partial(decoder, features[layer])) for layer, decoder in inverter.decoders.items()
    }
    everything = partial(_encode_and_decode, inverter.encoder, inverter.decoders, images)
    return times | {"encode and decode all": seconds(everything)}


def _compiled_time(inverter: Inverter, images: Tensor, precision: str) -> float:
    torch.compiler.reset()  # forgets the other precision
    decoders = {layer: torch.compile(decoder) for layer, decoder in inverter.decoders.items()}
    everything = partial(_encode_and_decode, torch.compile(inverter.encoder), decoders, images)
    started = perf_counter()
    everything()
    print(f"{precision}: compiling takes {perf_counter() - started:.0f} s")
    return seconds(everything)


def _encode_and_decode(
    encoder: Callable[..., dict[str, Tensor]], decoders: Mapping[str, Callable[[Tensor], Tensor]], images: Tensor
) -> None:
    features = encoder(images, list(decoders))
    for layer, decoder in decoders.items():
        decoder(features.pop(layer))


def optimization(iterations: int) -> None:
    """One image inverted by a decoder, and by `iterations` of L-BFGS from noise."""
    inverter = load_inverter()
    image = torch.rand(1, 3, SIZE, SIZE, device=inverter.device)
    rows: Rows = []
    for layer, decoder in inverter.decoders.items():
        alone = Inverter(inverter.encoder, {layer: decoder}, inverter.device)
        decode = seconds(partial(alone.reconstruct, image))
        features = inverter.encode(image, [layer], exact=True)[layer]
        result = invert_by_optimization(
            features, inverter.encoder, inverter.encoder.layers[layer], (SIZE, SIZE), iterations=iterations
        )
        optimize = sum(result.seconds)
        rows.append(
            {
                "layer": layer,
                "decoder, ms": 1000 * decode,
                f"L-BFGS × {iterations}, s": optimize,
                "factor": optimize / decode,
            }
        )
    record("optimization", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    arguments = parser.parse_args()
    decoding(arguments.compile)
    optimization(arguments.iterations)
