"""Reconstructions of many images in parquet files, which `datasets.load_dataset("parquet", …)` opens."""

import hashlib
import json
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from inverters.errors import ImageError, OutputError
from inverters.files import make_folder, output_error, partial_file
from inverters.inversion.inversion import Inversion, encode_pictures, measure
from inverters.inversion.provenance import Provenance, differences, reconstruction_name
from inverters.inversion.saved import is_same_image
from inverters.inversion.verdicts import FeatureError
from inverters.prediction.inputs import Images
from inverters.prediction.writers import Failure, Prediction

SHARD = 128  # images of a file
GROUP_BYTES = 64_000_000  # of encoded images in a row group, which is held in memory
PROVENANCE = b"inverters"  # the key of a file's metadata that says how its reconstructions were made
DIGEST = b"inverters_images_sha256"  # that of the images' files, by which it is known whether they are as they were

SCORES = ("psnr", "feature_error", "percentile")

Row = dict[str, Any]


class ParquetWriter:
    """Writes files `images-00003-of-00008.parquet` of 128 images each, in the images' order.

    Columns: `name`, `source`, `width` and `height` in pixels, `image` as it was inverted, and for each layer and method
    the reconstruction, named by `reconstruction_name`, its PSNR in dB (`psnr_relu4_2`), and its `FeatureError`
    (`feature_error_relu4_2`, `percentile_relu4_2`). Images that cannot be read have no row. A file gets its name once
    it is complete. Its metadata have the SHA-256 of the images' files.

    Args:
        images, provenances, output_dir, overwrite: see `FolderWriter`.

    Raises:
        OutputError: `output_dir` cannot be created, or has parquet files of other images, or made in another way, and
            `overwrite` is not set.
    """

    images: Images
    provenances: Sequence[Provenance]
    output_dir: Path
    chunk: int
    schema: Any
    existing: dict[int, str | None]
    lock: threading.Lock

    def __init__(
        self, images: Images, provenances: Sequence[Provenance], output_dir: Path, *, overwrite: bool = False
    ) -> None:
        make_folder(output_dir)
        self.images, self.provenances, self.output_dir, self.chunk = images, provenances, output_dir, SHARD
        names = [reconstruction_name(layer, made) for made in provenances for layer in made.layers]
        texts = {key: datasets.Value("string") for key in ("name", "source")}
        sizes = {key: datasets.Value("int32") for key in ("width", "height")}
        pictures = {key: datasets.Image() for key in ("image", *names)}
        scores = {f"{score}_{name}": datasets.Value("float64") for score in SCORES for name in names}
        schema = datasets.Features({**texts, **sizes, **pictures, **scores}).arrow_schema
        made = json.dumps([asdict(provenance) for provenance in provenances])
        self.schema = schema.with_metadata({**schema.metadata, PROVENANCE: made.encode()})
        self.existing = self._find_existing(overwrite)  # by number, with the digest of their images
        self.unchanged: dict[int, bool] = {}  # whether it is still the same
        self.lock = threading.Lock()
        self.open: dict[int, _File] = {}  # by number

    def exists(self, index: int) -> Prediction | None:
        number = index // self.chunk
        if number in self.existing and number not in self.unchanged:
            digest = _combined(self._image_digest(one) for one in self._indices(number))
            self.unchanged[number] = digest == self.existing[number]
        return Prediction(None, existing=True) if self.unchanged.get(number) else None

    def write(
        self, index: int, result: Sequence[Inversion] | Failure, sha256: str | None = None
    ) -> Prediction | Failure:
        """See `Writer.write`. The images of a file are written all or none, in about their order."""
        row, prediction = (None, result) if isinstance(result, Failure) else self._encode(index, result)
        digest = self._image_digest(index) if sha256 is None else bytes.fromhex(sha256)
        number = index // self.chunk
        path = self._path(number)
        with self.lock, _writing(path):
            if number not in self.open:
                self.open[number] = _File(path, self.schema, self._indices(number))
            if self.open[number].add(index, row, digest):
                del self.open[number]
        return prediction

    def abandon(self) -> None:
        """Remove the files that lack images."""
        for file in self.open.values():
            file.remove()

    def close(self) -> None:
        """No-op: files are finished when their last image is written."""

    def __getstate__(self) -> dict[str, Any]:
        """For processes that only ask what exists."""
        return {**self.__dict__, "lock": None, "open": {}}

    def _encode(self, index: int, inversions: Sequence[Inversion]) -> tuple[Row, Prediction]:
        metrics = measure(inversions)
        pictures = {key: {"bytes": png, "path": None} for key, png in encode_pictures(inversions).items()}
        scores: dict[str, float | None] = {}
        for one in inversions:
            for layer, psnr in one.psnr.items():
                error = one.feature_errors.get(layer, FeatureError(math.nan))
                values = (psnr, *(error if math.isfinite(error.value) else (None, None)))
                name = reconstruction_name(layer, one.provenance)
                scores |= {f"{score}_{name}": value for score, value in zip(SCORES, values, strict=True)}
        row = {"name": self.images.name(index), "source": self.images.source(index)}
        sizes = {"width": metrics.width, "height": metrics.height}
        return {**row, **sizes, **pictures, **scores}, Prediction(metrics)

    def _indices(self, number: int) -> range:
        return range(number * self.chunk, min((number + 1) * self.chunk, len(self.images)))

    def _path(self, number: int) -> Path:
        files = -(-len(self.images) // self.chunk)
        return self.output_dir / f"images-{number:05d}-of-{files:05d}.parquet"

    def _image_digest(self, index: int) -> bytes:
        """The SHA-256 of an image's file; empty if it cannot be read."""
        try:
            return hashlib.sha256(self.images.encoded(index)).digest()
        except ImageError:
            return b""

    def _find_existing(self, overwrite: bool) -> dict[int, str | None]:
        """The digests of the images of the files that are there, by number; None in those of earlier versions."""
        numbers = {self._path(number): number for number in range(-(-len(self.images) // self.chunk))}
        existing: dict[int, str | None] = {}
        for path in sorted(self.output_dir.glob("images-*-of-*.parquet")):
            conflict, number, digest = "another number of images", numbers.get(path), None
            if number is not None:
                conflict, digest = self._compare(path, self._indices(number))
            if number is not None and not conflict:
                existing[number] = digest
            elif not overwrite:
                raise OutputError(f"{path} holds other results: {conflict}. Use --overwrite or another --output-dir")
            elif number is None:
                path.unlink(missing_ok=True)
        return existing

    def _compare(self, path: Path, indices: range) -> tuple[str, str | None]:
        """What distinguishes the results in a file from new ones of these images, and the digest of its images."""
        try:
            with pq.ParquetFile(path) as file:
                made = json.loads(file.schema_arrow.metadata[PROVENANCE])
                sources = file.read(["source"])["source"].to_pylist()
                digest = (file.metadata.metadata or {}).get(DIGEST)
            changes = differences([Provenance.from_json(one) for one in made], self.provenances)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            return "it is damaged or of an earlier version", None
        known = [self.images.source(index) for index in indices]
        if others := [one for one in sources if not any(is_same_image(one, name) for name in known)]:
            changes.insert(0, f"image {others[0]}")
        return ", ".join(changes), digest and digest.decode(errors="replace")


class _File:
    """A file that is being written: rows in the order of their images, in groups of `GROUP_BYTES`."""

    def __init__(self, path: Path, schema: Any, indices: range) -> None:
        self.path, self.partial, self.schema = path, partial_file(path), schema
        self.writer = pq.ParquetWriter(self.partial, schema)
        self.next, self.stop = indices.start, indices.stop
        self.early: dict[int, Row | None] = {}  # rows of images after the next
        self.digests: dict[int, bytes] = {}
        self.group: list[Row] = []
        self.bytes = 0

    def add(self, index: int, row: Row | None, digest: bytes) -> bool:
        """Write the row of an image, if it has one, after those before it. Returns whether the file is complete.

        `digest` is that of the image's file.
        """
        self.early[index], self.digests[index] = row, digest
        while self.next in self.early:
            if found := self.early.pop(self.next):
                self.group.append(found)
                self.bytes += sum(len(cell["bytes"]) for cell in found.values() if isinstance(cell, dict))
            self.next += 1
            if self.bytes >= GROUP_BYTES or self.next == self.stop:
                self._write_group()
        if self.next < self.stop:
            return False
        combined = _combined(self.digests[index] for index in sorted(self.digests))
        self.writer.add_key_value_metadata({DIGEST: combined.encode()})
        self.writer.close()
        self.partial.replace(self.path)
        return True

    def remove(self) -> None:
        with suppress(OSError):
            self.writer.close()
        with suppress(OSError):
            self.partial.unlink()

    def _write_group(self) -> None:
        if self.group:
            self.writer.write_table(pa.Table.from_pylist(self.group, self.schema))
        self.group, self.bytes = [], 0


def _combined(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(len(one).to_bytes() + one for one in digests)).hexdigest()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(f"cannot write {path}", error) from None
