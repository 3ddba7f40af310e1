"""The command line: parses, calls, prints. Torch and what needs it are imported by the commands, not by this module."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from inverters.errors import InverterError
from inverters.layers import find_layers, layer_table

if TYPE_CHECKING:
    from inverters.prediction import Prediction

SHOWN_IMAGES = 20  # rows of the table that `predict` ends with

app = typer.Typer(
    help="See and measure what each layer of a VGG still knows about an image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
output = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. A user's mistake is one line on stderr and status 1; Ctrl-C is status 130."""
    try:
        app(arguments)
    except InverterError as error:
        if os.environ.get("INVERTERS_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)




def _size(value: str) -> str:
    if value != "full" and not (value.isdecimal() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is neither a number of pixels nor 'full'")
    return value


def _version(wanted: bool) -> None:
    if wanted:
        print(f"inverters {version('inverters')}")
        raise typer.Exit


Layers = Annotated[str, typer.Option(metavar="NAMES|all", help="Layers, such as relu1_2,relu4_2; or all with a decoder.")]
Encoder = Annotated[str, typer.Option(help="The network: vgg16, vgg16_bn, vgg19 or vgg19_bn.")]
Weights = Annotated[str, typer.Option(help="Its weights: original, a name of torchvision's, random, or a file.")]
Checkpoints = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Published decoders.  [default: $INVERTERS_CHECKPOINTS, else those shipped]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


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
    from inverters.config import load_config

    run = load_config(config, overrides or [])
    from inverters.training import train

    for folder in train(run, output_dir or Path("runs") / config.stem, resume):
        print(folder)


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, and folders to search through.")],
    layers: Layers = "all",
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("inversions"),
    size: Annotated[
        str, typer.Option(callback=_size, metavar="PIXELS|full", help="Shrink to this shorter side, or do not.")
    ] = "512",
    device: Device = "auto",
) -> None:
    """Reconstruct images from every layer, and measure what was lost."""
    names = _names(layers, encoder)
    from inverters.checkpoint import load_inverter
    from inverters.errors import ImageError
    from inverters.images import find_images
    from inverters.prediction import Failure, predict

    inverter = load_inverter(names, encoder, weights, checkpoints, device)
    files: dict[Path, Path] = {}  # each file once, as it was first named
    failed = 0
    for path in paths:
        try:
            files = {file.absolute(): file for file in find_images(path)} | files
        except ImageError as error:
            failed += 1
            errors.print(f"error: {error}", markup=False)
    done = []
    results = predict(list(files.values()), inverter, output_dir, None if size == "full" else int(size))
    for result in track(results, "inverting", len(files), console=errors, disable=not errors.is_terminal, transient=True):
        if isinstance(result, Failure):
            failed += 1
            errors.print(f"error: {result.reason}", markup=False)
        else:
            done.append(result)
            if not errors.is_terminal and len(files) > 1:
                errors.print(f"inverted {result.source}", markup=False)
    if done:
        output.print(_summary(done))
        where = done[0].folder / "depth.png" if len(done) == 1 else output_dir
        print(f"wrote {where}")
    if failed:
        raise typer.Exit(1)


def _summary(predictions: "list[Prediction]") -> Table:
    """PSNR by image and layer, the mean over all images last."""
    names = list(predictions[0].psnr)
    table = Table("image", *names, title="PSNR in dB", title_justify="left")
    for item in predictions[:SHOWN_IMAGES]:
        table.add_row(item.folder.name, *(_decibels(item.psnr[name]) for name in names))
    if len(predictions) > SHOWN_IMAGES:
        table.add_row(f"… {len(predictions) - SHOWN_IMAGES} more")
    if len(predictions) > 1:
        means = (sum(item.psnr[name] for item in predictions) / len(predictions) for name in names)
        table.add_section()
        table.add_row("mean", *(_decibels(mean) for mean in means))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _decibels(psnr: float) -> str:
    return "lossless" if psnr == float("inf") else f"{psnr:.1f}"


@app.command()
def layers(
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
) -> None:
    """List the layers of an encoder, and which have a decoder."""
    table = layer_table(encoder)
    from inverters.checkpoint import decoders_at_hand, find_checkpoints

    cards = decoders_at_hand(find_checkpoints(checkpoints), encoder, weights)
    rows = Table("layer", "channels", "stride", "receptive field", "decoder", "validation PSNR")
    for name, layer in table.items():
        card = cards.get(name)
        rows.add_row(
            name,
            str(layer.channels),
            str(layer.stride),
            str(layer.receptive_field),
            "yes" if card else "",
            f"{card.metrics['psnr']:.1f} dB" if card else "",
        )
    for column in rows.columns[1:]:
        column.justify = "right"
    output.print(rows)


def _names(layers: str, encoder: str) -> list[str] | None:
    """The layers of a comma-separated list; None for `all`."""
    if layers == "all":
        return None
    names = [name.strip() for name in layers.split(",")]
    return [layer.name for layer in find_layers(names, encoder)]
