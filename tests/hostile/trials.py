"""Trials of `invert` with hostile input, each in a process of its own with bounded memory and time.

    python tests/hostile/trials.py [--share 0.1] [--kinds images,decoders] [--seed 0] [--failures FOLDER]

prints the table of `docs/reliability.md`, and exits with status 1 if a trial fails: by a traceback, a crash, a hang, a
wrong result, or by running out of memory. The same seed makes the same trials.
"""

import argparse
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import datasets
import hostile_files as files
import torch
from conftest import photographs, publish_tiny
from hostile_images import hostile_image
from PIL import Image
from typer.main import get_command

import inverters.evaluation.evaluate
import inverters.training.train
from inverters.cli.main import app, main
from inverters.evaluation.scores import IMAGE_METRICS

COUNTS = {"images": 1000, "configurations": 200, "decoders": 200, "data sets": 200, "evaluations": 100, "options": 300}
MEMORY = 2_000_000_000  # bytes beyond those of the loaded libraries
SECONDS = 10  # of the processor
PATIENCE = 180  # seconds of the clock, on a machine that may be busy
FAILURES = ("traceback", "crash", "hang", "slow", "wrong", "memory")
EDGES = ("-1", "0", "1", "-0", "31", "32", "1023", "65536", str(2**31), str(2**63 - 1), str(2**64), "9" * 5000, "1e3")
EDGES += ("nan", "inf", "", " ", "x", "0x10", "1_0", "٣", "1.5", "+1", "1\n", "full", "\udcff")
UNBOUNDED = ("iterations", "refine", "devices", "num_nodes")  # more of them take longer, as their user wants


@dataclass
class Done:
    """What a process did: its exit status or minus its signal, what it printed, and how long it took."""

    status: int
    out: str
    err: str
    seconds: float  # of the processor


@dataclass
class Kind:
    """The trials of one kind of input."""

    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0


def run(arguments: Sequence[str | Path], folder: Path) -> Done:
    """Run `invert` in a fork of this process, in `folder`."""
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    child = os.fork()
    if child == 0:
        _child(arguments, folder, out, err, pages + MEMORY)
    _, status, usage = os.wait4(child, 0)
    return Done(
        os.waitstatus_to_exitcode(status),
        out.read_text(errors="replace"),
        err.read_text(errors="replace"),
        usage.ru_utime + usage.ru_stime,
    )


def _child(arguments: Sequence[str | Path], folder: Path, out: Path, err: Path, memory: int) -> None:
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (3 * SECONDS, 3 * SECONDS + 1))
    signal.alarm(PATIENCE)
    status = 70
    try:
        main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def judge(done: Done, right: Callable[[], bool]) -> str:
    """What came of a trial: one of `FAILURES`, or `accepted` or `refused`."""
    if "Traceback (most recent call last)" in done.err or done.status == 70:
        return "traceback"
    if done.status in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL):
        return "hang"
    if done.status not in (0, 1, 2):
        return "crash"
    if "more memory than there is" in done.err or "do not fit into memory" in done.err:
        return "memory"
    if done.seconds > SECONDS:
        return "slow"
    if done.status == 1 and "error: " not in done.err:
        return "wrong"
    if not right():
        return "wrong"
    return "accepted" if done.status == 0 else "refused"


class Trials:
    """What the trials share: decoders, photographs, an evaluation, in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints = publish_tiny(root / "decoders")
        self.photographs = photographs(root / "photographs", 2)
        self.options = ["--weights", "random", "--device", "cpu", "--size", "32"]
        self.evaluate = ["evaluate", "--data", self.photographs, *self.options, "--methods", "decoder", "--json"]
        self.evaluate += ["--layers", "relu1_1", "--checkpoints", self.checkpoints, "-o"]
        first, base = self.run("base", ["predict", self.photographs / "0.png", *self.decode(), "-o", "out"])
        assert first.status == 0, first.err
        self.picture = (base / "out" / "0" / "relu1_1.png").read_bytes()
        first, base = self.run("evaluation", [*self.evaluate, "out"])
        assert first.status == 0, first.err
        self.evaluation, self.mean = base / "out", self.psnr(first)
        data = {"train": str(self.photographs), "validation": str(self.photographs), "crop_size": 32}
        self.config = {
            "layers": ["relu1_1"],
            "encoder": {"name": "vgg19", "weights": "random"},
            "decoder": {"stages": {"1": [[8, 1]]}, "corrections": 0},
            "loss": {"pixel": 1.0},
            "data": data | {"batch_size": 2, "workers": 0, "scale": [0.5, 1.0]},
            "optimizer": {"learning_rate": 0.001},
            "trainer": {"steps": 2, "accelerator": "cpu"},
            "seed": 0,
        }

    def decode(self, checkpoints: Path | None = None) -> list[str | Path]:
        return [*self.options, "--layers", "relu1_1", "--checkpoints", checkpoints or self.checkpoints]

    def run(self, name: str, arguments: Sequence[str | Path]) -> tuple[Done, Path]:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return run(arguments, folder), folder

    @staticmethod
    def psnr(done: Done) -> float:
        found = json.loads(done.out)["summary"]["relu1_1"]["decoder"]["psnr"]
        return float(found["mean"]) if found["images"] == 2 else math.nan

    def images(self, folder: Path, random: Random) -> tuple[str, Done, bool]:
        """A good photograph is inverted whatever lies beside it."""
        (folder / "in").mkdir()
        shutil.copy(self.photographs / "0.png", folder / "in" / "good.png")
        what = hostile_image(folder / "in", random)
        done = run(["predict", "in", *self.decode(), "-o", "out"], folder)
        written = [json.loads(file.read_text()) for file in (folder / "out").glob("*/metrics.json")]
        good = (folder / "out" / "good" / "relu1_1.png").exists()
        finite = all(one["methods"]["decoder"]["layers"]["relu1_1"]["psnr"] is not None for one in written)
        inside = {path.name for path in folder.iterdir()} == {"in", "out"}
        return what, done, good and finite and inside and len(written) <= 2

    def configurations(self, folder: Path, random: Random) -> tuple[str, Done, bool]:
        """A configuration is explained in a few lines, or understood; what it says is not run."""
        what = files.configuration(folder / "run.yaml", random, self.config)
        done = run(["train", "run.yaml", "-o", "out"], folder)
        return what, done, not (folder / "executed").exists() and len(done.err) < 20_000

    def decoders(self, folder: Path, random: Random) -> tuple[str, Done, bool]:
        """A decoder gives what it gave before it was damaged, or nothing. One that its card vouches for is finite."""
        shutil.copytree(self.checkpoints, folder / "decoders")
        what, vouched = files.decoder(folder / "decoders" / "vgg19-random" / "relu1_1", random)
        photograph = self.photographs / "0.png"
        done = run(["predict", photograph, *self.decode(folder / "decoders"), "-o", "out"], folder)
        picture = folder / "out" / "0" / "relu1_1.png"
        right = not (folder / "executed").exists() and picture.exists() == (done.status == 0)
        if picture.exists() and (vouched or what.startswith(("card", "swap"))):
            score = json.loads(picture.with_name("metrics.json").read_text())["methods"]["decoder"]["layers"]
            return what, done, right and score["relu1_1"]["psnr"] is not None
        return what, done, right and (not picture.exists() or picture.read_bytes() == self.picture)

    def data_sets(self, folder: Path, random: Random) -> tuple[str, Done, bool]:
        """Nothing outside a data set is read."""
        (folder / "in").mkdir()
        for place in (folder, folder / "in"):
            Image.new("RGB", (53, 37)).save(place / "secret.png")
        file, what = files.data_set(folder / "in", random)
        done = run(["predict", "--data", file, *self.decode(), "-o", "out"], folder)
        written = [json.loads(one.read_text()) for one in folder.glob("out/*/metrics.json")]
        return what, done, all((one["width"], one["height"]) != (46, 32) for one in written)

    def evaluations(self, folder: Path, random: Random) -> tuple[str, Done, bool]:
        """A damaged evaluation is refused, or its results are those of the whole one."""
        shutil.copytree(self.evaluation, folder / "out")
        what = files.evaluation(folder / "out", random)
        done = run([*self.evaluate, "out"], folder)
        return what, done, done.status != 0 or math.isclose(self.psnr(done), self.mean, rel_tol=1e-9)

    def options_(self, folder: Path, random: Random) -> tuple[str, Done, bool]:
        """Every number of every command."""
        photograph, decode = self.photographs / "0.png", self.decode()
        base: dict[str, list[str | Path]] = {
            "predict": ["predict", photograph, *decode],
            "edit": ["edit", photograph, *decode, "--edit", "noise=0.1"],
            "optimize": ["optimize", photograph, "--layer", "relu1_1", *self.options, "--iterations", "1"],
            "evaluate": [*self.evaluate[:-1]],
            "layers": ["layers", *decode[:2]],
        }
        commands: Any = get_command(app).commands  # type: ignore[attr-defined]
        numbers = [
            (command, parameter)
            for command in base
            for parameter in commands[command].params
            if parameter.bare_type() in ("int", "float") or parameter.name == "size"
        ]
        command, parameter = random.choice(numbers)
        edges = [edge for edge in EDGES if parameter.name not in UNBOUNDED or not edge.strip().isdigit() or edge < "2"]
        edge = random.choice(edges)
        output = [] if command == "layers" else ["-o", "out"]
        done = run([*base[command], *output, f"{max(parameter.opts, key=len)}={edge}"], folder)
        return f"{command} {parameter.name} {edge[:20]}", done, "nan" not in done.out.lower()


def conduct(counts: dict[str, int], seed: int, failures: Path | None = None) -> dict[str, Kind]:
    """Conduct so many trials of each kind; files of those that fail go to `failures`."""
    torch.set_num_threads(1)
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.1
    datasets.disable_progress_bars()
    del IMAGE_METRICS["agreement"]  # its network takes as long as everything else
    for figure in ("quality_figure", "detail_figure", "speed_figure"):
        setattr(inverters.evaluation.evaluate.plots, figure, lambda _: b"")
    inverters.training.train.train = lambda *_: {}  # type: ignore[assignment]  # a run that is understood takes hours
    kinds: dict[str, Kind] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        datasets.config.HF_DATASETS_CACHE = root / "cache"
        trials = Trials(root)
        for name, count in counts.items():
            kind = kinds.setdefault(name, Kind())
            method = getattr(trials, "options_" if name == "options" else name.replace(" ", "_"))
            for number in range(count):
                folder = root / f"{name.replace(' ', '-')}-{number}"
                folder.mkdir()
                what, done, right = method(folder, Random(f"{seed} {name} {number}"))
                verdict = judge(done, lambda right=right: right)  # type: ignore[misc]
                kind.verdicts[verdict] += 1
                kind.seconds = max(kind.seconds, done.seconds)
                if verdict in FAILURES:
                    report = f"{folder.name} ({what}): {verdict}, status {done.status}, {done.seconds:.1f} s"
                    print(f"{report}\n{done.err[-1500:]}", file=sys.stderr)
                    if failures:
                        shutil.copytree(folder, failures / folder.name, symlinks=True, ignore=_pipes)
                shutil.rmtree(folder)
    return kinds


def _pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]


def table(kinds: dict[str, Kind]) -> str:
    """The results as Markdown."""
    columns = ["input", "trials", "accepted", "refused in a line", "tracebacks, crashes", "hangs", "wrong results"]
    rows = [[*columns, "out of memory", "longest"], ["---", *["---:"] * 8]]
    for name, kind in kinds.items():
        found = kind.verdicts
        counts = [found.total(), found["accepted"], found["refused"], found["traceback"] + found["crash"]]
        counts += [found["hang"] + found["slow"], found["wrong"], found["memory"]]
        rows.append([name, *map(str, counts), f"{kind.seconds:.1f} s"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--kinds", default=",".join(COUNTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path)
    chosen = parser.parse_args()
    started = time.monotonic()
    wanted = {name: math.ceil(COUNTS[name] * chosen.share) for name in chosen.kinds.split(",")}
    results = conduct(wanted, chosen.seed, chosen.failures)
    print(table(results))
    print(f"\nseed {chosen.seed}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(any(kind.verdicts[failure] for kind in results.values() for failure in FAILURES))
