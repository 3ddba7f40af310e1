"""`metrics.csv`: what the `metrics.json` files in the folders beside it say, with a line for each image and method."""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

from inverters.encoders.names import find_layers
from inverters.errors import UnknownNameError
from inverters.files import replacing
from inverters.inversion.provenance import Provenance
from inverters.inversion.saved import ImageMetrics, read_metrics
from inverters.inversion.verdicts import FeatureError

TABLE = "metrics.csv"


def write_table(output_dir: Path, first: Iterable[str]) -> None:
    """Write `output_dir/metrics.csv` from the folders in `output_dir`.

    Args:
        output_dir: has a folder for each image.
        first: names of the folders that come first, in this order; the others follow by name.

    Raises:
        OutputError: the table cannot be written.
    """
    with replacing(output_dir / TABLE) as partial:
        names = dict.fromkeys(first)
        names |= dict.fromkeys(sorted(entry.name for entry in output_dir.iterdir() if entry.is_dir()))
        layers = _in_order(_saved(output_dir, names))  # read twice, so that memory does not grow with the images
        made = [field.name for field in fields(Provenance) if field.name != "layers"]
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["image", "folder", "width", "height", *made, "seconds", *_columns(layers)])
            for name, metrics in _saved(output_dir, names):
                for method in metrics.methods:
                    errors = method.feature_errors
                    provenance = asdict(method.provenance) | {"edits": " ".join(method.provenance.edits)}
                    table.writerow(
                        [
                            *(metrics.image, name, metrics.width, metrics.height),
                            *(provenance[key] for key in made),
                            f"{method.seconds:.4f}",
                            *(f"{method.psnr[layer]:.3f}" if layer in method.psnr else "" for layer in layers),
                            *(_shown(errors.get(layer), "value", ".6g") for layer in layers),
                            *(_shown(errors.get(layer), "percentile", ".1f") for layer in layers),
                        ]
                    )


def _columns(layers: Iterable[str]) -> list[str]:
    return [f"{score}_{layer}" for score in ("psnr", "feature_error", "percentile") for layer in layers]


def _shown(error: FeatureError | None, field: str, form: str) -> str:
    """A field of an error; empty if it is unknown."""
    value = getattr(error, field, None)
    return "" if value is None or math.isnan(value) else format(value, form)


def _saved(output_dir: Path, names: Iterable[str]) -> Iterator[tuple[str, ImageMetrics]]:
    for name in names:
        if metrics := read_metrics(output_dir / name):
            yield name, metrics


def _in_order(saved: Iterable[tuple[str, ImageMetrics]]) -> list[str]:
    """All layers, those of each encoder in order of execution."""
    by_encoder: dict[str, dict[str, None]] = {}
    for _, metrics in saved:
        for method in metrics.methods:
            by_encoder.setdefault(method.provenance.encoder, {}).update(dict.fromkeys(method.psnr))
    ordered: dict[str, None] = {}
    for encoder, layers in by_encoder.items():
        try:
            ordered |= dict.fromkeys(layer.name for layer in find_layers(layers, encoder))
        except UnknownNameError:  # an encoder of the user's own
            ordered |= layers
    return list(ordered)
