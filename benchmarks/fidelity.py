"""The mean PSNR of the shipped decoders over the centre crops of photographs, in each precision.

python benchmarks/fidelity.py --data photographs [--limit 120]
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from statistics import fmean

import torch
from record import record
from torch import Tensor

from inverters.data.sources import open_images, read_image
from inverters.decoders.published import OBJECTIVES
from inverters.devices import exact_float32, has_fast_bfloat16
from inverters.errors import ImageError
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.metrics import peak_signal_noise_ratio

SIZE = 224
BATCH = 8
AS_PREDICT = "invert predict"


def centre_crops(data: str) -> Iterator[Tensor]:
    """3×224×224 in [0, 1], of the images that are large enough."""
    for row in open_images([data], "validation", "image"):
        try:
            image = read_image(row)
        except ImageError:
            continue
        top, left = ((side - SIZE) // 2 for side in image.shape[1:])
        if min(top, left) >= 0:
            yield image[:, top : top + SIZE, left : left + SIZE]


@torch.no_grad()
@exact_float32()
def reconstruct(inverter: Inverter, images: Tensor, precision: str) -> dict[str, Tensor]:
    """Reconstruct `images` as `invert predict` does, or with all layers in `float32` or `bfloat16`."""
    if precision == AS_PREDICT:
        return inverter.reconstruct(images)
    with torch.autocast(inverter.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        features = inverter.encoder(images, inverter.layers)
        return {layer: decoder(features.pop(layer)).float() for layer, decoder in inverter.decoders.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, help="how many crops to take")
    arguments = parser.parse_args()
    crops = torch.stack(list(islice(centre_crops(arguments.data), arguments.limit)))
    print(f"{len(crops)} crops of {SIZE}×{SIZE}\n")
    rows: list[dict[str, object]] = []
    for objective in OBJECTIVES:
        inverter = load_inverter("all", objective=objective)
        precisions = [AS_PREDICT, "float32", *(["bfloat16"] if has_fast_bfloat16(inverter.device) else [])]
        psnr: dict[str, dict[str, list[float]]] = {
            layer: {name: [] for name in precisions} for layer in inverter.layers
        }
        for target in crops.split(BATCH):
            images = target.to(inverter.device).contiguous(memory_format=torch.channels_last)
            for precision in precisions:
                for layer, preds in reconstruct(inverter, images, precision).items():
                    psnr[layer][precision] += peak_signal_noise_ratio(preds, images).tolist()
        rows += [
            {"layer": layer, "objective": objective} | {f"{name}, dB": fmean(values) for name, values in scores.items()}
            for layer, scores in psnr.items()
        ]
    record("fidelity", rows)


if __name__ == "__main__":
    main()
