"""What an evaluation measures and finds: the metrics, the records, and their means over the images."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from inverters.errors import OutputError
from inverters.files import atomic_write, make_folder

BOOTSTRAP_SAMPLES = 1000


class Metric(NamedTuple):
    """How a metric is shown: title, unit, format, whether higher is better, and what it means."""

    title: str
    unit: str
    format: str
    higher_is_better: bool
    meaning: str

    @property
    def label(self) -> str:
        """`PSNR (dB)`, or the title alone where there is no unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = {
    "psnr": Metric("PSNR", "dB", ".2f", True, "Peak signal-to-noise ratio of the 8-bit image."),
    "ssim": Metric("SSIM", "", ".3f", True, "Structural similarity (Wang et al. 2004); 1 is perfect."),
    "ms_ssim": Metric("MS-SSIM", "", ".3f", True, "Structural similarity over five scales (Wang et al. 2003)."),
    "lpips": Metric("LPIPS", "", ".3f", False, "Perceptual distance in AlexNet (Zhang et al. 2018); 0 is perfect."),
    "feature_error": Metric(
        "Feature error", "", ".4f", False, "‖φ(x̂) − φ(x)‖ / ‖φ(x)‖ at the layer itself, of the 8-bit image."
    ),
    "normalized_error": Metric(
        "Normalized error",
        "",
        ".3f",
        False,
        "‖x̂ − x‖ over the mean distance between two images of the set (Dosovitskiy & Brox 2016).",
    ),
    "resolved_detail": Metric(
        "Resolved detail",
        "cycles per pixel",
        ".3f",
        True,
        "The frequency up to which the image stands 3 dB above the error; 0.5 is all that pixels can hold.",
    ),
    "seconds": Metric(
        "Time per image", "s", ".3f", False, "Encoder and decoder, or the whole search; images come one by one."
    ),
    "encoder_passes": Metric("Encoder passes", "per image", ".0f", False, "Forward passes, each for one image."),
    "peak_memory": Metric(
        "Peak memory",
        "MB",
        ".0f",
        False,
        "What a method needs at once beyond the libraries and networks, which are loaded already.",
    ),
}

Score = Annotated[
    float | None, AfterValidator(lambda score: None if score is None or not math.isfinite(score) else score)
]


class Record(BaseModel):
    """What one method made of one image from one layer.

    `image` is the row in the data set; `scores` has each of `METRICS`, None where it does not exist or is not finite;
    `error_spectrum` is the error's power at the frequencies of `radial_spectrum`; `notes` are the method's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: int
    name: str
    layer: str
    method: str
    scores: dict[str, Score]
    error_spectrum: list[float]
    notes: list[str]


def read_record(path: Path) -> Record | None:
    """The record in this file; None if there is none, or if the file is damaged and must be computed again."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def claim_folder(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Writes `settings` into an empty `folder`, made if need be; in one of the same evaluation they stay.

    Returns:
        The settings that the folder carries. Only their `command` can differ from that of `settings`.

    Raises:
        OutputError: the folder belongs to another evaluation or to something else, or it cannot be written.
    """
    path = folder / "settings.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty, and holds no evaluation: name another --output-dir") from None
        make_folder(folder)
        atomic_write(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return settings
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot read {path}: {error}") from None
    differences = [
        f"{key} is {found.get(key)!r} there and {value!r} here"
        for key, value in settings.items()
        if key != "command" and found.get(key) != value
    ]
    if differences:
        raise OutputError(
            f"{folder} belongs to another evaluation: {'; '.join(differences)}. Name another --output-dir"
        )
    return found


class Interval(NamedTuple):
    """A mean, its bootstrap 95 % interval, and how many images went into it."""

    mean: float
    low: float
    high: float
    images: int


def bootstrap_interval(values: Sequence[float], seed: int) -> Interval:
    """The mean of `values`, and the 2.5 and 97.5 percentiles of the means of resampled ones (Efron 1979)."""
    data = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(data), size=(BOOTSTRAP_SAMPLES, len(data)))
    low, high = np.percentile(data[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(data.mean()), float(low), float(high), len(data))


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    Attributes:
        settings: what made it, see `evaluate`; `left_out` names the metrics that were not taken, and says why.
        records: image by image, in each by layer, in each by method.
        frequencies: of the spectra, K values in cycles per pixel.
        image_spectrum: the mean power of the images' luminance, K values.
    """

    settings: dict[str, Any]
    records: list[Record]
    frequencies: list[float]
    image_spectrum: list[float]

    @property
    def layers(self) -> list[str]:
        """Shallowest first."""
        return list(self.settings["layers"])

    @property
    def methods(self) -> list[str]:
        """In the order of the table of methods."""
        return list(self.settings["methods"])

    @property
    def metrics(self) -> dict[str, Metric]:
        """Those that were taken."""
        return {name: metric for name, metric in METRICS.items() if name not in self.settings["left_out"]}

    @cached_property
    def summary(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """By layer, method and metric the mean over the images where the score exists; not there if it never does."""
        return {
            layer: {
                method: {
                    metric: bootstrap_interval(values, self.settings["seed"])
                    for metric in self.metrics
                    if (values := self._scores(layer, method, metric))
                }
                for method in self.methods
            }
            for layer in self.layers
        }

    def _scores(self, layer: str, method: str, metric: str) -> list[float]:
        return [score for record in self._records(layer, method) if (score := record.scores[metric]) is not None]

    def _records(self, layer: str, method: str) -> list[Record]:
        return [record for record in self.records if (record.layer, record.method) == (layer, method)]

    def error_spectrum(self, layer: str, method: str) -> list[float]:
        """The mean power of the error over the images, K values."""
        spectra = [record.error_spectrum for record in self._records(layer, method)]
        return [float(power) for power in np.mean(spectra, axis=0)]

    def as_json(self) -> str:
        """`results.json`: the settings, the means with their intervals, each record, and the mean spectra."""
        values = {
            **self.settings,
            "summary": {
                layer: {
                    method: {metric: interval._asdict() for metric, interval in intervals.items()}
                    for method, intervals in by_method.items()
                }
                for layer, by_method in self.summary.items()
            },
            "records": [record.model_dump(exclude={"error_spectrum"}) for record in self.records],
            "spectra": {
                "frequencies": self.frequencies,
                "image": self.image_spectrum,
                "error": {
                    layer: {method: self.error_spectrum(layer, method) for method in self.methods}
                    for layer in self.layers
                },
            },
        }
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def as_csv(self) -> str:
        """`results.csv`: a row for each record; a score that does not exist is empty."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["image", "name", "layer", "method", *METRICS])
        for record in self.records:
            scores = [record.scores[metric] for metric in METRICS]
            table.writerow([record.image, record.name, record.layer, record.method, *scores])
        return text.getvalue()
