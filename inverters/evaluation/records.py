"""`Record`: one reconstruction, measured. Records are computed one by one and kept in files, to continue from."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from torch import Tensor

from inverters.data.images import load_image, round_to_8_bits, save_png
from inverters.errors import ImageError
from inverters.evaluation.contexts import LayerContext
from inverters.evaluation.photographs import Photograph
from inverters.evaluation.profiling import with_memory
from inverters.evaluation.scores import METRICS, measure
from inverters.files import atomic_write, make_folder, read_file, remove_partial
from inverters.inversion.edit_names import Edit
from inverters.metrics import mean_pairwise_distance, radial_spectrum
from inverters.signals import raise_if_stopped

DISTANCE_IMAGES = 64  # the first ones; their mean distance is the unit of the normalised error
LARGEST_RECORD = 1_000_000  # bytes

Task = tuple[str, str, Edit | None]  # a layer, a method and an edit


class Record(BaseModel):
    """The reconstruction of one image from one layer by one method, measured.

    Attributes:
        image: row in the data set.
        name: of the image, for people.
        layer, method: names.
        edit: what changed the features, as `parse_edit` takes it; empty if nothing did.
        threads: of the CPU that it was computed with.
        scores: each of `METRICS`; None where it does not exist or is not finite.
        error_spectrum: power of the error at the frequencies of `radial_spectrum`.
        notes: see `Reconstruction`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    image: int
    name: str
    layer: str
    method: str
    edit: str = ""
    threads: int
    scores: dict[str, FiniteFloat | None]
    error_spectrum: list[FiniteFloat]
    notes: list[str]


def record_file(folder: Path, image: int, layer: str, method: str, edit: str = "") -> Path:
    """Where the record is kept; the reconstruction lies beside it as a PNG if the depth figure shows it."""
    return folder / "records" / str(image) / f"{'.'.join(filter(None, (layer, method, edit)))}.json"


def read_record(path: Path, image: int, layer: str, method: str, edit: str, frequencies: int) -> Record | None:
    """The record in this file; None if there is none, or if it is damaged or another one and must be computed again.

    Its spectrum has `frequencies` values.
    """
    try:
        record = Record.model_validate_json(read_file(path, LARGEST_RECORD))
    except (OSError, ValidationError):
        return None
    same = (record.image, record.layer, record.method, record.edit) == (image, layer, method, edit)
    whole = record.scores.keys() == METRICS.keys() and len(record.error_spectrum) == frequencies
    return record if same and whole else None


def _is_picture(path: Path) -> bool:
    try:
        load_image(path)
    except ImageError:
        return False
    return True


@dataclass(frozen=True)
class Progress:
    """The record just computed, how many of `total` there are now, and an estimate of the remaining seconds."""

    record: Record
    done: int
    total: int
    seconds_left: float


def compute_records(
    photographs: Sequence[Photograph],
    contexts: Sequence[LayerContext],
    left_out: Collection[str],
    output_dir: Path,
    progress: Callable[[Progress], None],
) -> Iterator[Record]:
    """Yield every record: read from its file, or computed and written there.

    Args:
        photographs: the images; reconstructions of the first one are kept as PNGs beside the records.
        contexts: layers and methods.
        left_out: names of metrics that are not computed.
        output_dir: folder of the evaluation.
        progress: called after each record that is computed.
    """
    distance = mean_pairwise_distance([photograph.pixels for photograph in photographs[:DISTANCE_IMAGES]])
    frequencies = len(radial_spectrum(photographs[0].pixels[None])[0])
    tasks = []
    for photograph in photographs:
        for context in contexts:
            for method, edit in context.tasks:
                named = (photograph.row, context.layer, method, str(edit or ""))
                file = record_file(output_dir, *named)
                known = read_record(file, *named, frequencies)
                if photograph is photographs[0] and not edit and not _is_picture(file.with_suffix(".png")):
                    known = None
                tasks.append((photograph, context, method, edit, file, known))
    waiting = Counter((context.layer, method, edit) for _, context, method, edit, _, record in tasks if record is None)
    costs: dict[Task, list[float]] = defaultdict(list)
    for photograph, context, method, edit, file, record in tasks:
        if record is None:
            raise_if_stopped()
            started = time.perf_counter()
            record, preds = _compute(photograph, context, method, edit, distance, left_out)
            make_folder(file.parent)
            remove_partial(file.parent)
            if photograph is photographs[0] and not edit:
                save_png(preds, file.with_suffix(".png"))
            atomic_write(file, record.model_dump_json())
            costs[context.layer, method, edit].append(time.perf_counter() - started)
            waiting[context.layer, method, edit] -= 1
            left = max(0.0, _seconds_left(costs, waiting))
            progress(Progress(record, len(tasks) - waiting.total(), len(tasks), left))
        yield record


def _seconds_left(costs: Mapping[Task, list[float]], waiting: Counter[Task]) -> float:
    """Estimate from the median cost of each task of a layer; where there is none yet, from the mean of all others."""
    typical = {key: median(seconds) for key, seconds in costs.items()}
    unknown = mean(typical.values())
    return sum(count * typical.get(key, unknown) for key, count in waiting.items())


def _compute(
    photograph: Photograph,
    context: LayerContext,
    method: str,
    edit: Edit | None,
    mean_distance: float,
    left_out: Collection[str],
) -> tuple[Record, Tensor]:
    """Reconstruct and measure: a record, and the reconstruction, 3×S×S."""
    device = context.inverter.device
    image = photograph.pixels[None].to(device)
    (found, seconds), memory = with_memory(partial(context.run, method, image, edit), device)
    scores: dict[str, float | None] = {
        "seconds": seconds,
        "encoder_passes": 1 + found.encoder_passes,
        "peak_memory": memory,
        **measure(found.images, image, context.inverter.encoder, context.layer, mean_distance, left_out),
    }
    _, error_power = radial_spectrum(round_to_8_bits(found.images) - image)
    undefined = [
        f"{METRICS[name].title} is not defined, and left out of the mean"
        for name, score in scores.items()
        if score is not None and math.isnan(score)
    ]
    record = Record(
        image=photograph.row,
        name=photograph.name,
        layer=context.layer,
        method=method,
        edit=str(edit or ""),
        threads=torch.get_num_threads(),
        scores={name: _finite(scores.get(name)) for name in METRICS},
        error_spectrum=error_power[0].tolist(),
        notes=[*found.notes, *undefined],
    )
    return record, found.images[0]


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
