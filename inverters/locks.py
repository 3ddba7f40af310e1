"""One run at a time writes into a folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from inverters.errors import OutputError
from inverters.files import make_folder, output_error, remove_partial

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs from writing into `folder`, which is made, and remove what killed ones left unfinished in it.

    Raises:
        OutputError: another run writes into it, or it cannot be written.
    """
    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"another run writes into {folder}: wait until it ends, or name another folder") from None
    except OSError as error:
        raise output_error(f"cannot write into {folder}", error) from None
    try:
        remove_partial(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()
