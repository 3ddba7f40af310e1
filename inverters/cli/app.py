"""`invert app`."""

import importlib.util
import os
import signal
import threading
from typing import Annotated

import typer

from inverters.cli.options import WHAT, WHERE, Checkpoints, Device, complete_encoder, find_decoders
from inverters.cli.printer import Printer
from inverters.errors import InverterError


def app(
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Network that the page opens with.",
            show_default="the first that has decoders",
            autocompletion=complete_encoder,
            rich_help_panel=WHAT,
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            min=64, max=1024, metavar="PIXELS", help="Shorter side that images are reduced to.", rich_help_panel=WHAT
        ),
    ] = 384,
    checkpoints: Checkpoints = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines in.", rich_help_panel=WHERE),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="Its port.", rich_help_panel=WHERE)] = 7860,
    device: Device = "auto",
) -> None:
    """Open a web page that shows an image at every depth.

    Ctrl-C ends it, and deletes what was uploaded.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InverterError("the page needs gradio: pip install 'inverters[app]'")
    from inverters.app.server import serving

    with serving(encoder, find_decoders(checkpoints, Printer()), size, host, port, device) as url:
        print(f"open {url} in a browser; Ctrl-C ends the server", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that uploads are deleted
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(flush=True)
    os._exit(0)  # Python would abort if a thread still computed
