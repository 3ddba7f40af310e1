"""Predicting in one process."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from inverters.locks import locked
from inverters.prediction.pipeline import Item, Pipeline, Reader
from inverters.prediction.writers import Failure, Prediction


def predict(pipeline: Pipeline) -> Iterator[Prediction | Failure]:
    """Invert every image of the pipeline, and yield the result of each, in order.

    While one image is inverted, the next is read and earlier ones are written; memory does not grow with the number of
    images. If the iteration ends early, the results written so far are complete.

    Raises:
        OutputError: results cannot be written, or another run writes there. What is wrong with a single image is
            yielded as a `Failure`.
        KeyboardInterrupt: Ctrl-C.
    """
    with locked(pipeline.reader.writer.output_dir):
        try:
            for index, item in _read_ahead(pipeline.reader):
                yield from pipeline.process(index, item)
            yield from pipeline.drain()
        finally:
            pipeline.close()
            pipeline.reader.writer.close()


def _read_ahead(reader: Reader) -> Iterator[tuple[int, Item]]:
    """Yield every image; the next one is read in a thread."""
    with ThreadPoolExecutor(1) as thread:
        pending = deque([thread.submit(reader.read, 0)] if len(reader.images) else [])
        for index in range(len(reader.images)):
            if index + 1 < len(reader.images):
                pending.append(thread.submit(reader.read, index + 1))
            yield index, pending.popleft().result()
