"""Sources of images (files, folders, parquet, webdataset, the hub) as rows of Hugging Face `datasets`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import fsspec  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from huggingface_hub.constants import HF_HUB_CACHE
from torch import Tensor

from inverters.data.decoding import decode
from inverters.data.images import LARGEST_FILE, read_encoded
from inverters.data.paths import find_images, image_suffixes
from inverters.errors import DataError, ImageError, InverterError, first_line
from inverters.files import nearest_path, no_such_path

IMAGE = "image"  # the column of the rows that `open_images` returns
BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}
PACKAGE = "package:"
HUB = "hf://"
SIMILAR = 0.8  # from this similarity to a local path on (`difflib`'s), a name is not looked up on the hub


def open_images(
    sources: Sequence[str], split: str, column: str, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """Open `sources` as one data set of encoded images in the column `image`; `read_image` decodes a row.

    Cells are paths, as `os.fsencode` gives them, where the sources are image files, and else dictionaries of `bytes`
    and `path`.

    Args:
        sources: image files, folders of images, parquet or webdataset (`.tar`) files or folders of them, glob patterns
            of any of these, `package:NAME/PATH` for files of an installed Python package; or a single hub id.
        split: of a hub data set; local files have none.
        column: of the images, in parquet, webdataset and hub data sets.
        streaming: read rows in order instead of by index, and download no others from the hub.

    Raises:
        DataError: a source does not exist or cannot be read, or has no such column of images.
    """
    found = {source: local_files(source) for source in sources}
    files = [file for some in found.values() for file in some]
    not_local = [source for source, some in found.items() if not some]
    if not_local and len(sources) > 1:
        raise DataError(f"no such files: {', '.join(not_local)}. A hub data set must be the only source")
    with _one_line_errors(_named(sources)):
        if not_local:
            rows = _from_hub(sources[0], split, streaming)
        elif builder := _builder(files, sources):
            names = [str(file) for file in files if builder != "parquet" or _has_rows(file)]
            if not names:
                raise DataError(f"{_named(sources)} is empty")
            rows = datasets.load_dataset(builder, data_files={"train": names}, split="train", streaming=streaming)
        else:
            rows = datasets.Dataset.from_dict({IMAGE: [os.fsencode(file) for file in files]})
            return rows.to_iterable_dataset(num_shards=min(64, len(files))) if streaming else rows
        columns = rows.column_names or list(next(iter(rows), {}))
    if not columns:
        raise DataError(f"{_named(sources)} is empty")
    if column not in columns:
        raise DataError(f"{_named(sources)} has no column {column!r}. Valid: {', '.join(columns)}")
    kind = (rows.features or {}).get(column)
    if isinstance(kind, datasets.Value) and not kind.dtype.endswith(("string", "binary")):
        raise DataError(f"the column {column!r} of {_named(sources)} holds {kind.dtype}, not images")
    with _one_line_errors(_named(sources)):
        rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        return rows if column == IMAGE else rows.rename_column(column, IMAGE)


def read_image(row: Mapping[str, Any]) -> Tensor:
    """Decode the image in a row of `open_images` to 3×H×W.

    Raises:
        ImageError: it cannot be read, or the row has none.
    """
    return decode(read_cell(row), cell_name(row))


def read_cell(row: Mapping[str, Any]) -> bytes:
    """Read the encoded image in a row of `open_images`.

    Raises:
        ImageError: it cannot be read, or the row has none.
    """
    cell = row[IMAGE]
    if isinstance(cell, bytes):
        return read_encoded(os.fsdecode(cell))
    if not cell or (cell["bytes"] is None and cell["path"] is None):
        raise ImageError("the row has no image")
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    path = cell["path"]
    if not _is_of_the_hub(path):
        raise ImageError(f"cannot read {path}: a data set must hold the bytes of its images, not paths or addresses")
    try:
        with fsspec.open(path, "rb") as file:
            data = bytes(file.read(LARGEST_FILE + 1))
    except Exception as error:  # what the network raises comes from several libraries
        raise ImageError(f"cannot read {path}: {first_line(error)}") from error
    if len(data) > LARGEST_FILE:
        raise ImageError(f"cannot read {path}: it has more than {LARGEST_FILE:,} bytes")
    return data


def cell_name(row: Mapping[str, Any]) -> str:
    """What messages call the image in a row of `open_images`: its path where it is a file, and else `image`."""
    cell = row[IMAGE]
    return os.fsdecode(cell) if isinstance(cell, bytes) else "image"


def image_name(row: Mapping[str, Any], number: int) -> str:
    """The file name of the image in row `number` of `open_images`, or its row where it has none.

    Bytes of the name that are not UTF-8 are escaped.
    """
    cell = row[IMAGE]
    path = os.fsdecode(cell) if isinstance(cell, bytes) else (cell or {}).get("path")
    return os.fsencode(Path(path).name).decode(errors="backslashreplace") if path else f"row {number}"


def _is_of_the_hub(path: str) -> bool:
    """Whether a path in a cell leads to the hub, perhaps through an archive there, or to what was downloaded from it.

    Any other could name a file of the user's, or an address that they never meant to open.
    """
    if "://" in path:
        return path.startswith((HUB, "zip://", "tar://")) and path.rpartition("::")[2].startswith(HUB)
    caches = (datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE)
    try:
        whole = Path(path).resolve()
    except (OSError, ValueError):  # a loop, or NUL
        return False
    return any(whole.is_relative_to(Path(cache).resolve()) for cache in caches)


def read_rows(rows: datasets.IterableDataset | datasets.Dataset, source: str) -> Iterator[dict[str, Any]]:
    """Iterate over `rows`, called `source` in messages.

    Raises:
        DataError: `source` cannot be read.
    """
    iterator = iter(rows)
    for number in count():
        with _one_line_errors(f"{source} after row {number - 1}" if number else source):
            row = next(iterator, None)
        if row is None:
            return
        yield row


@contextmanager
def _one_line_errors(source: str) -> Iterator[None]:
    """Turn what `datasets` raises into DataErrors."""
    try:
        yield
    except (InverterError, MemoryError):
        raise
    except Exception as error:  # damaged and vanished files raise nearly anything
        reason: BaseException = error
        while isinstance(reason, datasets.exceptions.DatasetGenerationError) and reason.__cause__:
            reason = reason.__cause__  # the wrapper's own message says nothing
        raise DataError(f"cannot read {source}: {first_line(reason)}") from None


def is_hub_id(source: str) -> bool:
    """Return whether `source` is taken for the id of a data set of the hub; raises as `local_files` does."""
    return not local_files(source)


def local_files(source: str) -> list[Path]:
    """Return the files of a source, or none where it is taken for a hub id.

    Raises:
        DataError: it does not exist, but has the form of a path or resembles an existing one.
    """
    if not source:
        raise DataError("the name of a data set is empty")
    path = _inside_package(source) if source.startswith(PACKAGE) else Path(os.path.expanduser(source))  # noqa: PTH111
    if os.path.exists(path):  # noqa: PTH110 (Path.exists raises where a name is too long)
        return _files_at(path)
    if any(character in source for character in "*?["):
        try:
            matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            found = sorted(match for match in matches if not match.name.startswith("."))
        except (OSError, ValueError) as error:  # such as for "a**"
            raise DataError(f"{source} is no valid pattern: {error}") from None
        if not found:
            raise DataError(f"no file matches {source}")
        return [file for match in found for file in _files_at(match)]
    is_file = path.suffix.lower() in (*BUILDERS, *image_suffixes())
    if is_file or source.count("/") > 1 or source.startswith((".", "/", "~", PACKAGE)):
        raise DataError(no_such_path(source))
    if near := nearest_path(path, SIMILAR):  # the hub client retries an unknown id for half a minute
        raise DataError(f"no such file or folder: {source}. Did you mean {near}?")
    return []


def _files_at(path: Path) -> list[Path]:
    """Return `path` itself, or the parquet and webdataset files below a folder, or else the images below it."""
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"cannot read {path}: it is no regular file")
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in BUILDERS and file.is_file())
    if shards := [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]:
        return shards
    try:
        return find_images(path)
    except ImageError as error:
        raise DataError(str(error)) from None


def _inside_package(source: str) -> Path:
    package, _, inner = source.removeprefix(PACKAGE).partition("/")
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{source}: the Python package {package!r} is not installed")
    return Path(spec.submodule_search_locations[0]) / inner


def _builder(files: list[Path], sources: Sequence[str]) -> str | None:
    """Return the `datasets` builder that reads all of `files`; None for image files."""
    builders = {BUILDERS.get(file.suffix.lower()) for file in files}
    if len(builders) > 1:
        kinds = ", ".join(sorted({file.suffix for file in files}))
        raise DataError(f"{_named(sources)} mixes files of different kinds ({kinds}): name files of one kind")
    return builders.pop()


def _has_rows(file: Path) -> bool:
    """Whether a parquet file has rows; `datasets` fails on one without."""
    return bool(pq.read_metadata(file).num_rows)


def _from_hub(name: str, split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    try:
        return datasets.load_dataset(name, split=split, streaming=streaming)
    except Exception as error:  # the hub client's errors come from several libraries
        raise DataError(
            f"{name!r} is no local file or folder, and cannot be opened as a hub data set: {first_line(error)}"
        ) from None


def _named(sources: Sequence[str]) -> str:
    return ", ".join(sources)
