"""The jobs of configs/slurm, submitted to a SLURM of two nodes on this machine by `make test-slurm`."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import Change, written

STEPS = 900
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands reach it."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", str(ROOT / "tests" / "slurm" / "start.sh"), str(folder)], check=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    yield environment
    subprocess.run(["scancel", "--signal=KILL", "--user=root"], env=environment, check=False)
    time.sleep(2)
    for daemon in folder.glob("*.pid"):
        subprocess.run(["kill", daemon.read_text().strip()], check=False)


@pytest.fixture
def submit(tmp_path: Path, slurm: dict[str, str], settings: Callable[..., Change]) -> Callable[..., str]:
    """Submits one of the jobs as it is, with the resources that these nodes have, and returns its number."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    values = settings(trainer={"steps": STEPS, "checkpoint_every": 10, "validate_every": STEPS})
    run = written(tmp_path / "run.yaml", values)

    def submitted(job: str, *options: str) -> str:
        command = ["sbatch", "--parsable", "--gpus-per-node=0", "--cpus-per-task=1", "--ntasks-per-node=1", *options]
        environment = slurm | {"CONFIG": str(run), "OUTPUT": str(tmp_path / "out")}
        done = subprocess.run(
            [*command, f"configs/slurm/{job}.sbatch"],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    return submitted


def wait_for(condition: Callable[[], bool], log: Callable[[], str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log()
        time.sleep(0.2)


def test_two_nodes_train_and_go_on_where_they_were_stopped(
    tmp_path: Path, slurm: dict[str, str], submit: Callable[..., str]
) -> None:
    """First by a preemption, after which SLURM queues the job again; then as if its time were up: the job does so."""
    job = submit("four-nodes", "--nodes=2")
    last = tmp_path / "out" / "state" / "last.ckpt"
    published = [tmp_path / "out" / "checkpoints" / "vgg19-random" / layer for layer in ("relu1_1", "relu2_1")]

    def log() -> str:
        return "\n".join(path.read_text() for path in tmp_path.glob("*.log"))

    def now(condition: Callable[[], bool]) -> bool:
        # SLURM would hold the job back for two minutes after a requeue.
        hurry = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(hurry, env=slurm, check=False, capture_output=True)
        return condition()

    wait_for(last.exists, log)
    subprocess.run(["scontrol", "requeue", job], env=slurm, check=True)
    wait_for(lambda: log().count("stopped at step") == 1, log)
    stopped = torch.load(last, weights_only=True)["global_step"]
    assert 10 <= stopped < STEPS

    before = last.stat().st_mtime
    wait_for(lambda: now(lambda: last.stat().st_mtime > before), log)
    subprocess.run(["scancel", "--signal=USR1", job], env=slurm, check=True)
    wait_for(lambda: log().count("stopped at step") == 2, log)
    assert stopped < torch.load(last, weights_only=True)["global_step"] < STEPS
    assert not any(folder.exists() for folder in published)

    wait_for(lambda: now(lambda: all((folder / "config.json").exists() for folder in published)), log)
    assert log().count("4 images a step on 2 devices") == 3


def test_an_array_trains_a_layer_a_task(tmp_path: Path, submit: Callable[..., str]) -> None:
    submit("layers", "--array=0-1")

    def log() -> str:
        return "\n".join(path.read_text() for path in tmp_path.glob("*.log"))

    folders = [tmp_path / "out" / layer / "checkpoints" / "vgg19-random" / layer for layer in ("relu1_2", "relu2_2")]
    wait_for(lambda: all((folder / "config.json").exists() for folder in folders), log)
