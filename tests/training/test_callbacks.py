"""A run that is stopped or killed at any moment loses nothing but time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Change, command, written
from safetensors.torch import load_file

from inverters.errors import OutputError
from inverters.training.callbacks import STOPPED, AtomicCheckpointIO

STEPS = 150


def weights(output: Path) -> dict[str, torch.Tensor]:
    folder = output / "checkpoints" / "vgg19-random"
    return {
        f"{layer} {key}": value
        for layer in ("relu1_1", "relu2_1")
        for key, value in load_file(folder / layer / "model.safetensors").items()
    }


def test_a_run_that_is_stopped_again_and_again_ends_in_the_same_weights(
    tmp_path: Path, settings: Callable[..., Change]
) -> None:
    """A signal to the whole group, as a cluster sends it, reaches the process that loads the data too."""
    trainer = {"steps": STEPS, "checkpoint_every": 7, "validate_every": STEPS, "precision": "32-true"}
    run = written(tmp_path / "run.yaml", settings(data={"workers": 1}, trainer=trainer))
    last = tmp_path / "stopped" / "state" / "last.ckpt"
    done, resume = 0, ()
    for number, send in ((signal.SIGKILL, os.killpg), (signal.SIGTERM, os.killpg), (signal.SIGUSR1, os.kill)):
        written_at = last.stat().st_mtime_ns if done else None
        process = subprocess.Popen(
            command(run, tmp_path / "stopped", *resume), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not last.exists() or last.stat().st_mtime_ns == written_at:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        send(process.pid, number)
        _, err = process.communicate(timeout=60)
        before, done = done, torch.load(last, weights_only=True)["global_step"]
        assert before + 1 < done < STEPS
        if number == signal.SIGKILL:
            assert process.returncode == -number
            assert done % 7 == 0
        else:
            assert process.returncode == STOPPED
            assert err.splitlines()[-1] == f"stopped at step {done}; continue with --resume"
            assert "Traceback" not in err
        resume = ("--resume",)

    subprocess.run(command(run, tmp_path / "stopped", "--resume"), check=True, capture_output=True)
    subprocess.run(command(run, tmp_path / "whole"), check=True, capture_output=True)
    resumed, whole = weights(tmp_path / "stopped"), weights(tmp_path / "whole")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_python_ends_though_a_loader_is_left_behind() -> None:
    """Python ends the processes that load data by SIGTERM, and waits for them."""
    script = (
        "import sys; from torch.utils.data import DataLoader; from inverters.data.workers import ignore_group_signals;"
        "sys.modules['left'] = batches = iter(DataLoader(range(9), num_workers=1, worker_init_fn="
        "ignore_group_signals)); print(next(batches))"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=True, capture_output=True, text=True)
    assert done.stdout == "tensor([0])\n"


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, files = tmp_path / "state" / "last.ckpt", AtomicCheckpointIO()
    files.save_checkpoint({"step": torch.tensor(1)}, path)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=rf"^cannot write {path}: No space left on device$"):
        files.save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    assert list(path.parent.iterdir()) == [path]
