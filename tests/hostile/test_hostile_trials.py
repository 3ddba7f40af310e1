"""A share of the trials in `trials.py`, and under the marker `hostile` all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIALS = Path(__file__).with_name("trials.py")


def trials(*options: str) -> None:
    root = str(TRIALS.parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    done = subprocess.run([sys.executable, TRIALS, *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-5000:]}"


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read in /proc")
def test_some_hostile_input() -> None:
    trials("--share", "0.03")


@pytest.mark.hostile
def test_all_hostile_input() -> None:
    trials()
