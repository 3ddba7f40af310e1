"""`evaluate`: images × layers × methods, each reconstructed and measured in the same way."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from inverters.data.images import load_image
from inverters.devices import exact_float32, find_device
from inverters.encoders.names import (
    DEFAULT_ENCODER,
    find_layers,
    input_multiple,
    input_size,
    named_weights,
    weights_label,
)
from inverters.errors import InverterError, unknown_name
from inverters.evaluation import plots
from inverters.evaluation.contexts import load_contexts
from inverters.evaluation.folder import claim_folder
from inverters.evaluation.photographs import Photograph, digest, load_photographs
from inverters.evaluation.pictures import depth_figure
from inverters.evaluation.records import Progress, compute_records, record_file
from inverters.evaluation.report import as_markdown, remarks
from inverters.evaluation.results import Results
from inverters.evaluation.scores import left_out_metrics
from inverters.files import atomic_write
from inverters.inversion.edit_names import WITH_IMAGE, Edit, check_layer, check_size, parse_edit
from inverters.inversion.method_names import DECODER_METHODS, DEFAULT_METHODS, METHODS
from inverters.inversion.selection import missing_decoders, select_methods
from inverters.locks import locked
from inverters.metrics import radial_spectrum

VERSIONED = ("inverters", "torch", "torchmetrics", "numpy")
MAX_SEED = 2**63 - 1


def evaluate(
    data: str,
    *,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    edits: Sequence[str] = (),
    iterations: int = 200,
    limit: int | None = None,
    size: int = 224,
    output_dir: Path,
    seed: int = 0,
    encoder: str = DEFAULT_ENCODER,
    weights: str | None = None,
    checkpoints: Path | str | None = None,
    corrections: int | None = None,
    device: str = "auto",
    split: str = "validation",
    image_column: str = "image",
    command: str = "",
    notice: Callable[[str], None] = lambda _: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Results:
    """Reconstruct images from each layer by each method, and write the results into `output_dir`.

    The results are `results.json`, `results.csv`, `report.md` with its figures, and a file for each record. A call with
    the same arguments continues an interrupted one. A method that has no decoder for a layer is left out there.

    Args:
        data: a source of images, see `open_images`. All images are held in memory.
        layers: see `inversion.selection.select_methods`.
        methods: names from `METHODS`.
        edits: of the features, as `parse_edit` takes them; each is measured alone, with all methods that are decoders.
        iterations: of the optimisations.
        limit: the number of images to take; None takes all.
        size: length in pixels to which the shorter side is reduced before the centre square is cut out. Images that are
            smaller, or cannot be read, are skipped, and named in the settings' `skipped`.
        output_dir: made if it does not exist.
        seed: of the optimisations' initial noise, of random edits and of the bootstrap.
        encoder, weights, checkpoints, corrections, device: see `load_inverter`.
        split: of a hub data set.
        image_column: the column that holds the images.
        command: what a user typed; it is recorded in the settings.
        notice: called with a sentence for each thing that is left out, before the first record is computed.
        progress: called after each record that is computed.

    Raises:
        InverterError: an argument is wrong, or the folder belongs to another evaluation.
    """
    _check(methods, iterations, limit, size, seed, encoder)
    place = find_device(device)
    methods = [method for method in METHODS if method in methods]
    selection = select_methods(methods, layers, encoder, weights, checkpoints)
    changes = _parse_edits(edits, selection, encoder, size)
    photographs, skipped = load_photographs(data, split, image_column, size, limit)
    contexts, networks = load_contexts(
        selection, encoder, weights, checkpoints, place, corrections, iterations, seed, changes
    )
    wanted = {
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
        "weights": weights_label(named_weights(encoder, weights)),
        "networks_sha256": networks,
        "layers": list(selection),
        "methods": [method for method in methods if any(method in some for some in selection.values())],
        "edits": [str(edit) for edit in changes] or None,
        "missing_decoders": missing_decoders(methods, selection),
        "corrections": corrections,
        "iterations": iterations,
        "seed": seed,
        "device": _describe(place),
        "left_out": left_out_metrics(size, len(photographs), place),
        "versions": {name: version(name) for name in VERSIONED},
    }
    with locked(output_dir):
        settings = claim_folder(output_dir, wanted)
        for remark in remarks(settings):
            notice(remark)
        with exact_float32():
            records = list(compute_records(photographs, contexts, settings["left_out"], output_dir, progress))
        spectra = [radial_spectrum(photograph.pixels[None]) for photograph in photographs]
        results = Results(
            settings,
            records,
            frequencies=spectra[0][0].tolist(),
            image_spectrum=torch.cat([power for _, power in spectra]).mean(dim=0).tolist(),
        )
        _write(results, photographs[0], output_dir)
    return results


def _check(methods: Sequence[str], iterations: int, limit: int | None, size: int, seed: int, encoder: str) -> None:
    """Raise InverterError if an argument is wrong."""
    if not methods:
        raise InverterError(f"methods is empty. Valid: {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    if limit is not None and limit < 1:
        raise InverterError(f"limit must be at least 1, not {limit}")
    if iterations < 1:
        raise InverterError(f"iterations must be at least 1, not {iterations}")
    if not 0 <= seed <= MAX_SEED:
        raise InverterError(f"seed must be from 0 to {MAX_SEED}, not {seed}")
    multiple = input_multiple(encoder)
    if size < multiple or size % multiple:
        raise InverterError(f"size must be a positive multiple of {multiple}, the encoder's largest stride, not {size}")
    if (only := input_size(encoder)) and size != only:
        raise InverterError(f"size must be {only}, the one size that {encoder} takes, not {size}")


def _parse_edits(
    texts: Sequence[str], selection: Mapping[str, Sequence[str]], encoder: str, size: int
) -> tuple[Edit, ...]:
    """The edits, each once; raise InverterError if one does not fit a layer, or no method is a decoder."""
    edits = tuple(dict.fromkeys(map(parse_edit, texts)))
    if edits and not any(method in DECODER_METHODS for methods in selection.values() for method in methods):
        raise InverterError(f"edits are decoded: name one of the methods {', '.join(DECODER_METHODS)}")
    for edit in edits:
        if edit.name in WITH_IMAGE:
            raise InverterError(f"{edit.name} takes one other image, but an evaluation has many: use `invert edit`")
        check_size(edit, (size, size))
        for layer in find_layers(selection, encoder):
            check_layer(edit, layer)
    return edits


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return f"{device.type} ({platform.machine()})"


def _write(results: Results, shown: Photograph, output_dir: Path) -> None:
    """Write the results, the figures and the report; `shown` is the image of the depth figure."""
    reconstructions = {
        (layer, method): load_image(record_file(output_dir, shown.row, layer, method).with_suffix(".png"))
        for layer, by_method in results.summary.items()
        for method in by_method
    }
    files: dict[str, bytes | str] = {
        "depth.png": depth_figure(results, shown.row, shown.pixels, reconstructions),
        "quality.png": plots.quality_figure(results),
        "detail.png": plots.detail_figure(results),
        "speed.png": plots.speed_figure(results),
        **({"edits.png": plots.edits_figure(results)} if results.edits else {}),
        "results.csv": results.as_csv(),
        "results.json": json.dumps(results.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": as_markdown(results),
    }
    for name, content in files.items():
        atomic_write(output_dir / name, content)
