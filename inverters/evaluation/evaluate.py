"""`invert evaluate`: images × layers × methods, measured by one path of metrics, and compared."""

import platform
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from inverters.data.images import load_image, round_to_8_bits, save_png
from inverters.devices import exact_float32, find_device
from inverters.encoders.names import DEFAULT_ENCODER, find_layers, input_multiple
from inverters.errors import InverterError, unknown_name
from inverters.evaluation import plots
from inverters.evaluation.contexts import LayerContext, fingerprint, load_contexts
from inverters.evaluation.photographs import Photograph, digest, load_photographs
from inverters.evaluation.profiling import left_out_metrics, measure, with_memory
from inverters.evaluation.report import as_markdown
from inverters.evaluation.results import METRICS, Record, Results, claim_folder, read_record
from inverters.files import atomic_write, make_folder
from inverters.inversion.loading import load_inverter
from inverters.inversion.methods import METHODS
from inverters.metrics import mean_pairwise_distance, radial_spectrum

DEFAULT_METHODS = ("decoder", "linear", "lbfgs", "decoder+lbfgs")
SHOWN = 3  # images in the depth figure
DISTANCE_IMAGES = 64  # the first ones; their mean distance is the unit of the normalized error
VERSIONED = ("inverters", "torch", "torchmetrics", "numpy")


@dataclass(frozen=True)
class Progress:
    """The record just computed, how many of `total` there are now, and how many seconds the others may take."""

    record: Record
    done: int
    total: int
    seconds_left: float


def evaluate(
    data: str,
    *,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    iterations: int = 200,
    limit: int | None = None,
    size: int = 224,
    output_dir: Path,
    seed: int = 0,
    encoder: str = DEFAULT_ENCODER,
    weights: str | None = None,
    checkpoints: Path | None = None,
    device: str = "auto",
    split: str = "validation",
    image_column: str = "image",
    command: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
) -> Results:
    """Reconstruct images from each layer by each method, and write the results into `output_dir`.

    These are `results.json`, `results.csv`, `report.md` with its figures, and a file for each finished record: the same
    call continues where an earlier one was stopped.

    Args:
        data: a source of images, as `open_images` takes them. All images are held in memory.
        layers: see `load_inverter`; None and `"all"` choose among the layers that have a trained decoder.
        methods: names from `METHODS`.
        iterations: of the searches.
        limit: how many images to take; None takes all.
        size: the shorter side is shrunk to this many pixels, and the centre square cut out. Images that are smaller, or
            cannot be read, are passed over, and named in the settings' `skipped`.
        output_dir: made if it does not exist.
        seed: of the searches' initial noise and of the bootstrap.
        encoder, weights, checkpoints, device: see `load_inverter`.
        split: of a hub data set.
        image_column: the column that holds the images.
        command: recorded in the results, and nothing else.
        progress: called after each record that is computed.

    Raises:
        InverterError: what is asked for does not exist or makes no sense, or the folder belongs to another evaluation.
    """
    _check(methods, iterations, limit, size, encoder)
    methods = [method for method in METHODS if method in methods]
    place = find_device(device)
    if layers is None or layers == "all":
        layers = list(load_inverter(layers, encoder, weights, checkpoints, device).decoders)
    layers = [layer.name for layer in find_layers(layers, encoder)]
    contexts = load_contexts(methods, layers, encoder, weights, checkpoints, place, iterations, seed)
    photographs, skipped = load_photographs(data, split, image_column, size, limit)
    settings = claim_folder(
        output_dir,
        {
            "command": command,
            "data": data,
            "split": split,
            "image_column": image_column,
            "limit": limit,
            "images": len(photographs),
            "images_sha256": digest(photographs),
            "skipped": skipped,
            "size": size,
            "encoder": encoder,
            "weights": weights,
            "networks_sha256": fingerprint(contexts),
            "layers": layers,
            "methods": methods,
            "iterations": iterations,
            "seed": seed,
            "device": _describe(place),
            "left_out": left_out_metrics(size, len(photographs), place),
            "versions": {name: version(name) for name in VERSIONED},
        },
    )
    with exact_float32():
        records = list(_records(photographs, contexts, settings, output_dir, progress))
    spectra = [radial_spectrum(photograph.pixels[None]) for photograph in photographs]
    results = Results(
        settings,
        records,
        frequencies=spectra[0][0].tolist(),
        image_spectrum=torch.cat([power for _, power in spectra]).mean(dim=0).tolist(),
    )
    _write(results, photographs[:SHOWN], output_dir)
    return results


def _check(methods: Sequence[str], iterations: int, limit: int | None, size: int, encoder: str) -> None:
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    if limit is not None and limit < 1:
        raise InverterError(f"limit is {limit}, but at least one image is needed")
    if iterations < 1:
        raise InverterError(f"iterations is {iterations}, but a search takes at least one")
    multiple = input_multiple(encoder)
    if size < multiple or size % multiple:
        raise InverterError(f"size is {size}, but must be a multiple of {multiple}, the encoder's largest stride")


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{device.type} ({platform.machine()}, {capability}, {torch.get_num_threads()} threads)"


def _records(
    photographs: Sequence[Photograph],
    contexts: Sequence[LayerContext],
    settings: Mapping[str, Any],
    output_dir: Path,
    progress: Callable[[Progress], None],
) -> Iterator[Record]:
    """Every record: read from its file, or computed and written there."""
    unit = mean_pairwise_distance([photograph.pixels for photograph in photographs[:DISTANCE_IMAGES]])
    shown = {photograph.row for photograph in photographs[:SHOWN]}
    keys = list(product(photographs, contexts, settings["methods"]))
    files = [_record_file(output_dir, photograph.row, context.layer, method) for photograph, context, method in keys]
    waiting = Counter((key[1].layer, key[2]) for key, file in zip(keys, files, strict=True) if not file.exists())
    costs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number, ((photograph, context, method), file) in enumerate(zip(keys, files, strict=True), start=1):
        record = read_record(file)
        if record is None:
            started = time.perf_counter()
            record, preds = _compute(photograph, context, method, unit, settings["left_out"])
            make_folder(file.parent)
            if photograph.row in shown:
                save_png(preds, file.with_suffix(".png"))
            atomic_write(file, record.model_dump_json())
            costs[context.layer, method].append(time.perf_counter() - started)
            waiting[context.layer, method] -= 1
            progress(Progress(record, number, len(keys), _seconds_left(costs, waiting)))
        yield record


def _record_file(output_dir: Path, row: int, layer: str, method: str) -> Path:
    return output_dir / "records" / str(row) / f"{layer}.{method}.json"


def _seconds_left(costs: Mapping[tuple[str, str], list[float]], waiting: Counter[tuple[str, str]]) -> float:
    """By the median of the records of the same layer and method, or, where there is none yet, by the mean of all."""
    typical = {key: median(seconds) for key, seconds in costs.items()}
    unknown = mean(typical.values())
    return sum(count * typical.get(key, unknown) for key, count in waiting.items())


def _compute(
    photograph: Photograph, context: LayerContext, method: str, unit: float, left_out: Collection[str]
) -> tuple[Record, Tensor]:
    """A record, and the reconstruction, 3×S×S. `unit` is the mean distance between two images."""
    device = context.inverter.device
    image = photograph.pixels[None].to(device)
    (outcome, seconds), memory = with_memory(partial(context.run, method, image), device)
    scores: dict[str, float | None] = {
        "seconds": seconds,
        "encoder_passes": 1 + outcome.encoder_passes,
        "peak_memory": memory,
        **measure(outcome.images, image, context.inverter.encoder, context.layer, unit, left_out),
    }
    _, error_power = radial_spectrum(round_to_8_bits(outcome.images) - image)
    record = Record(
        image=photograph.row,
        name=photograph.name,
        layer=context.layer,
        method=method,
        scores={name: scores.get(name) for name in METRICS},
        error_spectrum=error_power[0].tolist(),
        notes=list(outcome.notes),
    )
    return record, outcome.images[0]


def _write(results: Results, photographs: Sequence[Photograph], output_dir: Path) -> None:
    """The results, the figures and the report; `photographs` are those that the depth figure shows."""
    originals = {photograph.row: photograph.pixels for photograph in photographs}
    reconstructions = {
        key: load_image(_record_file(output_dir, *key).with_suffix(".png"))
        for key in product(originals, results.layers, results.methods)
    }
    atomic_write(output_dir / "depth.png", plots.depth_figure(results, originals, reconstructions))
    atomic_write(output_dir / "quality.png", plots.quality_figure(results))
    atomic_write(output_dir / "detail.png", plots.detail_figure(results))
    atomic_write(output_dir / "speed.png", plots.speed_figure(results))
    atomic_write(output_dir / "results.csv", results.as_csv())
    atomic_write(output_dir / "results.json", results.as_json())
    atomic_write(output_dir / "report.md", as_markdown(results))
