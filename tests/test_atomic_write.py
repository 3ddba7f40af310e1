import json
from pathlib import Path
from typing import Any

import pytest

from inverters.errors import OutputError
from inverters.files import atomic_write, make_folder


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", "größer\n")
    atomic_write(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == "größer\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert {file.name for file in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    (tmp_path / "a").write_text("old")
    written = []

    def fail(path: Path, *_: Any) -> None:
        written.append(path)
        if broken == "write_bytes":
            path.touch()  # half of it is there
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, broken, fail)
    with pytest.raises(OutputError) as error:
        atomic_write(tmp_path / "a", "new")
    assert message(error) == f"cannot write {tmp_path / 'a'}: No space left on device"
    assert [path.parent for path in written] == [tmp_path]
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path, _: Path) -> None:
        assert path.read_text() == "new"
        raise KeyboardInterrupt

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a", "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_file_name_that_is_not_utf8_survives_in_json(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    atomic_write(tmp_path / "a.json", json.dumps({"image": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text())["image"] == name


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as error:
        make_folder(tmp_path / "file" / "folder")
    assert message(error) == f"cannot create the folder {tmp_path / 'file' / 'folder'}: Not a directory"
    with pytest.raises(OutputError) as error:
        make_folder(tmp_path / "file")
    assert message(error) == f"cannot create the folder {tmp_path / 'file'}: File exists"
    with pytest.raises(OutputError) as error:
        atomic_write(tmp_path / "none" / "file", "")
    assert message(error) == f"cannot write {tmp_path / 'none' / 'file'}: No such file or directory"
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
