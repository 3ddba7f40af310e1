"""Reconstructions of many images in parquet files, which `datasets.load_dataset("parquet", …)` opens."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from torch import Tensor

from inverters.data.images import to_pillow
from inverters.errors import OutputError
from inverters.files import partial_file
from inverters.prediction.writers import NamedImages, Provenance, measure

SHARD = 128  # images of a file
PROVENANCE = b"inverters"  # the key of a file's metadata that says how its reconstructions were made


class ParquetShards:
    """Files `images-00003-of-00008.parquet` of 128 images each, in the images' order.

    Columns: `name`, `source`, `width` and `height` in pixels, `image` as it was inverted, and for each layer its
    reconstruction and `psnr_<layer>` in dB. Images that cannot be read have no row. A file is written under another
    name first, so that it is whole once it is there.
    """

    chunk = SHARD

    def __init__(self, images: NamedImages, provenance: Provenance, output_dir: Path) -> None:
        self.images, self.output_dir = images, output_dir
        numbers = {key: datasets.Value(kind) for key, kind in (("width", "int32"), ("height", "int32"))}
        pictures = {key: datasets.Image() for key in ("image", *provenance.layers)}
        psnr = {f"psnr_{layer}": datasets.Value("float64") for layer in provenance.layers}
        texts = {key: datasets.Value("string") for key in ("name", "source")}
        schema = datasets.Features({**texts, **numbers, **pictures, **psnr}).arrow_schema
        self.schema = schema.with_metadata({**schema.metadata, PROVENANCE: repr(provenance).encode()})
        self.begun: tuple[Path, pq.ParquetWriter] | None = None

    def exists(self, number: int) -> bool:
        """Whether the file that image `number` belongs to is there, made by the same provenance."""
        path = self._path(number)
        try:
            return path.is_file() and pq.read_schema(path).metadata == self.schema.metadata
        except (OSError, pa.ArrowException):
            return False

    def make(
        self,
        number: int,
        image: Tensor,
        reconstructions: Mapping[str, Tensor],
        seconds: float,  # noqa: ARG002
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """The row of a 3×H×W image with reconstructions 1×3×H×W by layer, and their PSNR."""
        preds, psnr = measure(image, reconstructions)
        height, width = image.shape[-2:]
        row = {"name": self.images.name(number), "source": self.images.source(number)}
        sizes = {"width": width, "height": height}
        pictures = {key: {"bytes": _png(one), "path": None} for key, one in {"image": image, **preds}.items()}
        return row | sizes | pictures | {f"psnr_{layer}": value for layer, value in psnr.items()}, psnr

    def add(self, number: int, row: dict[str, Any] | None) -> None:
        """Appends the row of image `number`, if it has one. Images come in order, those of a file all or none.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self._path(number)
        with _writing(path):
            if self.begun is None:
                partial = partial_file(path)
                self.begun = partial, pq.ParquetWriter(partial, self.schema)
            partial, writer = self.begun
            if row:
                writer.write_table(pa.Table.from_pylist([row], self.schema))
            if (number + 1) % SHARD == 0 or number + 1 == len(self.images):
                writer.close()
                partial.replace(path)
                self.begun = None

    def finish(self) -> None:
        """Every file is complete as it is."""

    def abandon(self) -> None:
        """Removes what is not whole."""
        if self.begun:
            self.begun[0].unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        files = -(-len(self.images) // SHARD)
        return self.output_dir / f"images-{number // SHARD:05d}-of-{files:05d}.parquet"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _png(image: Tensor) -> bytes:
    content = io.BytesIO()
    to_pillow(image).save(content, "PNG")
    return content.getvalue()
