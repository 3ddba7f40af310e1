"""Decoding beside encoding, and decoders beside optimisation: ratios within one process.

python benchmarks/inversion.py [--iterations 200]
"""

import argparse
from functools import partial
from pathlib import Path

import skimage.data
import torch
from record import record, seconds
from torch import Tensor
from torchvision.models import vgg19

from inverters.data.images import load_image, resize_shorter_side
from inverters.devices import has_fast_bfloat16
from inverters.encoders.names import perceptual_layers
from inverters.inversion.loading import load_inverter
from inverters.inversion.optimization import invert_by_optimization
from inverters.metrics import peak_signal_noise_ratio

SIZE, BATCH = 224, 8
LAYERS = perceptual_layers("vgg19")
TO_RELU5_2 = 32  # modules of torchvision's vgg19


def decoding() -> None:
    """Reconstructing a batch, beside a plain pass of torchvision's VGG-19 in the fastest precision."""
    inverter, bases = load_inverter(LAYERS), load_inverter(LAYERS, corrections=0)
    images = torch.rand(BATCH, 3, SIZE, SIZE, device=inverter.device)
    fast = has_fast_bfloat16(inverter.device)
    network = vgg19(weights=None).features[:TO_RELU5_2].eval().to(inverter.device, memory_format=torch.channels_last)
    channels_last = images.contiguous(memory_format=torch.channels_last)

    def plain() -> None:
        with torch.autocast(inverter.device.type, torch.bfloat16, enabled=fast):
            network(channels_last)

    unit = seconds(plain)
    ways = {
        "plain encoder (torchvision)": unit,
        "encode": seconds(partial(inverter.encode, images)),
        "encode and decode, without corrections": seconds(partial(bases.reconstruct, images)),
        "encode and decode": seconds(partial(inverter.reconstruct, images)),
    }
    for name, chosen in (("without corrections", bases), ("with corrections", inverter)):
        features = chosen.encode(images)
        for layer in LAYERS:
            took = seconds(partial(chosen.decode, {layer: features[layer]}, (SIZE, SIZE)))
            ways[f"decode {layer}, {name}"] = took
    rows = [{"what": what, "ms": 1000 * took, "× plain encoder": took / unit} for what, took in ways.items()]
    record("decoding", rows)


def optimisation(iterations: int) -> None:
    """A decoder's inversion of one photograph beside L-BFGS from noise: time and PSNR."""
    image = resize_shorter_side(load_image(Path(skimage.data.__path__[0]) / "astronaut.png"), SIZE)[None]
    rows = []
    for layer in LAYERS:
        inverter, base = load_inverter([layer]), load_inverter([layer], corrections=0)
        images = image.to(inverter.device)
        features = inverter.encode(images, exact=True)[layer]
        result = invert_by_optimization(
            features, inverter.encoder, inverter.encoder.layers[layer], (SIZE, SIZE), iterations=iterations
        )
        decoders = {"decoder": inverter, "without corrections": base}
        took = {name: seconds(partial(chosen.reconstruct, images)) for name, chosen in decoders.items()}
        found: dict[str, Tensor] = {name: chosen.reconstruct(images)[layer] for name, chosen in decoders.items()}
        found["L-BFGS"] = result.images
        took["L-BFGS"] = sum(result.seconds)
        rows.append(
            {
                "layer": layer,
                **{f"{name}, ms": 1000 * took[name] for name in decoders},
                f"L-BFGS × {iterations}, s": took["L-BFGS"],
                **{f"L-BFGS / {name}": took["L-BFGS"] / took[name] for name in decoders},
                **{f"{name}, dB": peak_signal_noise_ratio(some, images).item() for name, some in found.items()},
            }
        )
    record("optimisation", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=200)
    arguments = parser.parse_args()
    with torch.no_grad():
        decoding()
    optimisation(arguments.iterations)
