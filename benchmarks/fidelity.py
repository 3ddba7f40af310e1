"""How close the shipped decoders come: mean PSNR and feature error over the centre crops of photographs.

python benchmarks/fidelity.py --data photographs [--limit 120]
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import fmean

import torch
from record import record
from torch import Tensor

from inverters.data.images import round_to_8_bits
from inverters.data.sources import open_images, read_image
from inverters.decoders.names import OBJECTIVES
from inverters.devices import exact_float32, has_fast_bfloat16
from inverters.errors import ImageError
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.metrics import feature_error, peak_signal_noise_ratio

SIZE = 224
BATCH = 4


def centre_crops(data: str) -> Iterator[Tensor]:
    """3×224×224 in [0, 1], of those images that are large enough."""
    for row in open_images([data], "validation", "image"):
        try:
            image = read_image(row["image"])
        except ImageError:
            continue
        top, left = ((side - SIZE) // 2 for side in image.shape[1:])
        if min(top, left) >= 0:
            yield image[:, top : top + SIZE, left : left + SIZE]


def in_float32(inverter: Inverter, images: Tensor) -> dict[str, Tensor]:
    """The reconstructions by layer, computed in float32 throughout."""

    def encode(layer: str, images: Tensor) -> Tensor:
        return inverter.encode(images, [layer], exact=True)[layer]

    features = inverter.encode(images, exact=True)
    with exact_float32():
        return {
            layer: decoder(features.pop(layer), partial(encode, layer)) for layer, decoder in inverter.decoders.items()
        }


@torch.no_grad()
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
        bases = load_inverter("all", objective=objective, corrections=0)
        values: dict[str, dict[str, list[float]]] = {layer: defaultdict(list) for layer in inverter.layers}
        for images in torch.split(crops.to(inverter.device), BATCH):
            found = {"PSNR, dB": inverter.reconstruct(images), "without corrections, dB": bases.reconstruct(images)}
            if has_fast_bfloat16(inverter.device):
                found["in float32, dB"] = in_float32(inverter, images)
            targets = inverter.encode(images, exact=True)
            for layer in inverter.layers:
                for name, reconstructions in found.items():
                    values[layer][name] += peak_signal_noise_ratio(reconstructions[layer], images).tolist()
                shown = round_to_8_bits(found["PSNR, dB"][layer])
                error = feature_error(inverter.encode(shown, [layer], exact=True)[layer], targets[layer])
                values[layer]["feature error"] += error.tolist()
        rows += [
            {"layer": layer, "objective": objective, **{name: fmean(some) for name, some in found.items()}}
            for layer, found in values.items()
        ]
    record("fidelity", rows)


if __name__ == "__main__":
    main()
