"""What the tests of the page share: a server with small images, and uploads."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradio_client import Client

from inverters.app.server import serving

SIZE = 96


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def page(checkpoints: Path | None = None, **settings: Any) -> Iterator[str]:
    """The address of a running page."""
    with serving(checkpoints=checkpoints, port=free_port(), **{"size": SIZE, "device": "cpu", **settings}) as url:
        yield url


def connect(url: str) -> Client:
    """A client that also waits for slow machines."""
    return Client(url, verbose=False, analytics_enabled=False, download_files=False, httpx_kwargs={"timeout": 120})
