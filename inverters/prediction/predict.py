"""`invert predict` and `invert optimize`: reconstruct image files from their features, and measure what was lost."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from inverters.data.images import load_image, resize_shorter_side
from inverters.errors import ImageError
from inverters.files import make_folder
from inverters.inversion.inverter import Inverter, Progress, weights_digest
from inverters.inversion.methods import Decode, Optimize
from inverters.inversion.optimization import Progress as SearchProgress
from inverters.inversion.presets import PRESETS, OptimizationSettings
from inverters.prediction.writers import (
    Failure,
    Prediction,
    Provenance,
    find_prediction,
    folder_names,
    write_prediction,
    write_table,
)

Result = TypeVar("Result")


def predict(
    files: Sequence[Path],
    inverter: Inverter,
    output_dir: Path,
    size: int | None = 512,
    iterations: int = 0,
    tile: int | None = None,
    skip_existing: bool = False,
    progress: Callable[[Path, int, int], None] | None = None,
) -> Iterator[Prediction | Failure]:
    """Inverts `files` one after the other, and yields what became of each, in their order.

    For `photo.jpg` it writes into `output_dir/photo/` a PNG for each layer, `depth.png` and `metrics.json`; for several
    images also `output_dir/metrics.csv`, once the last one is done or the iteration is given up. While one image is
    inverted, the next is read and the one before is written; the memory does not grow with the number of images.

    Args:
        files: images; those of the same stem get folders `photo`, `photo-2`, …
        inverter: from `load_inverter`.
        output_dir: made if it does not exist.
        size: the shorter side in pixels to which larger images are shrunk; None keeps every image as it is.
        iterations: of L-BFGS, to go on from each reconstruction with.
        tile: see `Inverter.reconstruct`.
        skip_existing: whether an image is passed over whose results, made in the same way, are there.
        progress: is called after each tile with the file and the number of its tiles done and of all.

    Raises:
        OutputError: nothing can be written to `output_dir`. Whatever is wrong with one image is a `Failure`.
    """
    make_folder(output_dir)
    provenance = provenance_of(inverter, size, iterations)
    done: list[Prediction] = []

    def read(file: Path, folder: Path) -> Tensor | ImageError | Prediction:
        if skip_existing and (existing := find_prediction(str(file), provenance, folder)):
            return existing
        try:
            image = load_image(file)
        except ImageError as error:
            return error
        return resize_shorter_side(image, size) if size else image

    def write(file: Path, folder: Path, image: Tensor | ImageError | Prediction, made: Any) -> Prediction | Failure:
        if isinstance(image, ImageError):
            return Failure(str(file), str(image))
        if isinstance(image, Tensor):
            reconstructions, seconds = made
            image = write_prediction(str(file), image, reconstructions, seconds, provenance, folder)
        done.append(image)
        return image

    places = [(file, output_dir / name) for file, name in zip(files, folder_names(files), strict=True)]
    inverted = (
        (file, folder, image, invert(image, inverter, iterations, tile, progress and partial(progress, file)))
        if isinstance(image, Tensor)
        else (file, folder, image, None)
        for (file, folder), image in zip(places, _one_ahead(read, places), strict=True)
    )
    try:
        yield from _one_ahead(write, inverted)
    finally:
        if len(files) > 1 and done:
            write_table(done, provenance.layers, output_dir)


def provenance_of(inverter: Inverter, size: int | None, iterations: int) -> Provenance:
    """What decides the reconstructions that `invert` makes of images shrunk to `size`."""
    method = "decoder+lbfgs" if iterations else "decoder"
    encoder = inverter.encoder
    networks = weights_digest([inverter])
    return Provenance(encoder.name, encoder.weights, networks, tuple(inverter.layers), size, method, iterations)


def invert(
    image: Tensor, inverter: Inverter, iterations: int = 0, tile: int | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], float]:
    """The reconstructions of one 3×H×W image, 1×3×H×W by layer, and the seconds that they took.

    Args:
        image, tile, progress: see `Inverter.reconstruct`.
        inverter: from `load_inverter`.
        iterations: of L-BFGS, to go on from each reconstruction with.
    """
    started = time.perf_counter()
    reconstructions = inverter.reconstruct(image[None], tile, progress)
    if iterations:
        size = (image.shape[1], image.shape[2])
        method = Optimize(iterations=iterations, init=Decode(inverter))
        for layer in reconstructions:
            features = inverter.encode(image[None], [layer], exact=True)[layer]
            refined = method(features, inverter.encoder, inverter.encoder.layers[layer], size)
            if refined.interrupted:
                raise KeyboardInterrupt
            reconstructions[layer] = refined.images
    return reconstructions, time.perf_counter() - started


def _one_ahead(function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """`function` of the arguments of each call, in order, in a thread that works while the result before is in use."""
    with ThreadPoolExecutor(1) as thread:
        pending: deque[Future[Result]] = deque()
        for arguments in calls:
            pending.append(thread.submit(function, *arguments))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def optimize(
    file: Path,
    inverter: Inverter,
    layer: str,
    output_dir: Path,
    *,
    size: int | None = 512,
    settings: OptimizationSettings = PRESETS["gatys"],
    iterations: int = 200,
    init: str = "noise",
    seed: int = 0,
    progress: SearchProgress | None = None,
) -> Prediction:
    """Searches for an image with the features that the one in `file` has at `layer`, and writes what `predict` writes.

    Ctrl-C ends the search; then the best image so far is written.

    Args:
        file: an image.
        inverter: its encoder has `layer`; a decoder is only needed for `init="decoder"`.
        layer: where the features are from.
        output_dir, size: as in `predict`.
        init: where the search starts: `noise`, `grey`, or `decoder`, the decoder's reconstruction.
        settings, iterations, seed, progress: see `invert_by_optimization`.

    Raises:
        UnknownNameError, InverterError: see `invert_by_optimization`.
        ImageError: the image cannot be read.
        OutputError: nothing can be written to `output_dir`.
    """
    image = load_image(file)
    image = resize_shorter_side(image, size) if size else image
    make_folder(output_dir)
    started = time.perf_counter()
    start: Any = Decode(inverter) if init == "decoder" else init
    method = Optimize(settings, iterations, start, seed, progress)
    features = inverter.encode(image[None], [layer], exact=True)[layer]
    result = method(features, inverter.encoder, inverter.encoder.layers[layer], (image.shape[1], image.shape[2]))
    seconds = time.perf_counter() - started
    encoder, networks = inverter.encoder, weights_digest([inverter])
    provenance = Provenance(encoder.name, encoder.weights, networks, (layer,), size, "optimization", iterations)
    prediction = write_prediction(
        str(file), image, {layer: result.images}, seconds, provenance, output_dir / folder_names([file])[0]
    )
    return replace(prediction, interrupted=result.interrupted)
