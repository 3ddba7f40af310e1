"""Many images, many cells of an evaluation, and many users of the page: time and memory as they go on.

python benchmarks/load.py [--images 20000] [--cells 10000] [--users 50]
"""

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
import skimage.data
from gradio_client import Client, handle_file
from gradio_client.utils import QueueError
from PIL import Image
from record import record

from inverters.app.panes import from_data_uri
from inverters.app.server import serving
from inverters.evaluation.evaluate import evaluate
from inverters.inversion.runner import load_runners
from inverters.prediction.inputs import ImageFiles
from inverters.prediction.pipeline import Pipeline, Reader
from inverters.prediction.predict import predict
from inverters.prediction.writers import FolderWriter

SIDE = 64  # pixels of an image
PARTS = 5  # of a run, measured one by one
LAYERS = ["relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2"]
PORT = 7861


def make_images(folder: Path, count: int) -> list[Path]:
    """Different crops of a photograph, each with a colour of its own."""
    photograph = np.asarray(Image.open(Path(skimage.data.__path__[0]) / "astronaut.png")).astype(float)
    generator, files = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(count):
        top, left = generator.integers(0, 512 - SIDE, 2)
        pixels = photograph[top : top + SIDE, left : left + SIDE] * generator.uniform(0.2, 1, 3)
        files.append(folder / f"{number:06d}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
    return files


def resident_memory() -> float:
    """GB of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e9


def predictions(folder: Path, count: int) -> None:
    """`invert predict` over a folder."""
    images = ImageFiles(make_images(folder / "images", count))
    runners = load_runners(["decoder"], {"relu3_2": ["decoder"]}, device="cpu", size=SIDE)
    writer = FolderWriter(images, [runner.provenance for runner in runners], folder / "predictions")
    rows, started = [], perf_counter()
    for done, _ in enumerate(predict(Pipeline(Reader(images, writer, SIDE), runners)), start=1):
        if done % (count // PARTS) == 0:
            took, started = perf_counter() - started, perf_counter()
            rows.append({"images done": done, "ms per image": 1000 * took / (count // PARTS), "GB": resident_memory()})
    record("load_predict", rows)


def evaluation(folder: Path, cells: int) -> None:
    """An evaluation, and the same again, which only reads its cells."""
    count = cells // len(LAYERS)
    make_images(folder / "photographs", count)

    def run() -> float:
        started = perf_counter()
        evaluate(
            str(folder / "photographs"),
            layers=LAYERS,
            methods=["linear"],
            size=SIDE,
            output_dir=folder / "evaluation",
            device="cpu",
        )
        return perf_counter() - started

    record("load_evaluate", [{"cells": count * len(LAYERS), "computed, s": run(), "resumed, s": run()}])


def users(folder: Path, count: int) -> None:
    """Users who upload an image each at the same moment, twice."""
    files = make_images(folder / "uploads", count)
    rows = []
    with serving(size=SIDE, port=PORT, device="cpu") as url, ThreadPoolExecutor(count) as threads:
        clients = list(threads.map(lambda _: _client(url), files))
        for wave in (1, 2):
            started = perf_counter()
            outcomes = Counter(threads.map(_visit, clients, files))
            rows.append(
                {
                    "wave": wave,
                    "users": count,
                    **{name: outcomes[name] for name in ("own picture", "told to wait", "picture of another")},
                    "s": perf_counter() - started,
                    "GB": resident_memory(),
                }
            )
    record("load_page", rows)


def _client(url: str) -> Client:
    return Client(url, verbose=False, analytics_enabled=False, download_files=False, httpx_kwargs={"timeout": 600})


def _visit(client: Client, file: Path) -> str:
    try:
        pane = client.predict(handle_file(file), "vgg19", "closest", True, api_name="/reconstruct")
    except QueueError:
        return "told to wait"
    shown, uploaded = (np.asarray(Image.open(one)) for one in (BytesIO(from_data_uri(pane["original"])), file))
    return "own picture" if np.array_equal(shown, uploaded) else "picture of another"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        predictions(Path(name), arguments.images)
        evaluation(Path(name), arguments.cells)
        users(Path(name), arguments.users)
