"""Reading, inverting and writing images: what predicting in one process and in several have in common."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from inverters.data.images import resize_shorter_side
from inverters.errors import ImageError, InverterError, OutputError, is_out_of_memory
from inverters.inversion.inversion import Inversion
from inverters.inversion.runner import MethodRunner, Step
from inverters.prediction.inputs import Images, LoadedImage
from inverters.prediction.writers import Failure, Prediction, Writer
from inverters.signals import raise_if_stopped

WRITING = 4  # at most so many images are encoded and written while the next one is inverted,
WRITING_PIXELS = 4_000_000  # with at most so many pixels together, which bounds the memory

Item = LoadedImage | Prediction | Failure  # an image, or why there is nothing to invert
Progress = Callable[[int, Step], None]  # takes the index of the image, and what is done of it


@dataclass(frozen=True)
class Reader:
    """Reads images by index.

    Attributes:
        images: the images.
        writer: knows which results exist.
        size: pixels to which the shorter side of larger images is shrunk; None for the full size.
        skip_existing: whether images are skipped whose results exist.
    """

    images: Images
    writer: Writer
    size: int | None
    skip_existing: bool = False

    def read(self, index: int) -> Item:
        """Return the image, or its existing results, or what is wrong with it."""
        source = self.images.source(index)
        try:
            existing = self.writer.exists(index)
            if existing and self.skip_existing:
                return existing
            image = self.images.load(index)
            return replace(image, pixels=resize_shorter_side(image.pixels, self.size)) if self.size else image
        except (ImageError, OutputError) as error:
            return Failure(source, str(error) if source in str(error) else f"{source}: {error}")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return Failure(source, f"cannot read {source}: it takes more memory than there is")


class Pipeline:
    """Inverts images one after the other; the results of earlier ones are written meanwhile.

    Args:
        reader: reads the images.
        runners: the methods, all of which run on each image.
        tile: see `Inverter.reconstruct`.
        keep_interrupted: whether the best image so far is written when Ctrl-C ends an optimisation.
        progress: called after each tile or iteration.
    """

    reader: Reader
    runners: Sequence[MethodRunner]
    tile: int | None
    keep_interrupted: bool
    progress: Progress | None
    threads: ThreadPoolExecutor

    def __init__(
        self,
        reader: Reader,
        runners: Sequence[MethodRunner],
        *,
        tile: int | None = None,
        keep_interrupted: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.reader, self.runners, self.tile = reader, runners, tile
        self.keep_interrupted, self.progress = keep_interrupted, progress
        self.threads = ThreadPoolExecutor(WRITING)
        self.pending: deque[tuple[Future[Prediction | Failure], int]] = deque()  # what is being written, and its pixels

    def process(self, index: int, item: Item) -> Iterator[Prediction | Failure]:
        """Invert `item`, read as image `index`, and start to write the result; yield the results written meanwhile."""
        raise_if_stopped()
        if isinstance(item, Prediction):
            yield from self._add(partial(_identity, item), 0)
            return
        if isinstance(item, Failure):
            yield from self._add(partial(self.reader.writer.write, index, item), 0)
            return
        result = self._invert(index, item.pixels)
        pixels = item.pixels.shape[-2] * item.pixels.shape[-1]
        yield from self._add(partial(self.reader.writer.write, index, result, item.sha256), pixels)

    def drain(self) -> Iterator[Prediction | Failure]:
        """Yield the remaining results once they are written."""
        while self.pending:
            yield self.pending.popleft()[0].result()

    def close(self) -> None:
        """Wait for results that are being written, and remove incomplete files."""
        self.threads.shutdown()
        self.reader.writer.abandon()

    def _add(self, write: Callable[[], Prediction | Failure], pixels: int) -> Iterator[Prediction | Failure]:
        def full() -> bool:
            return len(self.pending) >= WRITING or sum(some for _, some in self.pending) + pixels > WRITING_PIXELS

        while self.pending and (full() or self.pending[0][0].done()):
            yield self.pending.popleft()[0].result()
        self.pending.append((self.threads.submit(write), pixels))

    def _invert(self, index: int, image: Tensor) -> list[Inversion] | Failure:
        source = self.reader.images.source(index)
        show = partial(self.progress, index) if self.progress else None
        inversions = []
        try:
            for runner in self.runners:
                inversions.append(runner.run(image, source, self.tile, show))
                if inversions[-1].interrupted:
                    if self.keep_interrupted:
                        break
                    raise KeyboardInterrupt
        except InverterError as error:
            return Failure(source, f"{source}: {error}")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = image.shape[-2:]
            advice = "use a smaller --size or --tile"
            return Failure(source, f"{source}: {width}×{height} pixels take more memory than there is: {advice}")
        return inversions


def _identity(prediction: Prediction) -> Prediction:
    return prediction
