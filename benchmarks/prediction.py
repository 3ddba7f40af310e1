"""`invert predict` as a process: how long it takes to start, and what a large photograph and many small ones cost.

python benchmarks/prediction.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import skimage.data
from PIL import Image
from record import record

SIZES = ((1600, 1200), (2000, 1500), (4000, 3000))  # width, height
COUNTS = (100, 1000)  # images of a folder
PREDICT = ("-m", "inverters", "predict")


def run(*arguments: str) -> tuple[float, float]:
    """Seconds, and the peak of memory in GB, of a Python process with these arguments."""
    started = perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # its own usage, where `getrusage` has only the largest child's
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return perf_counter() - started, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(skimage.data.__path__[0]) / "astronaut.png"
        output = ("--output-dir", str(Path(folder) / "out"))
        imports = median(run("-c", "import torch, torchvision")[0] for _ in range(5))
        whole = median(run(*PREDICT, str(photograph), *output)[0] for _ in range(5))
        record(
            "startup",
            [
                {"process": "import torch, torchvision", "s": imports, "× import": 1.0},
                {"process": "invert predict, 512×512, all layers", "s": whole, "× import": whole / imports},
            ],
        )
        rows = []
        for width, height in SIZES:
            large = Path(folder) / f"{width}.png"
            Image.fromarray(np.asarray(Image.open(photograph).resize((width, height)))).save(large)
            took, memory = run(*PREDICT, str(large), *output, "--size", "full")
            pixels = width * height / 1e6
            rows.append({"image": f"{width}×{height}", "s": took, "s per megapixel": took / pixels, "peak GB": memory})
        record("large", rows)
        rows = []
        for count in COUNTS:
            many = Path(folder) / str(count)
            many.mkdir()
            for number in range(count):
                (many / f"{number}.png").symlink_to(photograph)
            took, memory = run(*PREDICT, str(many), "--output-dir", str(Path(folder) / f"out-{count}"), "--size", "64")
            rows.append({"images, 64×64": count, "s": took, "peak GB": memory})
        record("many", rows)


if __name__ == "__main__":
    main()
