"""`invert evaluate`."""

import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.options import (
    Checkpoints,
    Device,
    Encoder,
    Layers,
    Weights,
    errors,
    layer_names,
    output,
    progress_bar,
)
from inverters.cli.tables import decibels, method_table
from inverters.encoders.names import DEFAULT_ENCODER


def evaluate(
    data: Annotated[str, typer.Option(metavar="PATH|HUB-ID", help="Images, as data.validation of a configuration.")],
    layers: Layers = None,
    methods: Annotated[
        str, typer.Option(metavar="NAMES", help="What to compare: decoder, perceptual, linear, lbfgs, decoder+lbfgs.")
    ] = "decoder,linear,lbfgs,decoder+lbfgs",
    iterations: Annotated[int, typer.Option(help="Steps of the searches by L-BFGS.")] = 200,
    limit: Annotated[int | None, typer.Option(help="How many images to take.  [default: all]")] = None,
    size: Annotated[int, typer.Option(help="Pixels of the centre crops' sides.")] = 224,
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("evaluation"),
    seed: Annotated[int, typer.Option(help="Of the searches' initial noise and of the intervals.")] = 0,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    checkpoints: Checkpoints = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set.")] = "validation",
    image_column: Annotated[str, typer.Option(help="Column that holds the images.")] = "image",
    device: Device = "auto",
) -> None:
    """Compare decoders with searching for the image, and with the best linear map; continues where it was stopped."""
    names = layer_names(layers, encoder)
    from inverters.evaluation import evaluate as evaluation

    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)

        def show(progress: evaluation.Progress) -> None:
            record, left = progress.record, timedelta(seconds=round(progress.seconds_left))
            line = f"{record.name}  {record.layer}  {record.method}: {decibels(record.scores['psnr'])} dB, {left} left"
            bar.update(task, total=progress.total, completed=progress.done, description=line)
            if not errors.is_terminal:
                errors.print(f"{progress.done}/{progress.total}  {line}", markup=False)

        results = evaluation.evaluate(
            data,
            layers=names,
            methods=[method.strip() for method in methods.split(",")],
            iterations=iterations,
            limit=limit,
            size=size,
            output_dir=output_dir,
            seed=seed,
            encoder=encoder,
            weights=weights,
            checkpoints=checkpoints,
            device=device,
            split=split,
            image_column=image_column,
            command=shlex.join(["invert", *sys.argv[1:]]),
            progress=show,
        )
    for image in results.settings["skipped"]:
        errors.print(f"skipped {image}", markup=False)
    for metric, reason in results.settings["left_out"].items():
        errors.print(f"left out {metric}: {reason}", markup=False)
    means = {
        layer: {method: found["psnr"].mean if "psnr" in found else None for method, found in by_method.items()}
        for layer, by_method in results.summary.items()
    }
    output.print(method_table(means))
    print(f"wrote {output_dir / 'report.md'}")
