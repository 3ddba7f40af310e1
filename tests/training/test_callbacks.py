"""What a run keeps, what its callbacks cost, and that one that is stopped or killed loses nothing but time."""

import copy
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import Change, command, written
from pytorch_lightning.utilities.exceptions import SIGTERMException
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from inverters.encoders.vgg import VGGEncoder
from inverters.errors import OutputError
from inverters.training.callbacks import (
    AGREE_STEPS,
    STOPPED,
    AtomicCheckpointIO,
    BestDecoders,
    MovingAverage,
    SaveOnSignal,
)
from inverters.training.config import TrainConfig
from inverters.training.initial import new_decoders
from inverters.training.module import InversionModule
from inverters.training.train import train

STEPS = 150
pytestmark = pytest.mark.usefixtures("one_thread")


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


# --- the best decoders ---


@pytest.mark.parametrize(
    ("objective", "loss", "kept"),
    [("pixel", {}, 1), ("perceptual", {"feature": 1}, 2), ("perceptual", {"adversarial": 1}, 3)],
    ids=["PSNR", "loss", "last"],
)
def test_what_is_kept(config: Callable[..., TrainConfig], objective: str, loss: Change, kept: int) -> None:
    run = config(objective=objective, loss=loss, layers=["relu1_1"])
    encoder = VGGEncoder(run.encoder_layers, weights="random")
    module, best = InversionModule(run, encoder, new_decoders(run, encoder)), BestDecoders(run)
    for step, psnr, error in ((0, 20.0, 0.5), (1, 22.0, 0.4), (2, 21.0, 0.3), (3, 19.0, 0.6)):
        module.candidates = {"relu1_1": copy.deepcopy(module.decoders["relu1_1"])}
        module.candidates["relu1_1"].mean.fill_(step)
        metrics = {"psnr/relu1_1": torch.tensor(psnr), "validation_loss/relu1_1": torch.tensor(error)}
        best.on_validation_end(SimpleNamespace(global_step=step, callback_metrics=metrics), module)  # type: ignore[arg-type]
    assert best.psnr == {0: {"relu1_1": 20}, 1: {"relu1_1": 22}, 2: {"relu1_1": 21}, 3: {"relu1_1": 19}}
    assert best.best["relu1_1"]["step"] == kept
    assert best.best["relu1_1"]["state"]["mean"].unique().tolist() == [kept]
    restored = BestDecoders(run)
    restored.load_state_dict(best.state_dict())
    assert restored.best == best.best


# --- what a step costs ---


class ReadsByStep(TorchDispatchMode):
    """Counts by step how often a value is read from a tensor, for which the host waits for the device.

    The optimizers read their own counters of steps, which are on the CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step, self.reads = 0, Counter[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            frame: FrameType | None = sys._getframe()
            while frame is not None and "/optim/" not in frame.f_code.co_filename:
                frame = frame.f_back
            self.reads[self.step] += frame is None
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("algorithm", "adversarial"), [("adamw", 0.1), ("muon", 0)])
def test_no_step_waits_for_the_device(
    tmp_path: Path,
    config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    adversarial: float,
) -> None:
    """Neither the module nor a callback, except to validate, to save, to log and to print."""
    mode = ReadsByStep()

    def on_train_batch_start(self: InversionModule, *_: Any) -> None:
        mode.step = self.global_step + 1

    monkeypatch.setattr(InversionModule, "on_train_batch_start", on_train_batch_start)
    trainer = {"steps": 8, "validate_every": 4, "checkpoint_every": 8, "precision": "32-true"}
    loss = {"perceptual": 0.1, "adversarial": adversarial}
    with mode:
        run = config(objective="perceptual", loss=loss, trainer=trainer, optimizer={"algorithm": algorithm})
        train(run, tmp_path, quiet=True)
    assert {step for step, reads in mode.reads.items() if reads} == {0, 4, 8}


def test_processes_agree_on_a_signal_every_few_steps(tmp_path: Path) -> None:
    """One of two was asked to stop: both save and stop at the next step at which they agree, and at no other."""
    agreements: list[int] = []
    saved: list[int] = []

    def reduce_boolean_decision(decision: bool, **_: bool) -> bool:
        agreements.append(trainer.global_step)
        return decision or other.asked

    trainer: Any = SimpleNamespace(world_size=2, max_steps=100, val_check_batch=50, global_step=0)
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=reduce_boolean_decision)
    trainer.save_checkpoint = lambda *_, **__: saved.append(trainer.global_step)
    mine, other = (SaveOnSignal(tmp_path / "last.ckpt", steps=20, minutes=15) for _ in range(2))
    mine.saved = time.monotonic()
    with pytest.raises(SIGTERMException):
        for step in range(1, 101):
            trainer.global_step = step
            other.asked = step > 2 * AGREE_STEPS
            mine.on_train_batch_end(trainer)
    assert trainer.global_step == 3 * AGREE_STEPS
    assert sorted(set(agreements)) == [AGREE_STEPS, 2 * AGREE_STEPS, 3 * AGREE_STEPS]
    assert saved == [20, 40, 3 * AGREE_STEPS]


def test_a_step_that_is_validated_is_saved_after_the_validation(tmp_path: Path) -> None:
    saved: list[int] = []
    trainer: Any = SimpleNamespace(world_size=1, max_steps=9, val_check_batch=4, global_step=0)
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision)
    trainer.save_checkpoint = lambda *_, **__: saved.append(trainer.global_step)
    save = SaveOnSignal(tmp_path / "last.ckpt", steps=4, minutes=15)
    save.saved = time.monotonic()
    save.on_validation_end(trainer, None)  # type: ignore[arg-type]
    for step in range(1, 10):
        trainer.global_step = step
        save.on_train_batch_end(trainer)
        if step % 4 == 0:
            assert step not in saved
            save.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert saved == [4, 8, 9]
    trainer.global_step, save.seconds = 1, 0
    save.on_train_batch_end(trainer)
    assert saved == [4, 8, 9, 1]  # the minutes are over


def test_the_moving_average_forgets_the_initial_weights() -> None:
    """By weights of (1 + n)/(10 + n) at first, as timm and TensorFlow have them, then of `decay`."""
    module, average = pl.LightningModule(), MovingAverage(0.5)
    module.weight = nn.Parameter(torch.tensor([0.0]))
    average._average_model = AveragedModel(module)
    expected = 0.0
    for step in range(1, 20):
        with torch.no_grad():
            module.weight.fill_(step)
        average.on_train_batch_end(SimpleNamespace(global_step=step), module)  # type: ignore[arg-type]
        decay = 0 if step == 1 else min(0.5, step / (9 + step))
        expected = decay * expected + (1 - decay) * step
        assert average._average_model.module.weight.item() == pytest.approx(expected, rel=1e-6)


# --- files and processes ---


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
