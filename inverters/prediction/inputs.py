"""The images to invert: the `Images` protocol, and `ImageFiles`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from inverters.data.decoding import decode
from inverters.data.images import read_encoded
from inverters.prediction.table import TABLE


@dataclass(frozen=True)
class LoadedImage:
    """An image as it was read.

    Attributes:
        pixels: 3×H×W in [0, 1].
        sha256: hexadecimal, of the bytes of its file.
    """

    pixels: Tensor
    sha256: str

    @classmethod
    def decode(cls, encoded: bytes, name: str) -> "LoadedImage":
        """Decode the bytes of a file, called `name` in messages; raise ImageError if that fails."""
        return cls(decode(encoded, name), hashlib.sha256(encoded).hexdigest())


class Images(Protocol):
    """Images by index."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The name of its results, such as that of their folder."""
        ...

    def source(self, index: int) -> str:
        """What users call it, such as its path."""
        ...

    def load(self, index: int) -> LoadedImage:
        """Read the image; raise ImageError if that fails."""
        ...

    def encoded(self, index: int) -> bytes:
        """Read the bytes of its file; raise ImageError if that fails."""
        ...


class ImageFiles:
    """Image files, with results named by `folder_names`."""

    files: Sequence[Path]
    names: list[str]

    def __init__(self, files: Sequence[Path]) -> None:
        self.files, self.names = files, folder_names(files)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.names[index]

    def source(self, index: int) -> str:
        return str(self.files[index])

    def load(self, index: int) -> LoadedImage:
        return LoadedImage.decode(self.encoded(index), str(self.files[index]))

    def encoded(self, index: int) -> bytes:
        return read_encoded(self.files[index])


def folder_names(files: Sequence[Path]) -> list[str]:
    """A folder name for each file: its stem or, if that is taken, the first free name of `stem-2`, `stem-3`, …

    Names that differ only in case count as equal, since they are on some file systems. `metrics.csv`, `.` and `..` are
    never free.
    """
    taken = {TABLE, ".", ".."}
    numbers: dict[str, int] = {}
    names = []
    for file in files:
        stem = file.stem.casefold()
        name, number = file.stem, numbers.get(stem, 1)
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        numbers[stem] = number
        taken.add(name.casefold())
        names.append(name)
    return names
