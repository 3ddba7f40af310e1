"""The server of the page."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr

from inverters.app.controls import STATIC
from inverters.app.networks import find_networks
from inverters.app.page import build_page
from inverters.app.studio import Choice, Studio
from inverters.app.uploads import MAX_BYTES
from inverters.devices import find_device
from inverters.errors import InverterError

MAX_WAITING = 16  # requests that wait for their turn; more are refused


@contextmanager
def serving(
    encoder: str | None = None,
    checkpoints: Path | str | None = None,
    size: int = 384,
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
) -> Iterator[str]:
    """Serve the page, give its address to a `with` block, and leave nothing of what was uploaded.

    Args:
        encoder: the network that the page opens with; None takes the default one.
        checkpoints: a folder of published decoders; None takes that of `find_checkpoints()`.
        size: pixels to which the shorter side of images is shrunk.
        host, port: where to listen; `0.0.0.0` lets other machines in.
        device: see `find_device`.

    Raises:
        InverterError: there are no decoders, there is no such device, or the port is taken.
    """
    find_device(device)
    networks = find_networks(checkpoints, encoder)
    with tempfile.TemporaryDirectory(prefix="inverters-", ignore_cleanup_errors=True) as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        studio = Studio(networks, size, device)
        page = build_page(studio, Choice(networks[0].label))
        page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                max_file_size=MAX_BYTES,
                theme=gr.themes.Default(primary_hue="blue"),
                css_paths=STATIC / "page.css",
                footer_links=["api"],
                run_history=False,
                enable_monitoring=False,
                share=False,
                ssr_mode=False,
                mcp_server=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise InverterError(f"cannot listen on {host}, port {port}: take another --port or --host") from error
        try:
            yield url
        finally:
            studio.close()
            page.close(verbose=False)
