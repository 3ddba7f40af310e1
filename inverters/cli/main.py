"""The command line: parses, calls, prints. Torch and what needs it are imported by the commands, not by this module."""

import os
import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from inverters.cli.app import app as serve_app
from inverters.cli.cards import cards
from inverters.cli.edit import edit
from inverters.cli.evaluate import evaluate
from inverters.cli.export import export
from inverters.cli.layer_arguments import join_layers
from inverters.cli.layers import download_weights, layers
from inverters.cli.metamers import metamers
from inverters.cli.optimize import optimize
from inverters.cli.predict import predict
from inverters.cli.push import push
from inverters.cli.train import train
from inverters.errors import InverterError, OutputError, is_out_of_memory, printable
from inverters.signals import obeyed

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exits with status 1 and a line on stderr for each error that a user can cause, with 2 for a usage error, and with
    130 after Ctrl-C. `INVERTERS_DEBUG=1` shows tracebacks.
    """
    # Memory in pages of 2 MB, where Linux has them: allocating those of 4 kB takes up to a seventh of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    _open_closed_streams()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8, nor terminals
    try:
        try:
            with obeyed():
                app(join_layers(sys.argv[1:] if arguments is None else arguments))
        finally:
            _flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _discard_output()
        sys.exit(1)
    except InverterError as error:
        _fail(error, str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _fail(error, "this takes more memory than there is. INVERTERS_DEBUG=1 shows where")
    except OSError as error:  # of a file that no command expects to fail: a full disk, a name that is too long
        name = f"{error.filename}: " if error.filename else ""
        _fail(error, f"{name}{error.strerror or error}. INVERTERS_DEBUG=1 shows where")


def _open_closed_streams() -> None:
    """Open closed standard streams on nothing: the first file that is opened would take their place."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: PTH123, SIM115


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def _discard_output() -> None:
    """Send what Python still flushes when it exits to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: Exception, message: str) -> NoReturn:
    """Print a message of one or more lines and exit, or raise the error where the user wants its traceback."""
    if os.environ.get("INVERTERS_DEBUG") == "1":
        raise error
    for line in message.splitlines():
        print(f"error: {printable(line)}", file=sys.stderr)
    sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # here because it takes as long to import as Typer

        print(f"inverters {version('inverters')}")
        raise typer.Exit


@app.callback()
def invert(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See and measure what each layer of a convolutional network still knows about an image."""


for command in (
    predict,
    serve_app,
    layers,
    edit,
    optimize,
    metamers,
    evaluate,
    train,
    cards,
    push,
    export,
    download_weights,
):
    app.command()(command)
