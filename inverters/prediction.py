"""`invert predict`: reconstructs image files from each layer and measures what was lost."""

import csv
import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from inverters.checkpoint import Inverter
from inverters.errors import ImageError
from inverters.figures import depth_strip
from inverters.files import make_folder, write_whole
from inverters.images import load_image, resize_shorter_side, save_png
from inverters.metrics import peak_signal_noise_ratio


@dataclass(frozen=True)
class Prediction:
    """What was made of one image: sizes in pixels, `seconds` for encoding and decoding, PSNR in dB by layer."""

    source: Path
    folder: Path
    width: int
    height: int
    seconds: float
    psnr: dict[str, float]


@dataclass(frozen=True)
class Failure:
    """An image that could not be inverted, and why."""

    source: Path
    reason: str


def predict(
    files: Sequence[Path], inverter: Inverter, output_dir: Path, size: int | None = 512
) -> Iterator[Prediction | Failure]:
    """Inverts `files` one after the other, and yields what became of each.

    For `photo.jpg` it writes into `output_dir/photo/` a PNG for each layer, `depth.png` and `metrics.json`; for several
    images also `output_dir/metrics.csv`, once the last one is done or the iteration is given up.

    Args:
        files: images; those of the same stem get folders `photo`, `photo-2`, …
        inverter: from `load_inverter`.
        output_dir: made if it does not exist.
        size: the shorter side in pixels to which larger images are shrunk; None keeps every image as it is.

    Raises:
        OutputError: nothing can be written to `output_dir`. Whatever is wrong with one image is a `Failure`.
    """
    make_folder(output_dir)
    done: list[Prediction] = []
    try:
        for file, name in zip(files, _folder_names(files), strict=True):
            try:
                image = load_image(file)
            except ImageError as error:
                yield Failure(file, str(error))
                continue
            done.append(_invert(resize_shorter_side(image, size) if size else image, file, inverter, output_dir / name))
            yield done[-1]
    finally:
        if len(files) > 1 and done:
            write_whole(output_dir / "metrics.csv", _as_csv(done))


def _invert(image: Tensor, source: Path, inverter: Inverter, folder: Path) -> Prediction:
    """Inverts one image, 3×H×W, and writes the results into `folder`."""
    started = time.perf_counter()
    batches = inverter.reconstruct(image[None])
    reconstructions = {layer: batch[0].cpu() for layer, batch in batches.items()}
    seconds = time.perf_counter() - started

    psnr = {layer: float(peak_signal_noise_ratio(preds[None], image[None])) for layer, preds in reconstructions.items()}
    height, width = image.shape[-2:]
    prediction = Prediction(source, folder, width, height, seconds, psnr)

    make_folder(folder)
    for layer, preds in reconstructions.items():
        save_png(preds, folder / f"{layer}.png")
    strip = io.BytesIO()
    depth_strip(image, reconstructions, psnr).save(strip, "PNG")
    write_whole(folder / "depth.png", strip.getvalue())
    write_whole(folder / "metrics.json", _as_json(prediction, inverter))
    return prediction


def _as_json(prediction: Prediction, inverter: Inverter) -> str:
    """PSNR is null where the reconstruction is exact, since JSON has no infinity."""
    values = {
        "image": str(prediction.source),
        "width": prediction.width,
        "height": prediction.height,
        "encoder": inverter.encoder.name,
        "weights": inverter.encoder.weights,
        "seconds": round(prediction.seconds, 4),
        "layers": {
            layer: {"psnr": round(value, 3) if math.isfinite(value) else None}
            for layer, value in prediction.psnr.items()
        },
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _as_csv(predictions: Sequence[Prediction]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    layers = list(predictions[0].psnr)
    table.writerow(["image", "folder", "width", "height", "seconds", *(f"psnr_{layer}" for layer in layers)])
    for item in predictions:
        scores = [f"{item.psnr[layer]:.3f}" for layer in layers]
        table.writerow([item.source, item.folder.name, item.width, item.height, f"{item.seconds:.4f}", *scores])
    return text.getvalue()


def _folder_names(files: Sequence[Path]) -> list[str]:
    """Each file's stem; where a stem is taken, also by a name that differs in case only, the first free `stem-2`, …"""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
