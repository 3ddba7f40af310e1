import os
from pathlib import Path

import pytest

from inverters.files import nearest_path, read_file


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("photo", "photos"),
        ("photo/2024", "photos/2024"),
        ("photo/1999", "photos"),  # nothing more of it exists
        ("photos/2025", "photos/2024"),
        ("photos/2024/x.png", None),
        ("notes.txt/x", None),
        ("zzz", None),
        ("photo/../notes.tx", "photos"),
    ],
)
def test_the_nearest_path(path: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "2024").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    absolute = nearest_path(tmp_path / path)
    assert absolute == (expected and tmp_path / expected)
    monkeypatch.chdir(tmp_path)
    assert nearest_path(path) == (expected and Path(expected))


def test_a_stricter_cutoff(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    assert nearest_path(tmp_path / "mnist") == tmp_path / "list"
    assert nearest_path(tmp_path / "mnist", cutoff=0.8) is None


def test_only_regular_files_within_the_limit_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    for path, limit, reason in (
        (tmp_path / "file", 4, "it has more than 4 bytes"),
        (tmp_path / "pipe", 5, "it is no regular file"),
        (Path("/dev/zero"), 5, "it is no regular file"),
        (tmp_path, 5, "Is a directory"),
    ):
        with pytest.raises(OSError) as error:
            read_file(path, limit)
        assert error.value.strerror == reason
