"""Several processes, started through the command line, over gloo."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Change, command, photographs, written
from safetensors.torch import load_file

from inverters.decoders.card import read_card
from inverters.decoders.quantization import dequantize
from inverters.training.callbacks import AGREE_STEPS, STOPPED

pytestmark = pytest.mark.ddp


@pytest.mark.parametrize("algorithm", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_two_processes_with_half_the_batch_train_the_decoder_of_one(
    tmp_path: Path, settings: Callable[..., Change], algorithm: str
) -> None:
    """Three validation images do not divide by two processes: each of them counts once all the same."""
    results = {}
    for processes in (1, 2):
        trainer = {"steps": 6, "validate_every": 3, "precision": "32-true"}
        trainer |= {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
        data = {"batch_size": 4 // processes, "validation": str(photographs(tmp_path / "three", 3, seed=2))}
        optimizer = {"algorithm": algorithm}
        run = written(tmp_path / f"{processes}.yaml", settings(data=data, trainer=trainer, optimizer=optimizer))
        output = tmp_path / str(processes)
        done = subprocess.run(command(run, output), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        folders = [output / "checkpoints" / "vgg19-random" / layer for layer in ("relu1_1", "relu2_1")]
        assert done.stdout.splitlines()[-2:] == [str(folder) for folder in folders]
        assert done.stdout.count("Validation PSNR in dB") == 1
        states = [dequantize(load_file(folder / "model.safetensors")) for folder in folders]
        results[processes] = list(zip(map(read_card, folders), states, strict=True))
    for (one, weights), (two, halves) in zip(results[1], results[2], strict=True):
        assert one.metrics["psnr"] == pytest.approx(two.metrics["psnr"], abs=0.01)
        assert one.error_quantiles == pytest.approx(two.error_quantiles, rel=0.01)
        for key, value in weights.items():
            torch.testing.assert_close(halves[key], value, rtol=2e-3, atol=3e-3)  # two steps of 8 bits


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the second process in /proc")
def test_a_signal_to_one_process_stops_all_after_a_checkpoint(tmp_path: Path, settings: Callable[..., Change]) -> None:
    trainer = {"steps": 5000, "validate_every": 5000, "checkpoint_every": 5000, "devices": 2, "strategy": "ddp"}
    run = written(tmp_path / "run.yaml", settings(trainer=trainer))
    process = subprocess.Popen(command(run, tmp_path / "out"), stderr=subprocess.PIPE, text=True)
    events = tmp_path / "out" / "logs" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (events.is_file() and "lr-AdamW" in events.read_text()):  # written after 50 steps or more
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [pid for pid in children if b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(ranks[0]), signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == STOPPED
    step = torch.load(tmp_path / "out" / "state" / "last.ckpt", weights_only=True)["global_step"]
    assert step % AGREE_STEPS == 0
    assert f"stopped at step {step}; continue with --resume" in err
