"""Encoding, decoding, and searching by L-BFGS: what each costs beside the others, in one process and one precision.

python benchmarks/inversion.py [--iterations 200] [--compile]
"""

import argparse
from functools import partial
from time import perf_counter

import torch
from record import record, seconds

from inverters.devices import has_fast_bfloat16
from inverters.encoders.vgg_layers import GATYS_LAYERS
from inverters.inversion.loading import load_inverter
from inverters.inversion.optimization import invert_by_optimization

SIZE, BATCH = 224, 8


@torch.no_grad()
def decoding(compiled: bool) -> None:
    """Encoding a batch to relu5_2 alone, and with the decoding of each layer and of all."""
    inverter = load_inverter(GATYS_LAYERS)
    images = torch.rand(BATCH, 3, SIZE, SIZE, device=inverter.device).contiguous(memory_format=torch.channels_last)
    precisions = {"float32": False} | ({"bfloat16": True} if has_fast_bfloat16(inverter.device) else {})
    rows = []
    for name, fast in precisions.items():
        with torch.autocast(inverter.device.type, torch.bfloat16, enabled=fast):
            encode = partial(inverter.encoder, images)
            features = encode()
            alone = seconds(partial(inverter.encoder, images, ["relu5_2"]))
            rows.append({"precision": name, "what": "encode", "ms": 1000 * alone, "× encode": 1.0})
            for layer, decoder in inverter.decoders.items():
                took = seconds(partial(decoder, features[layer]))
                rows.append({"precision": name, "what": f"decode {layer}", "ms": 1000 * took, "× encode": took / alone})

            ways = {"encode and decode all": (inverter.encoder, inverter.decoders)}
            if compiled:
                torch.compiler.reset()  # of the precision before
                networks = {layer: torch.compile(decoder) for layer, decoder in inverter.decoders.items()}
                ways["the same, compiled"] = (torch.compile(inverter.encoder), networks)
            for what, (encoder, decoders) in ways.items():

                def everything() -> None:
                    found = encoder(images)  # noqa: B023
                    for layer, decoder in decoders.items():  # noqa: B023
                        decoder(found.pop(layer))

                if decoders is not inverter.decoders:
                    started = perf_counter()
                    everything()
                    print(f"{name}: compiling takes {perf_counter() - started:.0f} s")
                took = seconds(everything)
                rows.append({"precision": name, "what": what, "ms": 1000 * took, "× encode": took / alone})
    took = seconds(partial(inverter.reconstruct, images))
    row = {"precision": "as `invert predict`", "what": "encode and decode all", "ms": 1000 * took}
    record("decoding", [*rows, row | {"× encode": took / alone}])


def searching(iterations: int) -> None:
    """A decoder's inversion of one image, and `iterations` of L-BFGS from noise."""
    rows = []
    for layer in GATYS_LAYERS:
        inverter = load_inverter([layer])
        image = torch.rand(1, 3, SIZE, SIZE, device=inverter.device)
        decode = seconds(partial(inverter.reconstruct, image))
        with torch.no_grad():
            features = inverter.encoder(image)[layer]
        result = invert_by_optimization(features, inverter.encoder, layer, (SIZE, SIZE), iterations=iterations)
        rows.append(
            {
                "layer": layer,
                "decoder, ms": 1000 * decode,
                f"L-BFGS × {iterations}, s": sum(result.seconds),
                "factor": sum(result.seconds) / decode,
            }
        )
    record("searching", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    arguments = parser.parse_args()
    decoding(arguments.compile)
    searching(arguments.iterations)
