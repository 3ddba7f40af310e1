"""The folder of an image's results: `metrics.json`, and replacing earlier results."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inverters.encoders.labels import Label
from inverters.encoders.names import list_layers
from inverters.errors import OutputError
from inverters.files import atomic_write, make_folder, output_error, read_file, remove_partial
from inverters.inversion.provenance import Provenance, differences, reconstruction_name
from inverters.inversion.verdicts import FeatureError

Labels = tuple[Label, ...]

METRICS, STRIP = "metrics.json", "depth.png"
LARGEST_METRICS, LARGEST_PICTURE = 10_000_000, 4_000_000_000  # bytes
ANIMATION = "mix.gif"  # after the layer's name


@dataclass(frozen=True)
class MethodMetrics:
    """Measurements of what one method made of an image.

    Attributes:
        provenance: how it was made.
        seconds: duration.
        psnr: in dB, by layer.
        interrupted: Ctrl-C ended an optimisation before its last iteration.
        notes: what a reader of the result should know.
        labels: what the encoder's classifier sees in each reconstruction, by layer.
        feature_errors: by layer; empty in results of earlier versions.
    """

    provenance: Provenance
    seconds: float
    psnr: Mapping[str, float]
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    labels: Mapping[str, Labels] = field(default_factory=dict)
    feature_errors: Mapping[str, FeatureError] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """These values as JSON has them. PSNR is null where the reconstruction is exact: JSON has no infinity."""
        layers = {
            layer: {
                "psnr": round(psnr, 3) if math.isfinite(psnr) else None,
                **_error(self.feature_errors.get(layer)),
                **_classes(self.labels.get(layer, ())),
            }
            for layer, psnr in self.psnr.items()
        }
        made = asdict(self.provenance)
        del made["layers"]
        ended = {"interrupted": True} if self.interrupted else {}
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {**made, **ended, **notes, "seconds": round(self.seconds, 4), "layers": layers}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MethodMetrics":
        """The reverse of `as_json`; raises KeyError, TypeError or AttributeError if `values` are of another kind."""
        psnr = {layer: math.inf if one["psnr"] is None else one["psnr"] for layer, one in values["layers"].items()}
        interrupted, notes = values.get("interrupted", False), tuple(values.get("notes", ()))
        labels = {layer: _labels(one) for layer, one in values["layers"].items() if "classes" in one}
        errors = {layer: _feature_error(one) for layer, one in values["layers"].items() if "feature_error" in one}
        return cls(Provenance.from_json(values), values["seconds"], psnr, interrupted, notes, labels, errors)


def _error(error: FeatureError | None) -> dict[str, float | None]:
    """A feature error as JSON has it; nothing if it is unknown. It is null where the features of the image are zero."""
    if error is None:
        return {}
    value = float(f"{error.value:.6g}") if math.isfinite(error.value) else None
    return {"feature_error": value, "percentile": None if error.percentile is None else round(error.percentile, 1)}


def _feature_error(values: Mapping[str, Any]) -> FeatureError:
    """The reverse of `_error`."""
    value, percentile = values["feature_error"], values["percentile"]
    return FeatureError(math.nan if value is None else float(value), None if percentile is None else float(percentile))


def _classes(labels: Labels) -> dict[str, Any]:
    """Labels as JSON has them; nothing if there are none."""
    return {"classes": {label.name: round(label.probability, 4) for label in labels}} if labels else {}


def _labels(values: Mapping[str, Any]) -> Labels:
    """The reverse of `_classes`."""
    return tuple(Label(name, probability) for name, probability in values.get("classes", {}).items())


@dataclass(frozen=True)
class ImageMetrics:
    """Measurements of what several methods made of one image.

    Attributes:
        image: its path or another name, if it has one.
        width, height: in pixels, as it was inverted.
        methods: by one method each.
        labels: what the encoder's classifier sees in the image.
    """

    image: str | None
    width: int
    height: int
    methods: tuple[MethodMetrics, ...]
    labels: Labels = ()

    @property
    def provenances(self) -> list[Provenance]:
        """How each method's reconstructions were made."""
        return [method.provenance for method in self.methods]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended one of the methods."""
        return any(method.interrupted for method in self.methods)

    @property
    def names(self) -> list[str]:
        """The names of all reconstructions."""
        return [reconstruction_name(layer, made.provenance) for made in self.methods for layer in made.psnr]

    def as_json(self) -> dict[str, Any]:
        """The content of `metrics.json`, with the methods by label."""
        methods = {method.provenance.label: method.as_json() for method in self.methods}
        size = {"width": self.width, "height": self.height}
        return {"image": self.image, **size, **_classes(self.labels), "methods": methods}


def read_metrics(folder: Path) -> ImageMetrics | None:
    """Read `metrics.json` in `folder`; return None if it is missing, damaged, or of an earlier version."""
    try:
        values = json.loads(read_file(folder / METRICS, LARGEST_METRICS))
        methods = tuple(MethodMetrics.from_json(one) for one in values["methods"].values())
        return ImageMetrics(values["image"], values["width"], values["height"], methods, _labels(values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def find_results(
    folder: Path, image: str | None, provenances: Iterable[Provenance]
) -> tuple[ImageMetrics | None, str | None]:
    """The results in `folder` and how they differ from new ones; None if there are no results or differences."""
    if not (folder / METRICS).exists():
        return None, None
    if (saved := read_metrics(folder)) is None:
        return None, f"{METRICS} is damaged or of an earlier version"
    changes = differences(saved.provenances, provenances)
    if not is_same_image(saved.image, image):
        changes.insert(0, f"image ({saved.image}, now {image})")
    return saved, ", ".join(changes) or None


def is_complete(folder: Path, encoded: bytes) -> bool:
    """Whether `folder` has results of the image with these bytes, and all its files are as they were written."""
    try:
        digests = json.loads(read_file(folder / METRICS, LARGEST_METRICS))["sha256"]
        return bool(
            digests.pop("image") == _sha256(encoded)
            and all(_sha256(read_file(folder / name, LARGEST_PICTURE)) == digest for name, digest in digests.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_same_image(first: str | None, second: str | None) -> bool:
    """Whether two names of images are equal or paths of the same file."""
    return first == second or bool(first and second and Path(first).absolute() == Path(second).absolute())


def save_results(folder: Path, metrics: ImageMetrics, pictures: Mapping[str, bytes], sha256: str | None = None) -> None:
    """Write pictures by file name, and `metrics.json` last, so that a folder with this file is complete.

    Earlier results are removed first, `metrics.json` before its pictures. It has the SHA-256 of each picture and, where
    it is given, that of the image's file, by which `is_complete` knows them.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    remove_partial(folder)
    try:
        stale = _earlier_pictures(folder, metrics.provenances) - pictures.keys()
        for name in (METRICS, *sorted(stale)):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(f"cannot replace the results in {folder}", error) from None
    digests = {"image": sha256} | {name: _sha256(data) for name, data in pictures.items()}
    content = metrics.as_json() | {"sha256": digests}
    try:
        for name, data in pictures.items():
            atomic_write(folder / name, data)
        atomic_write(folder / METRICS, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except OutputError:
        for name in pictures:
            with suppress(OSError):
                (folder / name).unlink()
        raise


def _earlier_pictures(folder: Path, provenances: Iterable[Provenance]) -> set[str]:
    """The reconstructions in `folder` that belong to its `metrics.json`; if that cannot be read, those named so."""
    present = {path.name for path in folder.iterdir()}
    if METRICS not in present:
        return set()
    saved = read_metrics(folder)
    layers = {layer for made in provenances for layer in list_layers(made.encoder)}
    names = saved.names if saved else layers
    return present & ({f"{name}.png" for name in names} | {f"{layer}-{ANIMATION}" for layer in layers})
