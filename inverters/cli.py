"""The command line: parses, calls, prints. Torch and what needs it are imported by the commands, not by this module."""

import os
import shlex
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from inverters.cli_invert import optimize, predict
from inverters.errors import InverterError
from inverters.layers import layer_table, network
from inverters.options import (
    Checkpoints,
    Device,
    Encoder,
    Layers,
    Objective,
    Weights,
    errors,
    layer_names,
    output,
    progress_bar,
)
from inverters.tables import decibels, layer_rows, method_table

app = typer.Typer(
    help="See and measure what each layer of a VGG still knows about an image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Each of a user's mistakes is one line on stderr and status 1; Ctrl-C is status 130."""
    # Memory in pages of 2 MB, where Linux has them: handing out those of 4 kB takes up to a seventh of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        app(arguments)
    except InverterError as error:
        if os.environ.get("INVERTERS_DEBUG") == "1":
            raise
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"inverters {version('inverters')}")
        raise typer.Exit


@app.callback()
def invert(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See and measure what each layer of a VGG still knows about an image."""


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run; see configs/ for examples.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the configuration.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="[default: runs/<config's name>]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
) -> None:
    """Train decoders, and publish them under <output-dir>/checkpoints/."""
    from inverters.config_file import load_config

    run = load_config(config, overrides or [])
    from inverters.training import train

    for folder in train(run, output_dir or Path("runs") / config.stem, resume):
        print(folder)


app.command()(predict)
app.command()(optimize)


@app.command()
def layers(
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
) -> None:
    """List the layers of an encoder, and which have a decoder."""
    table = layer_table(encoder)
    from inverters.checkpoint import decoders_at_hand, find_checkpoints
    from inverters.weights import check_weights

    check_weights(encoder, weights)
    cards = decoders_at_hand(find_checkpoints(checkpoints), encoder, weights, objective)
    output.print(layer_rows(table, {name: card.metrics.get("psnr") for name, card in cards.items()}))


@app.command()
def download_weights(encoder: Encoder = "vgg19", weights: Weights = "IMAGENET1K_V1") -> None:
    """Fetch an encoder's weights beforehand, for machines without a network."""
    from inverters.weights import load_weights

    load_weights(encoder, weights, depth=len(network(encoder)))
    print(f"{weights} of {encoder} is at hand")


@app.command()
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
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set.")] = "validation",
    image_column: Annotated[str, typer.Option(help="Column that holds the images.")] = "image",
    device: Device = "auto",
) -> None:
    """Compare decoders with searching for the image, and with the best linear map; continues where it was stopped."""
    names = layer_names(layers, encoder)
    from inverters import evaluation

    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)

        def show(progress: evaluation.Progress) -> None:
            cell, left = progress.cell, timedelta(seconds=round(progress.seconds_left))
            line = f"{cell.name}  {cell.layer}  {cell.method}: {decibels(cell.scores['psnr'])} dB, {left} left"
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


@app.command()
def cards(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The photograph to show the decoders on.")],
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
) -> None:
    """Write the README.md of a folder of decoders: tables from their cards, and pictures."""
    layer_table(encoder)
    from inverters.cards import write_cards

    print(f"wrote {write_cards(image, checkpoints, encoder, weights)}")
