"""What the shell completes after the Tab key; none of it needs torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def complete(line: str) -> list[str]:
    """What bash offers at the end of `line`."""
    words = line.split(" ")
    code = """\
import sys
from inverters.cli.main import main
sys.argv = ["invert"]
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    environment = os.environ | {
        "_INVERT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("invert pre", ["predict"]),
        ("invert layers --encoder vgg19", ["vgg19", "vgg19_bn"]),
        ("invert predict --objective p", ["pixel", "perceptual"]),
        ("invert predict --layers relu1", ["relu1_1", "relu1_2"]),
        ("invert predict --layers a", ["all"]),
        ("invert predict --layers relu1_1,pool", [f"relu1_1,pool{block}" for block in range(1, 6)]),
        ("invert predict --encoder vgg16 --layers relu5", ["relu5_1", "relu5_2", "relu5_3"]),
        ("invert predict --encoder vgg91 --layers relu5", []),
        ("invert optimize --layer conv4", [f"conv4_{number}" for number in range(1, 5)]),
    ],
)
def test_names_are_completed(line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def test_completion_is_installed(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "inverters", "--install-completion", "bash"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "completion installed" in result.stdout
    assert (tmp_path / ".bashrc").exists()
