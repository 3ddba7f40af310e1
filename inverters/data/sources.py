"""Where photographs come from: files, folders, parquet, webdataset and the hub, as rows of a Hugging Face data set."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import fsspec  # type: ignore[import-untyped]
from torch import Tensor

from inverters.data.images import load_image
from inverters.data.paths import find_images, image_suffixes
from inverters.errors import DataError, ImageError, InverterError, first_line
from inverters.files import nearest_path, no_such_path

IMAGE = "image"  # the column of the rows that `open_images` returns
BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}
PACKAGE = "package:"
SIMILAR = 0.8  # similarity to a local path, as `difflib` has it, from which a name is not looked up on the hub


def open_images(
    sources: Sequence[str], split: str, column: str, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of a data set, reduced to encoded images in a column `image`; decode them with `read_image`.

    Args:
        sources: image files, folders of images, parquet or webdataset (`.tar`) files or folders of them, glob patterns
            of any of these, `package:NAME/PATH` for what ships inside an installed Python package; or one hub id.
        split: which split of a hub data set; local files have none.
        column: of the images, in data sets that have columns.

    Raises:
        DataError: nothing is there, it cannot be read, or there is no such column of images.
    """
    files = [file for source in sources for file in local_files(source)]
    with readable(_named(sources)):
        if not files:
            rows = _from_hub(sources, split, streaming)
        elif builder := _builder(files, sources):
            names = [str(file) for file in files]
            rows = datasets.load_dataset(builder, data_files={"train": names}, split="train", streaming=streaming)
        else:
            rows = datasets.Dataset.from_dict({column: [str(file) for file in files]})
            rows = rows.to_iterable_dataset(num_shards=min(64, len(files))) if streaming else rows
        columns = rows.column_names or list(next(iter(rows), {}))
    if not columns:
        raise DataError(f"{_named(sources)} is empty")
    if column not in columns:
        raise DataError(f"{_named(sources)} has no column {column!r}. Valid: {', '.join(columns)}")
    kind = (rows.features or {}).get(column)
    if isinstance(kind, datasets.Value) and not kind.dtype.endswith(("string", "binary")):
        raise DataError(f"the column {column!r} of {_named(sources)} holds {kind.dtype}, not images")
    with readable(_named(sources)):
        rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        return rows if column == IMAGE else rows.rename_column(column, IMAGE)


def read_image(row: Mapping[str, Any]) -> Tensor:
    """The image in a row of `open_images`, 3×H×W; raises ImageError."""
    cell = row[IMAGE]
    if not cell or (cell["bytes"] is None and cell["path"] is None):
        raise ImageError("there is no image in this row")
    if cell["bytes"] is not None:
        return load_image(cell["bytes"])
    if "://" not in cell["path"]:
        return load_image(cell["path"])
    try:  # a file on the hub, or inside an archive there
        with fsspec.open(cell["path"], "rb") as file:
            return load_image(file.read())
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {cell['path']}: {error}") from error


def read_rows(rows: datasets.IterableDataset | datasets.Dataset, source: str) -> Iterator[dict[str, Any]]:
    """Iterate over `rows`, which come from `source`.

    Raises:
        DataError: `source` cannot be read.
    """
    iterator = iter(rows)
    while True:
        with readable(source):
            row = next(iterator, None)
        if row is None:
            return
        yield row


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn what `datasets` raises on a damaged or vanished file into one line.

    Raises:
        DataError: `source` cannot be read.
    """
    try:
        yield
    except (InverterError, MemoryError):
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        reason: BaseException = error
        while isinstance(reason, datasets.exceptions.DatasetGenerationError) and reason.__cause__:
            reason = reason.__cause__  # the wrapper itself says nothing
        raise DataError(f"cannot read {source}: {first_line(reason)}") from None


def is_hub_id(source: str) -> bool:
    """Whether `source` names a data set of the hub; raises what `local_files` does."""
    return not local_files(source)


def local_files(source: str) -> list[Path]:
    """The files that `source` stands for; none for a hub id.

    Raises:
        DataError: it is local, or resembles a local path, and does not exist.
    """
    path = _inside_package(source) if source.startswith(PACKAGE) else Path(source).expanduser()
    if os.path.exists(path):  # noqa: PTH110 (Path.exists raises where a name is too long)
        return _files_at(path)
    if any(character in source for character in "*?["):
        try:
            matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            found = sorted(match for match in matches if not match.name.startswith("."))
        except (OSError, ValueError) as error:  # such as "a**", or a name that is too long
            raise DataError(f"cannot look for {source}: {error}") from None
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
    """`path` itself, or where it is a folder the data files of one kind in it and its subfolders, else its images."""
    if not path.is_dir():
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
    """The name of what reads all of `files`; None for image files."""
    builders = {BUILDERS.get(file.suffix.lower()) for file in files}
    if len(builders) > 1:
        kinds = ", ".join(sorted({file.suffix for file in files}))
        raise DataError(f"{_named(sources)} mixes files of different kinds ({kinds}): name those of one kind")
    return builders.pop()


def _from_hub(sources: Sequence[str], split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    if len(sources) > 1:
        raise DataError(f"no such files: {_named(sources)}. More than one hub data set cannot be joined")
    try:
        return datasets.load_dataset(sources[0], split=split, streaming=streaming)
    except Exception as error:  # the hub client's errors come from several libraries
        raise DataError(
            f"{sources[0]!r} is no local file or folder, and as a data set of the hub it cannot be opened: "
            f"{first_line(error)}"
        ) from None


def _named(sources: Sequence[str]) -> str:
    return ", ".join(sources)
