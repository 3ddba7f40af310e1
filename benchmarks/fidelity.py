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
from inverters.devices import has_fast_bfloat16
from inverters.errors import ImageError
from inverters.inversion.loading import load_inverter
from inverters.metrics import peak_signal_noise_ratio

SIZE = 224
BATCH = 8


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


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, help="how many crops to take")
    arguments = parser.parse_args()
    crops = torch.stack(list(islice(centre_crops(arguments.data), arguments.limit)))
    print(f"{len(crops)} crops of {SIZE}×{SIZE}\n")
    rows: list[dict[str, object]] = []
    for objective in ("pixel", "perceptual", "linear"):
        inverter = load_inverter("all", objective=objective)
        fast = has_fast_bfloat16(inverter.device)
        ways = ("invert predict", "float32", *(["bfloat16"] if fast else []))
        psnr: dict[str, dict[str, list[float]]] = {layer: {way: [] for way in ways} for layer in inverter.decoders}
        for target in crops.split(BATCH):
            images = target.to(inverter.device).contiguous(memory_format=torch.channels_last)
            for way in ways:
                if way == "invert predict":
                    preds = inverter.reconstruct(images)
                else:
                    with torch.autocast(inverter.device.type, torch.bfloat16, enabled=way == "bfloat16"):
                        features = inverter.encoder(images)
                        preds = {name: decoder(features.pop(name)) for name, decoder in inverter.decoders.items()}
                for layer, pixels in preds.items():
                    psnr[layer][way] += peak_signal_noise_ratio(pixels.float(), images).tolist()
        rows += [
            {"layer": layer, "objective": objective, **{f"{way}, dB": fmean(psnr[layer][way]) for way in ways}}
            for layer in psnr
        ]
    record("fidelity", rows)


if __name__ == "__main__":
    main()
