"""`Results`: what an evaluation found, as means over the images, as JSON and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap

from inverters.evaluation.records import Record
from inverters.evaluation.scores import METRICS, Metric
from inverters.inversion.method_names import DECODER_METHODS
from inverters.metrics import LARGEST_PSNR

BOOTSTRAP_SAMPLES = 1000
MIN_IMAGES = 5  # for an interval: of fewer values the bootstrap's is far too narrow


class Interval(NamedTuple):
    """A mean, its 95 % interval, and the number of images that went into it.

    `low` and `high` are None where there are fewer than `MIN_IMAGES`.
    """

    mean: float
    low: float | None
    high: float | None
    images: int


def mean_interval(values: Sequence[float], seed: int) -> Interval:
    """The mean of `values`, and the percentile bootstrap's interval (Efron 1979)."""
    mean = float(np.mean(values))
    if len(values) < MIN_IMAGES:
        return Interval(mean, None, None, len(values))
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=BOOTSTRAP_SAMPLES,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(values))


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        settings: see `evaluate`; `left_out` has the metrics that were not computed, and why.
        records: by image, then by layer, then by method.
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
        """In the order of `METHODS`, those that inverted a layer."""
        return list(self.settings["methods"])

    @property
    def edits(self) -> list[str]:
        """Those of the features, as they are written."""
        return list(self.settings.get("edits") or ())

    @property
    def edited_methods(self) -> list[str]:
        """The methods that decoded edited features."""
        return [method for method in self.methods if method in DECODER_METHODS] if self.edits else []

    @property
    def metrics(self) -> dict[str, Metric]:
        """Those that were computed."""
        return {name: metric for name, metric in METRICS.items() if name not in self.settings["left_out"]}

    @cached_property
    def _groups(self) -> dict[str, dict[str, list[Record]]]:
        """Records without an edit by layer and method; a method that cannot invert a layer is absent there."""
        groups: dict[str, dict[str, list[Record]]] = {layer: {} for layer in self.layers}
        for record in self.records:
            if not record.edit:
                groups[record.layer].setdefault(record.method, []).append(record)
        return groups

    @cached_property
    def summary(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """By layer, method and metric the mean over the images that have the score; absent where none has it."""
        return {
            layer: {method: self._means(records) for method, records in by_method.items()}
            for layer, by_method in self._groups.items()
        }

    @cached_property
    def edited(self) -> dict[str, dict[str, dict[str, dict[str, Interval]]]]:
        """By method, layer, edit and metric the mean over the images that have the score."""
        groups: dict[tuple[str, str, str], list[Record]] = {}
        for record in self.records:
            if record.edit:
                groups.setdefault((record.method, record.layer, record.edit), []).append(record)
        means: dict[str, dict[str, dict[str, dict[str, Interval]]]] = {}
        for (method, layer, edit), records in groups.items():
            means.setdefault(method, {}).setdefault(layer, {})[edit] = self._means(records)
        return means

    def _means(self, records: Sequence[Record]) -> dict[str, Interval]:
        scores = {metric: [record.scores[metric] for record in records] for metric in self.metrics}
        scores["psnr"] = [LARGEST_PSNR if score is None else score for score in scores["psnr"]]
        values = {metric: [score for score in found if score is not None] for metric, found in scores.items()}
        return {metric: mean_interval(some, self.settings["seed"]) for metric, some in values.items() if some}

    def means(self, layer: str, metric: str) -> dict[str, float]:
        """The means by method, best first; methods without one are absent."""
        means = {method: found[metric].mean for method, found in self.summary[layer].items() if metric in found}
        return dict(sorted(means.items(), key=lambda item: item[1], reverse=METRICS[metric].higher_is_better))

    def error_spectra(self, layer: str) -> dict[str, list[float]]:
        """By method the mean power of the error over the images, K values."""
        return {
            method: [float(power) for power in np.mean([record.error_spectrum for record in records], axis=0)]
            for method, records in self._groups[layer].items()
        }

    def as_json(self) -> dict[str, Any]:
        """The settings, the means with their intervals (those of edited features apart), each record, mean spectra."""
        edited = {
            method: {
                layer: {edit: _as_json(intervals) for edit, intervals in by_edit.items()}
                for layer, by_edit in by_layer.items()
            }
            for method, by_layer in self.edited.items()
        }
        return {
            **self.settings,
            "summary": {
                layer: {method: _as_json(intervals) for method, intervals in by_method.items()}
                for layer, by_method in self.summary.items()
            },
            **({"edited": edited} if edited else {}),
            "records": [record.model_dump(exclude={"error_spectrum"}) for record in self.records],
            "spectra": {
                "frequencies": self.frequencies,
                "image": self.image_spectrum,
                "error": {layer: self.error_spectra(layer) for layer in self.layers},
            },
        }

    def as_csv(self) -> str:
        """A row for each record; a score that does not exist is empty."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["image", "name", "layer", "method", "edit", *METRICS])
        for record in self.records:
            scores = [record.scores[metric] for metric in METRICS]
            table.writerow([record.image, record.name, record.layer, record.method, record.edit, *scores])
        return text.getvalue()


def _as_json(intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    return {metric: interval._asdict() for metric, interval in intervals.items()}
