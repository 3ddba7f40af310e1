"""The options that several commands share, in the panels of `--help`."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.printer import Printer
from inverters.decoders.names import CHECKPOINTS_VARIABLE, OBJECTIVES, is_on_hub
from inverters.encoders.names import (
    DEFAULT_ENCODER,
    ENCODER_FORMS,
    ENCODERS,
    VGG_NAMES,
    find_layers,
    list_layers,
    require_encoder,
)
from inverters.errors import InverterError

WHAT, HOW, WHERE, DEVICES = "What to invert", "How", "Where to", "On what"  # the panels, in this order
MAX_SIZE = 1_000_000  # pixels of a side
MAX_SEED = 2**63 - 1


def check_size(value: str) -> str:
    if value != "full" and not (value.isdecimal() and len(value) < 8 and 0 < int(value) <= MAX_SIZE):
        shown = value if len(value) < 20 else f"{value[:20]}…"
        raise typer.BadParameter(f"{shown!r} is neither a number of pixels from 1 to {MAX_SIZE} nor 'full'")
    return value


def check_seed(value: int) -> int:
    if not 0 <= value <= MAX_SEED:
        raise typer.BadParameter(f"{value} is not from 0 to 2^63 - 1")
    return value


def pixels(size: str) -> int | None:
    return None if size == "full" else int(size)


def complete_encoder(incomplete: str) -> Iterator[str]:
    return (name for name in ENCODERS if name.startswith(incomplete))


def complete_layer(context: typer.Context, incomplete: str) -> Iterator[str]:
    encoder = context.params.get("encoder") or DEFAULT_ENCODER
    return (name for name in (list_layers(encoder) if encoder in VGG_NAMES else ()) if name.startswith(incomplete))


def complete_layers(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete the last name of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    if not comma and "all".startswith(last):
        yield "all"
    yield from (f"{before}{comma}{name}" for name in complete_layer(context, last))


def complete_objective(incomplete: str) -> Iterator[str]:
    return (name for name in OBJECTIVES if name.startswith(incomplete))


Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        "--layer",
        metavar="NAMES|all",
        help="Layers, such as relu1_2,relu4_2, or all that have a decoder.",
        show_default="the last of each stage",
        autocompletion=complete_layers,
        rich_help_panel=WHAT,
    ),
]
OneLayer = Annotated[
    str,
    typer.Option(
        "--layer",
        "--layers",
        metavar="NAME",
        help="The layer, such as relu4_2.",
        autocompletion=complete_layer,
        rich_help_panel=WHAT,
    ),
]
Encoder = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Network: {', '.join(ENCODER_FORMS)}.",
        autocompletion=complete_encoder,
        rich_help_panel=WHAT,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Its weights: original, a name or tag of its library, random, random-SEED, or a file.",
        show_default="depends on the encoder",
        rich_help_panel=WHAT,
    ),
]
Split = Annotated[str, typer.Option(help="Split of a data set from the Hugging Face Hub.", rich_help_panel=WHAT)]
ImageColumn = Annotated[str, typer.Option(help="Column of the data set that holds the images.", rich_help_panel=WHAT)]
Size = Annotated[
    str,
    typer.Option(
        callback=check_size,
        metavar="PIXELS|full",
        help="Shorter side that images are reduced to; full keeps their size.",
        rich_help_panel=WHAT,
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        help="Decoders to use: pixel (least pixel error), perceptual (sharper) or linear.",
        autocompletion=complete_objective,
        rich_help_panel=HOW,
    ),
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder of published decoders, or hf://OWNER/NAME[@REVISION] on the Hugging Face Hub.",
        show_default="$INVERTERS_CHECKPOINTS, else the shipped ones",
        rich_help_panel=HOW,
    ),
]
Corrections = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Corrections that each decoder applies at most; 0 is fastest.",
        show_default="all",
        rich_help_panel=HOW,
    ),
]
Seed = Annotated[int, typer.Option(callback=check_seed, metavar="N", help="Random seed.", rich_help_panel=HOW)]
OutputDir = Annotated[
    Path, typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the results.", rich_help_panel=WHERE)
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results that were made with other settings.", rich_help_panel=WHERE),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.", rich_help_panel=WHERE)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=WHERE)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=DEVICES)]


def layer_names(layers: str | None, encoder: str) -> Sequence[str] | None:
    """The layers of a list as `--layers` takes it, in order of execution; `all` and None as they are.

    Raises:
        UnknownNameError: there is no such encoder, or a name is not one of its layers.
        InverterError: the list is empty.
    """
    if layers is None or layers == "all":
        require_encoder(encoder)
        return layers
    names = [name for name in re.split(r"[,\s]+", layers) if name]
    if not names:
        raise InverterError("--layers names no layer")
    return [layer.name for layer in find_layers(names, encoder)]


def one_layer(layer: str, encoder: str) -> str:
    """Return the name of the layer that `--layer` names, or raise InverterError unless it is exactly one."""
    names = layer_names(layer, encoder)
    if names is None or names == "all" or len(names) != 1:
        raise InverterError(f"--layer takes one layer, not {layer!r}")
    return names[0]


def find_decoders(checkpoints: str | None, printer: Printer) -> str | Path | None:
    """The folder that `--checkpoints` names, or None for the default one.

    Where it is on the Hugging Face Hub, its cards are downloaded, and their commit is noted, once for all processes of
    a machine.

    Raises:
        CheckpointError: see `find_checkpoints`.
    """
    address = os.environ.get(CHECKPOINTS_VARIABLE, "") if checkpoints is None else checkpoints
    if not is_on_hub(address):
        return checkpoints
    from inverters.decoders.hub import download_cards, parse_address

    folder = download_cards(address)
    printer.note_once(f"decoders of hf://{parse_address(address)[0]}@{folder.name}")
    return folder
