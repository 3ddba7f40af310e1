"""Where the benchmarks' figures go: a table on the screen, and JSON with the versions and the hardware."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does; read at torch's first allocation

RESULTS = Path(__file__).parent / "results"


def seconds(function: Callable[[], object], repeats: int = 7) -> float:
    """The median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        started = perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(perf_counter() - started)
    return median(times)


def record(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Prints `rows` as a Markdown table and writes them to `results/<name>.json`."""
    columns = list(rows[0])
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(_shown(cell, column) for column, cell in row.items())} |")
    print(flush=True)
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: version(package) for package in ("inverters", "torch", "torchvision", "pytorch-lightning")},
    }
    content = json.dumps({"machine": machine, "rows": rows}, indent=2)
    (RESULTS / f"{name}.json").write_text(content + "\n", encoding="utf-8")


def _shown(cell: object, column: str) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if column.endswith("dB") else f"{cell:.3g}"
    return str(cell)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
