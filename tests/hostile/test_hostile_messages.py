"""What is printed: one line that can be understood, whatever the file and the terminal."""

import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import Outcome, photographs

from inverters.evaluation import records
from inverters.inversion.runner import MethodRunner

Run = Callable[..., Outcome]
DAMAGED = "it is damaged, or holds something else than tensors"


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str | Path]:
    made = ["--weights", "random", "--checkpoints", tiny_checkpoints, "--device", "cpu", "--layers", "relu1_1"]
    return [*made, "--size", "32", "-o", tmp_path / "out"]


def _zip() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(print))
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"e", pickle.dumps(print), b"\x80\x02}q\x00e.", b"\x80\x04\x65", b"PK\x03\x04xx", _zip()]
)
def test_files_of_weights(invert: Run, tmp_path: Path, content: bytes) -> None:
    file, photograph = tmp_path / "weights.pth", photographs(tmp_path / "in", 1) / "0.png"
    file.write_bytes(content)
    status, _, err = invert("optimize", photograph, "--layer", "relu1_1", "--weights", file, "-o", tmp_path / "out")
    assert (status, err) == (1, f"error: cannot read weights from {file}: {DAMAGED}\n")


@pytest.mark.parametrize("content", [b"", b"abc", pickle.dumps(print), _zip()])
def test_states_of_runs(invert: Run, settings: Callable[..., object], tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "run" / "state" / "last.ckpt"
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings()))
    status, _, err = invert("train", tmp_path / "run.yaml", "-o", tmp_path / "run", "--resume")
    assert (status, err) == (1, f"error: cannot resume from {state}: {DAMAGED}\n")


@pytest.mark.usefixtures("datasets_cache")
def test_an_empty_data_set_is_called_so(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    empty, good = tmp_path / "empty.parquet", tmp_path / "good.parquet"
    image = (photographs(tmp_path / "in", 1) / "0.png").read_bytes()
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), empty)
    pq.write_table(pa.table({"image": [image]}), good)
    for command in ("predict", "evaluate"):
        status, _, err = invert(command, "--data", empty, *options)
        assert (status, err) == (1, f"error: {empty} is empty\n")
    assert invert("predict", "--data", tmp_path / "*.parquet", *options).status == 0


@pytest.mark.usefixtures("datasets_cache")
def test_rows_are_named(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    file = tmp_path / "some.parquet"
    cells = [{"bytes": b"bad", "path": None}, None, {"bytes": None, "path": "/etc/passwd"}]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), file)
    status, _, err = invert("predict", "--data", file, *options)
    assert status == 1
    for number, line in enumerate(err.splitlines()):
        assert line.startswith(f"error: {file} row {number}: ")


def test_escape_codes_in_names_are_not_sent_to_the_terminal(
    invert: Run, options: list[str | Path], tmp_path: Path
) -> None:
    folder = photographs(tmp_path / "in", 2)
    (folder / "0.png").rename(folder / "a\x1b[31mred\nline\x9b.png")
    (folder / "b\x1b]0;title\x07.png").write_text("no image")
    done = invert("predict", folder, *options)
    assert "inverted" in done.err
    assert "b\\x1b]0;title\\x07.png: not an image of a known format" in done.err
    assert "a\\x1b[31mred\\nline" in done.out
    missing = invert("predict", "no\x1b[31mfile", *options)
    assert missing.err == "error: no such file or folder: no\\x1b[31mfile\n"
    for text in (done.out, done.err):
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    document = json.loads(invert("predict", folder, *options, "--json", "--overwrite").out)
    assert [Path(image["image"]).name for image in document["images"]][1] == "a\x1b[31mred\nline\x9b.png"


def test_pillow_is_quoted_without_its_python(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    photograph = photographs(tmp_path / "in", 1) / "0.png"
    photograph.write_bytes(photograph.read_bytes()[:-300])
    _, _, err = invert("predict", photograph, *options)
    assert "damaged or unsupported image: " in err
    assert "(" not in err.partition("unsupported image: ")[2].split("(0 bytes")[0]


def test_no_time_left_is_negative(
    invert: Run, options: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_seconds_left", lambda *_: -1.2)
    done = invert("evaluate", "--data", photographs(tmp_path / "in", 1), *options, "--methods", "decoder")
    assert "dB, 0:00:00 left" in done.err


def test_a_seed_is_checked_before_the_work(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    for seed in ("-1", str(2**63), "1e3"):
        done = invert("evaluate", "--data", photographs(tmp_path / "in", 1), *options, "--seed", seed)
        assert done.status == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_swallows_ends_the_run(
    invert: Run,
    options: list[str | Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    run, runs = MethodRunner.run, []

    def swallow(self: MethodRunner, *arguments: object) -> object:
        runs.append(arguments)
        try:
            signal.raise_signal(number)
        except BaseException:
            return run(self, *arguments)  # type: ignore[arg-type]
        raise AssertionError("the signal raised nothing")

    monkeypatch.setattr(MethodRunner, "run", swallow)
    before = signal.getsignal(number)
    try:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        done = invert("predict", photographs(tmp_path / "in", 5), *options)
    finally:
        signal.signal(number, before)
    assert (done.status, len(runs)) == (128 + number, 1)
    assert len(list((tmp_path / "out").glob("*/metrics.json"))) == 1


def test_sigterm_removes_unfinished_files(
    invert: Run, options: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, runs = MethodRunner.run, []

    def stop_at_the_third(self: MethodRunner, *arguments: object) -> object:
        runs.append(arguments)
        if len(runs) == 3:
            signal.raise_signal(signal.SIGTERM)
        return run(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(MethodRunner, "run", stop_at_the_third)
    done = invert("predict", photographs(tmp_path / "in", 5), *options, "--format", "parquet")
    assert (done.status, list((tmp_path / "out").iterdir())) == (128 + signal.SIGTERM, [])


@pytest.mark.parametrize("case", ["closed", "full", "ascii"])
def test_output_that_cannot_be_printed(tiny_checkpoints: Path, tmp_path: Path, case: str) -> None:
    command = [sys.executable, "-m", "inverters", "layers", "--weights", "random", "--checkpoints", tiny_checkpoints]
    if case == "ascii":
        photograph = photographs(tmp_path / "in", 1) / "0.png"
        command[3:4] = ["predict", photograph.rename(photograph.with_name("Größe-\udcff-🎨.png"))]
        command += ["-o", tmp_path / "out"]
    streams = {"closed": 'exec "$@" >&-', "full": 'exec "$@" >/dev/full', "ascii": 'exec "$@"'}
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"} if case == "ascii" else None
    done = subprocess.run(
        ["sh", "-c", streams[case], "sh", *command], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == (1 if case == "full" else 0), done.stderr
    assert len(done.stderr.splitlines()) == (1 if case == "full" else 0), done.stderr
    assert "No space left on device" in done.stderr or case != "full"


def test_states_with_other_tensors_are_damaged(invert: Run, settings: Callable[..., object], tmp_path: Path) -> None:
    state = tmp_path / "run" / "state" / "last.ckpt"
    state.parent.mkdir(parents=True)
    torch.save({"config": {}}, state)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings()))
    status, _, err = invert("train", tmp_path / "run.yaml", "-o", tmp_path / "run", "--resume")
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"error: cannot resume from {state}: its configuration: ")
