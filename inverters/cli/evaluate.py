"""`invert evaluate`."""

import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inverters.cli.options import (
    HOW,
    MAX_SIZE,
    WHAT,
    Checkpoints,
    Corrections,
    Device,
    Encoder,
    ImageColumn,
    Json,
    Layers,
    OutputDir,
    Quiet,
    Seed,
    Split,
    Weights,
    find_decoders,
    layer_names,
)
from inverters.cli.printer import Printer, errors
from inverters.cli.tables import decibels, method_table
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.errors import printable
from inverters.inversion.edit_names import split_edits
from inverters.inversion.method_names import DEFAULT_METHODS, METHODS

if TYPE_CHECKING:
    from inverters.evaluation.records import Progress


def evaluate(
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH|HUB-ID",
            help="Image, folder, parquet or webdataset file, or a data set from the Hugging Face Hub.",
            rich_help_panel=WHAT,
        ),
    ],
    layers: Layers = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of images.", show_default="all", rich_help_panel=WHAT)
    ] = None,
    size: Annotated[
        int, typer.Option(min=1, max=MAX_SIZE, help="Side of the centre crops in pixels.", rich_help_panel=WHAT)
    ] = 224,
    split: Split = "validation",
    image_column: ImageColumn = "image",
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    methods: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Methods to compare: {', '.join(METHODS)}.", rich_help_panel=HOW)
    ] = ",".join(DEFAULT_METHODS),
    edits: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Edits of the features whose cost is measured, such as drop=0.5,binarize; see invert edit --help.",
            rich_help_panel=HOW,
        ),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of L-BFGS.", rich_help_panel=HOW)] = 200,
    seed: Seed = 0,
    corrections: Corrections = None,
    checkpoints: Checkpoints = None,
    output_dir: OutputDir = Path("evaluation"),
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "auto",
) -> None:
    """Benchmark decoders against optimisation and linear baselines.

    The same command continues an evaluation that was interrupted.
    """
    names = layer_names(layers, encoder)
    from datasets import disable_progress_bars

    from inverters.evaluation.evaluate import evaluate

    printer = Printer(json, quiet)
    root = find_decoders(checkpoints, printer)
    if quiet or not errors.is_terminal:
        disable_progress_bars()
    with printer.progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)

        def show(progress: "Progress") -> None:
            record, left = progress.record, timedelta(seconds=round(progress.seconds_left))
            made = f"{record.method} {record.edit}".rstrip()
            line = (
                f"{printable(record.name)}  {record.layer}  {made}: {decibels(record.scores['psnr'])} dB, {left} left"
            )
            bar.update(task, total=progress.total, completed=progress.done, description=line)
            printer.step(f"{progress.done}/{progress.total}  {line}")

        results = evaluate(
            data,
            layers=names,
            methods=[method.strip() for method in methods.split(",")],
            edits=split_edits(edits or ""),
            iterations=iterations,
            limit=limit,
            size=size,
            output_dir=output_dir,
            seed=seed,
            encoder=encoder,
            weights=weights,
            checkpoints=root,
            corrections=corrections,
            device=device,
            split=split,
            image_column=image_column,
            command=shlex.join(["invert", *sys.argv[1:]]),
            notice=printer.note,
            progress=show,
        )
    means = {
        layer: {method: found["psnr"].mean if "psnr" in found else None for method, found in by_method.items()}
        for layer, by_method in results.summary.items()
    }
    printer.table(method_table(results.methods, means))
    for method in results.edited_methods:
        edited = {
            layer: {
                edit: found["psnr"].mean if "psnr" in found else None
                for edit, found in {"unedited": results.summary[layer][method], **by_edit}.items()
            }
            for layer, by_edit in results.edited[method].items()
        }
        printer.table(method_table(["unedited", *results.edits], edited, f" by {method}"))
    printer.line(f"wrote {output_dir / 'report.md'}")
    printer.document(results.as_json())
