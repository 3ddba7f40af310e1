"""Ctrl-C and SIGTERM end a command in an orderly way, even where a library swallows the exception that they raise."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received: list[int] = []


@contextmanager
def obeyed() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and SystemExit on SIGTERM, unless others handle or ignore these signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    replaced = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in replaced}
    for number, usual in replaced.items():
        if before[number] is usual:
            signal.signal(number, _receive)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _receive(number: int, _: FrameType | None) -> None:
    _received.append(number)
    raise_if_stopped()


def raise_if_stopped() -> None:
    """Raise again what a signal raised before: long loops call this, since libraries catch more than they mean to."""
    if signal.SIGTERM in _received:
        raise SystemExit(128 + signal.SIGTERM)
    if _received:
        raise KeyboardInterrupt
