"""What commands share: their options, and how they print."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

output = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def check_size(value: str) -> str:
    if value != "full" and not (value.isdecimal() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is neither a number of pixels nor 'full'")
    return value


def pixels(size: str) -> int | None:
    return None if size == "full" else int(size)


Layers = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES|all",
        help="Layers, such as relu1_2,relu4_2; or all with a decoder.  [default: of these the deepest of each block]",
    ),
]
Encoder = Annotated[str, typer.Option(help="The network: vgg16, vgg16_bn, vgg19 or vgg19_bn.")]
Weights = Annotated[str | None, typer.Option(help="Its weights: original, a name of torchvision's, random, or a file.")]
Checkpoints = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Published decoders.  [default: $INVERTERS_CHECKPOINTS, else those shipped]"),
]
Size = Annotated[
    str, typer.Option(callback=check_size, metavar="PIXELS|full", help="Shrink to this shorter side, or do not.")
]
Objective = Annotated[
    str, typer.Option(help="Which decoders: pixel, for small errors; perceptual, sharper; or linear, in closed form.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


def progress_bar() -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )


def layer_names(layers: str | None, encoder: str) -> Sequence[str] | None:
    """The layers of a comma-separated list; `all` and None as they are."""
    from inverters.encoders.registry import find_layers, require_encoder

    if layers is None or layers == "all":
        require_encoder(encoder)
        return layers
    names = [name.strip() for name in layers.split(",")]
    return [layer.name for layer in find_layers(names, encoder)]
