"""What becomes of an image: its folder of reconstructions and measurements, and the table over many of them."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from inverters.data.images import save_png
from inverters.files import atomic_write, make_folder
from inverters.inversion.strip import depth_strip
from inverters.metrics import peak_signal_noise_ratio

MEASUREMENTS, TABLE = "metrics.json", "metrics.csv"


@dataclass(frozen=True)
class Provenance:
    """What decides the reconstructions of an image, beside the image.

    `networks` is `weights_digest` of the encoder and its decoders; `size` the shorter side in pixels that larger images
    are shrunk to, if they are; `method` is `decoder`, `decoder+lbfgs` or `optimization`, the latter two with so many
    `iterations`.
    """

    encoder: str
    weights: str
    networks: str
    layers: tuple[str, ...]
    size: int | None
    method: str = "decoder"
    iterations: int = 0


@dataclass(frozen=True)
class Prediction:
    """What was made of one image: sizes in pixels, `seconds` that it took, PSNR in dB by layer.

    `existing` says that it was there before; `interrupted` that Ctrl-C ended a search, and this is the best image so
    far.
    """

    source: str
    folder: Path
    width: int
    height: int
    seconds: float
    psnr: dict[str, float]
    existing: bool = False
    interrupted: bool = False


@dataclass(frozen=True)
class Failure:
    """An image that could not be inverted, and why."""

    source: str
    reason: str


class NamedImages(Protocol):
    """Images by number, each with the name of its results and what a user knows it by."""

    def __len__(self) -> int: ...
    def name(self, number: int) -> str: ...
    def source(self, number: int) -> str: ...


class Folders:
    """For each image the folder that `write_prediction` writes, and the table over all of them."""

    chunk = 1

    def __init__(self, images: NamedImages, provenance: Provenance, output_dir: Path) -> None:
        self.images, self.provenance, self.output_dir = images, provenance, output_dir

    def find(self, number: int) -> Prediction | None:
        """What is there of image `number`."""
        return find_prediction(self.images.source(number), self.provenance, self.output_dir / self.images.name(number))

    def exists(self, number: int) -> bool:
        """Whether image `number` has a folder, made by the same provenance."""
        return self.find(number) is not None

    def make(
        self, number: int, image: Tensor, reconstructions: Mapping[str, Tensor], seconds: float
    ) -> tuple[None, dict[str, float]]:
        """Writes the folder of a 3×H×W image with reconstructions 1×3×H×W by layer; returns their PSNR."""
        folder = self.output_dir / self.images.name(number)
        source = self.images.source(number)
        return None, write_prediction(source, image, reconstructions, seconds, self.provenance, folder).psnr

    def add(self, number: int, row: None) -> None:
        """The folder is complete as it is."""

    def finish(self) -> None:
        """Writes the table, whichever process inverted the images."""
        found = map(self.find, range(len(self.images)))
        write_table(filter(None, found), self.provenance.layers, self.output_dir)

    def abandon(self) -> None:
        """Nothing is begun that is not whole."""


def measure(image: Tensor, reconstructions: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The reconstructions of one 3×H×W image, 1×3×H×W by layer, as 3×H×W on the CPU; and their PSNR in dB."""
    preds = {layer: batch[0].cpu() for layer, batch in reconstructions.items()}
    return preds, {layer: float(peak_signal_noise_ratio(one[None], image[None])) for layer, one in preds.items()}


def write_prediction(
    source: str,
    image: Tensor,
    reconstructions: Mapping[str, Tensor],
    seconds: float,
    provenance: Provenance,
    folder: Path,
) -> Prediction:
    """Measures the reconstructions of one 3×H×W image, 1×3×H×W by layer, and writes everything into `folder`.

    `metrics.json` comes last: where it is, everything is.

    Raises:
        OutputError: the folder cannot be written.
    """
    preds, psnr = measure(image, reconstructions)
    height, width = image.shape[-2:]
    prediction = Prediction(source, folder, width, height, seconds, psnr)
    make_folder(folder)
    for layer, one in preds.items():
        save_png(one, folder / f"{layer}.png")
    strip = io.BytesIO()
    depth_strip(image, preds, psnr).save(strip, "PNG")
    atomic_write(folder / "depth.png", strip.getvalue())
    atomic_write(folder / MEASUREMENTS, _as_json(prediction, provenance))
    return prediction


def find_prediction(source: str, provenance: Provenance, folder: Path) -> Prediction | None:
    """What `write_prediction` has left in `folder` for this source and provenance; None where that is not all there."""
    try:
        values = json.loads((folder / MEASUREMENTS).read_text(encoding="utf-8"))
        layers = {layer: math.inf if one["psnr"] is None else one["psnr"] for layer, one in values["layers"].items()}
        prediction = Prediction(
            source, folder, values["width"], values["height"], values["seconds"], layers, existing=True
        )
        return prediction if values == json.loads(_as_json(prediction, provenance)) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not ours
        return None


def _as_json(prediction: Prediction, provenance: Provenance) -> str:
    """PSNR is null where the reconstruction is exact, since JSON has no infinity."""
    values: dict[str, Any] = {
        "image": prediction.source,
        "width": prediction.width,
        "height": prediction.height,
        **asdict(provenance),
        "seconds": round(prediction.seconds, 4),
        "layers": {
            layer: {"psnr": round(value, 3) if math.isfinite(value) else None}
            for layer, value in ((layer, prediction.psnr[layer]) for layer in provenance.layers)
        },
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def write_table(predictions: Iterable[Prediction], layers: Sequence[str], output_dir: Path) -> None:
    """Writes `output_dir/metrics.csv`, with a line for each prediction.

    Raises:
        OutputError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "folder", "width", "height", "seconds", *(f"psnr_{layer}" for layer in layers)])
    for item in predictions:
        scores = [f"{item.psnr[layer]:.3f}" for layer in layers]
        table.writerow([item.source, item.folder.name, item.width, item.height, f"{item.seconds:.4f}", *scores])
    atomic_write(output_dir / TABLE, text.getvalue())


def folder_names(files: Sequence[Path]) -> list[str]:
    """Each file's stem; where a stem is taken, also by a name that differs in case only, the first free `stem-2`, …"""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    names = []
    for file in files:
        stem = file.stem.casefold()
        name, number = file.stem, numbers.get(stem, 1)
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        numbers[stem] = number
        taken.add(name.casefold())
        names.append(name)
    return names
