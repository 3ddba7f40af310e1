"""`invert predict` and `invert optimize`: reconstruct image files from their features, and measure what was lost."""

import csv
import io
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from inverters.errors import ImageError
from inverters.figures import depth_strip
from inverters.files import make_folder, write_whole
from inverters.images import load_image, pad_to_multiple, resize_shorter_side, save_png
from inverters.inverter import Inverter
from inverters.layers import INPUT_MULTIPLE
from inverters.metrics import peak_signal_noise_ratio
from inverters.optimization import OptimizationResult, Progress, invert_by_optimization
from inverters.presets import PRESETS, OptimizationSettings

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """What was made of one image: sizes in pixels, `seconds` that it took, PSNR in dB by layer.

    `interrupted` says that Ctrl-C ended the search, and this is the best image so far.
    """

    source: Path
    folder: Path
    width: int
    height: int
    seconds: float
    psnr: dict[str, float]
    interrupted: bool = False


@dataclass(frozen=True)
class Failure:
    """An image that could not be inverted, and why."""

    source: Path
    reason: str


def predict(
    files: Sequence[Path],
    inverter: Inverter,
    output_dir: Path,
    size: int | None = 512,
    refine: int = 0,
    tile: int | None = None,
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
        refine: how many iterations of L-BFGS to go on from each reconstruction with.
        tile: see `Inverter.reconstruct`.
        progress: is called after each tile with the file and the number of its tiles done and of all.

    Raises:
        OutputError: nothing can be written to `output_dir`. Whatever is wrong with one image is a `Failure`.
    """
    make_folder(output_dir)
    done: list[Prediction] = []

    def read(file: Path) -> Tensor | ImageError:
        try:
            image = load_image(file)
        except ImageError as error:
            return error
        return resize_shorter_side(image, size) if size else image

    def invert(image: Tensor, file: Path) -> tuple[dict[str, Tensor], float]:
        started = time.perf_counter()
        shown = partial(progress, file) if progress else None
        reconstructions = inverter.reconstruct(image[None], tile, shown)
        if refine:
            reconstructions = _refine(image[None], inverter, reconstructions, refine)
        return reconstructions, time.perf_counter() - started

    def write(file: Path, name: str, image: Tensor | ImageError, made: Any) -> Prediction | Failure:
        if isinstance(image, ImageError):
            return Failure(file, str(image))
        reconstructions, seconds = made
        done.append(_write(file, image, reconstructions, seconds, inverter, output_dir / name))
        return done[-1]

    images = _one_ahead(read, ((file,) for file in files))
    inverted = (
        (file, name, image, invert(image, file) if isinstance(image, Tensor) else None)
        for file, name, image in zip(files, _folder_names(files), images, strict=True)
    )
    try:
        yield from _one_ahead(write, inverted)
    finally:
        if len(files) > 1 and done:
            write_whole(output_dir / "metrics.csv", _as_csv(done))


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
    progress: Progress | None = None,
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
    start = inverter.reconstruct(image[None])[layer] if init == "decoder" else init
    result = _search(
        image[None], inverter, layer, start, settings=settings, iterations=iterations, seed=seed, progress=progress
    )
    seconds = time.perf_counter() - started
    prediction = _write(file, image, {layer: result.images}, seconds, inverter, output_dir / file.stem)
    return replace(prediction, interrupted=result.interrupted)


def _refine(
    images: Tensor, inverter: Inverter, reconstructions: dict[str, Tensor], iterations: int
) -> dict[str, Tensor]:
    """What a search of so many iterations makes of the reconstructions, N×3×H×W each."""
    refined = {}
    for layer, preds in reconstructions.items():
        result = _search(images, inverter, layer, preds, iterations=iterations)
        if result.interrupted:
            raise KeyboardInterrupt
        refined[layer] = result.images
    return refined


def _search(images: Tensor, inverter: Inverter, layer: str, init: Any, **settings: Any) -> OptimizationResult:
    """`invert_by_optimization` for N×3×H×W images of any height and width."""
    height, width = images.shape[-2:]
    target = pad_to_multiple(images.to(inverter.device), INPUT_MULTIPLE)
    with torch.no_grad():
        features = inverter.encoder(target, [layer])[layer]
    start = pad_to_multiple(init, INPUT_MULTIPLE) if isinstance(init, Tensor) else init
    result = invert_by_optimization(
        features, inverter.encoder, layer, (target.shape[2], target.shape[3]), init=start, **settings
    )
    return replace(result, images=result.images[..., :height, :width])


def _write(
    source: Path,
    image: Tensor,
    reconstructions: Mapping[str, Tensor],
    seconds: float,
    inverter: Inverter,
    folder: Path,
) -> Prediction:
    """Measures the reconstructions of one image, 1×3×H×W each, and writes everything into `folder`."""
    preds = {layer: batch[0].cpu() for layer, batch in reconstructions.items()}
    psnr = {layer: float(peak_signal_noise_ratio(one[None], image[None])) for layer, one in preds.items()}
    height, width = image.shape[-2:]
    prediction = Prediction(source, folder, width, height, seconds, psnr)

    make_folder(folder)
    for layer, one in preds.items():
        save_png(one, folder / f"{layer}.png")
    strip = io.BytesIO()
    depth_strip(image, preds, psnr).save(strip, "PNG")
    write_whole(folder / "depth.png", strip.getvalue())
    write_whole(folder / "metrics.json", _as_json(prediction, inverter))
    return prediction


def _as_json(prediction: Prediction, inverter: Inverter) -> str:
    """PSNR is null where the reconstruction is exact, since JSON has no infinity."""
    values = {
        "image": str(prediction.source),
        "width": prediction.width,
        "height": prediction.height,
        "encoder": inverter.encoder.name,
        "weights": inverter.encoder.weights,
        "seconds": round(prediction.seconds, 4),
        "layers": {
            layer: {"psnr": round(value, 3) if math.isfinite(value) else None}
            for layer, value in prediction.psnr.items()
        },
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _as_csv(predictions: Sequence[Prediction]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    layers = list(predictions[0].psnr)
    table.writerow(["image", "folder", "width", "height", "seconds", *(f"psnr_{layer}" for layer in layers)])
    for item in predictions:
        scores = [f"{item.psnr[layer]:.3f}" for layer in layers]
        table.writerow([item.source, item.folder.name, item.width, item.height, f"{item.seconds:.4f}", *scores])
    return text.getvalue()


def _folder_names(files: Sequence[Path]) -> list[str]:
    """Each file's stem; where a stem is taken, also by a name that differs in case only, the first free `stem-2`, …"""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
