"""What becomes of the images, and where their results go: `FolderWriter` keeps a folder for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inverters.errors import OutputError
from inverters.files import make_folder
from inverters.inversion.inversion import Inversion, save_inversions
from inverters.inversion.provenance import Provenance
from inverters.inversion.saved import ImageMetrics, find_results
from inverters.prediction.inputs import Images
from inverters.prediction.table import TABLE, write_table


@dataclass(frozen=True)
class Prediction:
    """What was measured of one image, and the folder of its results, if it has one.

    `existing` says that the results were there before; what they measure is then not always known.
    """

    metrics: ImageMetrics | None
    folder: Path | None = None
    existing: bool = False


@dataclass(frozen=True)
class Failure:
    """An image that could not be inverted, and why."""

    source: str
    reason: str


class Writer(Protocol):
    """Where results go. Images are written from several threads."""

    chunk: int  # so many consecutive images are written by one process

    def exists(self, index: int) -> Prediction | None:
        """What is there of image `index`, made in the same way.

        Raises:
            OutputError: what is there was made in another way, and may not be overwritten.
        """
        ...

    def write(self, index: int, result: Sequence[Inversion] | Failure) -> Prediction | Failure:
        """Write the inversions of image `index`, or take note that there are none.

        Raises:
            OutputError: they cannot be written.
        """
        ...

    def abandon(self) -> None:
        """Remove what is incomplete."""
        ...

    def close(self) -> None:
        """Complete the results, once all processes have written theirs; only one of them calls it."""
        ...


class FolderWriter:
    """Writes a folder for each image, and over several images the table `metrics.csv`.

    Args:
        images: whose results are written.
        provenances: how they are made, one for each method.
        output_dir: gets a folder for each image; created if it does not exist.
        details: see `depth_strip`.
        overwrite: whether to replace results that were made in another way, or of another image.

    Raises:
        OutputError: `output_dir` cannot be created.
    """

    chunk = 1

    def __init__(
        self,
        images: Images,
        provenances: Sequence[Provenance],
        output_dir: Path,
        *,
        details: bool = False,
        overwrite: bool = False,
    ) -> None:
        make_folder(output_dir)
        self.images, self.provenances, self.output_dir = images, provenances, output_dir
        self.details, self.overwrite = details, overwrite

    def folder(self, index: int) -> Path:
        """The folder of image `index`."""
        return self.output_dir / self.images.name(index)

    def exists(self, index: int) -> Prediction | None:
        folder = self.folder(index)
        metrics, conflict = find_results(folder, self.images.source(index), self.provenances)
        if conflict:
            if self.overwrite:
                return None
            raise OutputError(f"{folder} holds other results: {conflict}. Use --overwrite or another --output-dir")
        return Prediction(metrics, folder, existing=True) if metrics and not metrics.interrupted else None

    def write(self, index: int, result: Sequence[Inversion] | Failure) -> Prediction | Failure:
        if isinstance(result, Failure):
            return result
        folder = self.folder(index)
        return Prediction(save_inversions(result, folder, self.details), folder)

    def abandon(self) -> None:
        """No-op: folders are finished when they are written."""

    def close(self) -> None:
        """Write the table."""
        if len(self.images) > 1 or (self.output_dir / TABLE).exists():
            write_table(self.output_dir, map(self.images.name, range(len(self.images))))
