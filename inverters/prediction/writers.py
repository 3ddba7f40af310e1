"""Where results go: the `Writer` protocol, and `FolderWriter`, which writes a folder for each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inverters.errors import OutputError, StorageError
from inverters.files import make_folder
from inverters.inversion.inversion import Inversion, save_inversions
from inverters.inversion.provenance import Provenance
from inverters.inversion.saved import ImageMetrics, find_results, is_complete
from inverters.prediction.inputs import Images
from inverters.prediction.table import TABLE, write_table


@dataclass(frozen=True)
class Prediction:
    """The results of one image.

    Attributes:
        metrics: its measurements; None for existing results whose measurements are not read.
        folder: where they are, if the image has a folder of its own.
        existing: whether they existed before.
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
    """Writes the results of images. `write` is called from several threads.

    Attributes:
        output_dir: where they go.
        chunk: number of consecutive images that one process must write.
    """

    output_dir: Path
    chunk: int

    def exists(self, index: int) -> Prediction | None:
        """The existing results of image `index`, if they are complete and made with the same settings.

        Raises:
            OutputError: they are of another image or made with other settings, and must not be overwritten.
        """
        ...

    def write(
        self, index: int, result: Sequence[Inversion] | Failure, sha256: str | None = None
    ) -> Prediction | Failure:
        """Write the inversions of image `index`, or note that it failed.

        `sha256` is that of the image's file as it was read; None if it could not be read.

        Raises:
            OutputError: neither these nor others can be written.
        """
        ...

    def abandon(self) -> None:
        """Remove files that this process has begun but not finished."""
        ...

    def close(self) -> None:
        """Finish the results. One process calls it, after all have written theirs."""
        ...


class FolderWriter:
    """Writes a folder for each image, and a table of several images, `metrics.csv`.

    Args:
        images: the images whose results are written.
        provenances: how the results are made, one for each method.
        output_dir: gets a folder for each image; created if it does not exist.
        details: see `depth_strip`.
        overwrite: whether to replace results of another image, or made with other settings.

    Raises:
        OutputError: `output_dir` cannot be created.
    """

    chunk = 1
    images: Images
    provenances: Sequence[Provenance]
    output_dir: Path
    details: bool
    overwrite: bool

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
        if metrics is None or metrics.interrupted or not is_complete(folder, self.images.encoded(index)):
            return None
        return Prediction(metrics, folder, existing=True)

    def write(
        self, index: int, result: Sequence[Inversion] | Failure, sha256: str | None = None
    ) -> Prediction | Failure:
        if isinstance(result, Failure):
            return result
        folder, source = self.folder(index), self.images.source(index)
        try:
            return Prediction(save_inversions(result, folder, self.details, sha256), folder)
        except StorageError:
            raise
        except OutputError as error:  # a name is taken
            return Failure(source, str(error) if source in str(error) else f"{source}: {error}")

    def abandon(self) -> None:
        """No-op: folders are finished when they are written."""

    def close(self) -> None:
        """Write the table."""
        if len(self.images) > 1 or (self.output_dir / TABLE).exists():
            write_table(self.output_dir, map(self.images.name, range(len(self.images))))
