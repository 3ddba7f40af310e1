"""The command line: parses, calls, prints. Torch and what needs it are imported by the commands, not by this module."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from inverters.cli.cards import cards
from inverters.cli.evaluate import evaluate
from inverters.cli.layers import download_weights, layers
from inverters.cli.optimize import optimize
from inverters.cli.predict import predict
from inverters.cli.train import train
from inverters.errors import InverterError

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


for command in (train, predict, optimize, layers, download_weights, evaluate, cards):
    app.command()(command)
