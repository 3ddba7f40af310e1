"""Files that are no photographs, or made to do harm, as the command line meets them beside a good one."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from conftest import photographs

BOMBS = {"long.png": (100_000_000, 1), "large.png": (100_000, 100_000), "cut.png": (13_000, 13_000)}


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims this size and has no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = photographs(tmp_path / "in", 1)
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    for name, size in BOMBS.items():
        (folder / name).write_bytes(bomb(*size))
    return folder


def test_what_is_no_photograph_costs_a_line_and_neither_time_nor_memory(
    folder: Path, tiny_checkpoints: Path, tmp_path: Path
) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); "
        "from inverters.cli.main import main; main()"
    )
    options = ["--weights", "random", "--checkpoints", tiny_checkpoints, "-o", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", folder, *options], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3 + len(BOMBS), done.stderr
    assert "Traceback" not in done.stderr
    for name in ("pipe", "zero"):
        assert f"error: cannot read {folder / name}.png: it is no regular file" in errors
    assert (tmp_path / "out" / "0" / "metrics.json").exists()


@pytest.mark.parametrize("name", ["pipe.png", "zero.png"])
def test_a_data_set_is_a_regular_file(invert, folder: Path, name: str) -> None:
    for arguments in (["predict", "--data"], ["evaluate", "--data"]):
        status, _, err = invert(*arguments, folder / name)
        assert (status, err) == (1, f"error: cannot read {folder / name}: it is no regular file\n")
