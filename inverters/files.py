"""Files: reading them within limits, writing them atomically, and suggestions for paths that do not exist."""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

from inverters.errors import OutputError, StorageError

PACKAGE = Path(__file__).parent
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.part")
NOTHING_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def shipped_folder(name: str) -> Path:
    """The folder `name` that comes with inverters: inside the package of a wheel, beside it in a checkout."""
    in_wheel = PACKAGE / name
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / name


def read_file(path: str | Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes: neither a pipe, which may never end, nor a device.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    _require_regular(os.stat(path), limit)  # noqa: PTH116 (opening a device may already have an effect)
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        _require_regular(status, limit)
        return file.read(status.st_size)


def _require_regular(status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its other end


def output_error(what: str, error: OSError) -> OutputError:
    """The error that says `what` could not be done, and why."""
    kind = StorageError if error.errno in NOTHING_MORE else OutputError
    return kind(f"{what}: {error.strerror or error}")


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents where they do not exist.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(f"cannot create the folder {folder}", error) from None


def partial_file(path: Path) -> Path:
    """A unique hidden path beside `path`, to write to before renaming."""
    return path.with_name(f".{uuid.uuid4().hex}.part")


def remove_partial(folder: Path) -> None:
    """Remove what `partial_file` named in `folder`: a process that was killed leaves it behind."""
    for path in folder.glob(".*.part"):
        if PARTIAL.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` once it has been written.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = partial_file(path)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise output_error(f"cannot write {path}", error) from None
    finally:
        with suppress(OSError):
            partial.unlink()


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write `data` to a temporary file beside `path`, then rename it.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as partial:
        # Text may hold file names that are not UTF-8, as lone surrogates: they are escaped, as in JSON.
        partial.write_bytes(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


def no_such_path(path: str | Path) -> str:
    """Return the message for a `path` that does not exist, with the most similar one that does."""
    near = nearest_path(path)
    return f"no such file or folder: {path}" + (f". Did you mean {near}?" if near else "")


def nearest_path(path: str | Path, cutoff: float = 0.6) -> Path | None:
    """Return the existing path most similar to a `path` that does not exist, if there is one.

    Args:
        path: its first part that does not exist is compared with the other names in that folder.
        cutoff: the minimum similarity, as for `difflib.get_close_matches`.
    """
    path = Path(path)
    for parent, part in zip(reversed(path.parents), path.parts[bool(path.anchor) :], strict=True):
        if os.path.exists(parent / part):  # noqa: PTH110 (Path.exists raises where a name is too long)
            continue
        try:
            (near,) = get_close_matches(part, os.listdir(parent), n=1, cutoff=cutoff)  # noqa: PTH208
        except (OSError, ValueError):  # no folder, or nothing similar in it
            return None
        whole = parent / near / path.relative_to(parent / part)
        return whole if os.path.exists(whole) else parent / near  # noqa: PTH110
    return None
