"""Writing files whole: a reader never sees half of one, and a failure leaves what was there."""

import uuid
from contextlib import suppress
from pathlib import Path

from inverters.errors import OutputError


def make_folder(folder: Path) -> None:
    """Makes `folder` and those above it, if they are not there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from None


def partial_file(path: Path) -> Path:
    """Where to write what is to become `path`: beside it, hidden, under a name that nothing has yet."""
    return path.with_name(f".{uuid.uuid4().hex}.part")


def atomic_write(path: Path, data: bytes | str) -> None:
    """Writes `data` to a temporary file beside `path`, then renames it.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = partial_file(path)
    try:
        # A file name that is not UTF-8 comes as lone surrogates: written escaped, as JSON has them.
        partial.write_bytes(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            partial.unlink()
