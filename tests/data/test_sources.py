import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encoded, greys, parquet, tar

from inverters.data.sources import open_images, read_image
from inverters.errors import DataError, ImageError

pytestmark = pytest.mark.usefixtures("datasets_cache")


def opened(sources: list[str | Path], streaming: bool, column: str = "image") -> list[int]:
    """The grey values of the images that `open_images` finds."""
    rows = open_images([str(source) for source in sources], "train", column, streaming)
    assert rows.column_names == ["image"]
    return sorted(int(read_image(row)[0, 0, 0] * 255 + 0.5) for row in rows)


@pytest.mark.parametrize("streaming", [False, True])
def test_image_files(tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = greys(tmp_path / "photos", 2)
    greys(folder / "more" / "deep", 1, first=3)
    greys(folder / ".hidden", 1, first=4)
    (folder / "._001.png").write_bytes(b"a Mac's")
    (folder / "notes.txt").write_text("no image")
    (folder / "UPPER.PNG").write_bytes(encoded(5))
    greys(tmp_path / "odd [1]", 1, first=6)
    assert opened([folder], streaming) == [1, 2, 3, 5]
    assert opened([folder / "001.png", folder / "more"], streaming) == [1, 3]
    assert opened([folder / "0*.png"], streaming) == [1, 2]
    assert opened([folder / "*.png"], streaming) == [1, 2]
    assert opened([folder / "**" / "*.png"], streaming) == [1, 2, 3, 4]
    assert opened([tmp_path / "ph*"], streaming) == [1, 2, 3, 5]
    assert opened([tmp_path / "odd [1]"], streaming) == [6]
    monkeypatch.chdir(tmp_path)
    assert opened(["photos/00?.png"], streaming, column="photo") == [1, 2]
    assert opened(["photos"], streaming) == [1, 2, 3, 5]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(tmp_path: Path, streaming: bool) -> None:
    first = parquet(tmp_path / "shards" / "a.parquet", [encoded(1), encoded(2)])
    parquet(tmp_path / "shards" / "b.parquet", [encoded(3)])
    parquet(tmp_path / "shards" / ".hidden.parquet", [encoded(4)])
    assert opened([first], streaming, "photo") == [1, 2]
    assert opened([tmp_path / "shards"], streaming, "photo") == [1, 2, 3]
    assert opened([tmp_path / "shards" / "*.parquet"], streaming, "photo") == [1, 2, 3]


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset(tmp_path: Path, streaming: bool) -> None:
    first, second = tar(tmp_path / "0.tar", [1, 2]), tar(tmp_path / "1.tar", [3])
    assert opened([first], streaming, "png") == [1, 2]
    assert opened([first, second], streaming, "png") == [1, 2, 3]


def test_files_of_an_installed_package() -> None:
    rows = open_images(["package:skimage/data/astronaut.png"], "train", "image")
    assert read_image(rows[0]).shape == (3, 512, 512)


Make = Callable[[Path], list[str | Path]]
MISTAKES: dict[str, tuple[Make, str]] = {
    "missing file": (lambda tmp: [tmp / "none.png"], r"no such file or folder: .*none\.png"),
    "missing folder": (lambda tmp: [tmp / "none"], r"no such file or folder: .*none"),
    "missing relative file": (lambda _: ["none.parquet"], r"no such file or folder: none\.parquet"),
    "empty folder": (lambda tmp: [tmp], r"no images in folder "),
    "no match": (lambda tmp: [tmp / "*.parquet"], r"no file matches .*\*\.parquet"),
    "no such package": (lambda _: ["package:nosuch/a.png"], r"package:nosuch/a\.png: the Python package 'nosuch'"),
    "no such subpackage": (lambda _: ["package:nosuch.sub/a.png"], r"the Python package 'nosuch\.sub'"),
    "no package": (lambda _: ["package:/a.png"], r"the Python package ''"),
    "a module, no package": (lambda _: ["package:typing_extensions/a.png"], r"package 'typing_extensions'"),
    "not in the package": (lambda _: ["package:skimage/none"], r"no such file or folder: package:skimage/none"),
    "mixed": (
        lambda tmp: [greys(tmp / "p", 1), parquet(tmp / "a.parquet", [encoded(1)])],
        r"mixes files of different kinds \(\.parquet, \.png\)",
    ),
    "wrong column": (
        lambda tmp: [parquet(tmp / "a.parquet", [encoded(1)])],
        r"a\.parquet has no column 'image'\. Valid: photo, label",
    ),
    "no parquet": (lambda tmp: [written(tmp / "a.parquet", b"text")], r"cannot read .*a\.parquet: \S+"),
    "truncated parquet": (
        lambda tmp: [written(p := parquet(tmp / "a.parquet", [encoded(1)] * 9), p.read_bytes()[:-50])],
        r"cannot read .*a\.parquet: \S+",
    ),
    "empty parquet": (lambda tmp: [written(tmp / "a.parquet", b"")], r"cannot read .*a\.parquet: \S+"),
    "no tar": (lambda tmp: [written(tmp / "a.tar", b"text")], r"cannot read .*a\.tar: \S+"),
    "parquet without rows": (lambda tmp: [parquet(tmp / "a.parquet", [])], r"a\.parquet is empty"),
    "hub id": (
        lambda _: ["owner/photos"],
        r"'owner/photos' is no local file or folder, and cannot be opened as a hub data set: ",
    ),
    "hub id with a dot": (lambda _: ["owner/photos-v1.0"], r"'owner/photos-v1\.0' is no local file"),
    "pattern": (lambda _: ["a**"], r"a\*\* is no valid pattern: "),
    "long name": (lambda _: ["x" * 300 + ".png"], r"no such file or folder: x{300}\.png"),
    "long pattern": (lambda _: ["x" * 300 + "/*"], r"x{300}/\*"),
    "long hub id": (lambda _: ["x" * 300], r"'x{300}' is no local file"),
    "hub id among files": (
        lambda tmp: ["owner/photos", greys(tmp / "p", 1)],
        r"no such files: owner/photos\. A hub data set must be the only source",
    ),
    "two hub ids": (lambda _: ["photos", "more"], r"no such files: photos, more"),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, streaming: bool) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    make, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message) as error:
        opened(make(tmp_path), streaming)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_that_holds_no_images(tmp_path: Path, streaming: bool) -> None:
    path = parquet(tmp_path / "a.parquet", [encoded(1)])
    with pytest.raises(DataError, match=r"'label' of .*a\.parquet holds int64, not images"):
        opened([path], streaming, "label")


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": None}, {"bytes": b"", "path": "a.png"}])
def test_a_cell_without_an_image(cell: dict[str, Any] | None) -> None:
    with pytest.raises(ImageError):
        read_image({"image": cell})


@pytest.mark.parametrize(
    "path",
    [
        "{}/a.png",
        "zip://a.png::file://{}/photos.zip",
        "zip://a.png::s3://bucket/a.zip",
        "http://localhost/a.png",
        "a\0b",
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_cell_that_names_a_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool, path: str
) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(fsspec, "open", opened)
    (tmp_path / "a.png").write_bytes(encoded(9))
    path = path.format(tmp_path)
    pq.write_table(pa.table({"photo": [path]}), tmp_path / "paths.parquet")
    (row,) = open_images([str(tmp_path / "paths.parquet")], "train", "photo", streaming)
    with pytest.raises(ImageError, match="must hold the bytes of its images, not paths or addresses"):
        read_image(row)


def test_a_cell_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(9))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("inverters.data.sources.HUB", "file://")
    url = f"zip://{{}}::file://{tmp_path / 'photos.zip'}"
    for path in (str(tmp_path / "a.png"), url.format("a.png")):
        assert read_image({"image": {"bytes": None, "path": path}}).mul(255).unique().tolist() == [9]
    with pytest.raises(ImageError, match=r"b\.png"):
        read_image({"image": {"bytes": None, "path": url.format("b.png")}})
    monkeypatch.setattr("inverters.data.sources.LARGEST_FILE", 60)
    with pytest.raises(ImageError, match="it has more than 60 bytes"):
        read_image({"image": {"bytes": None, "path": url.format("a.png")}})


# The hub


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(datasets, "load_dataset", load)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("source", "near"),
    [("photo", "photos"), ("phtoos", "photos"), ("set/trian", "set/train"), ("sets/train", "set/train")],
)
def test_a_mistyped_local_path_never_reaches_the_hub(
    source: str, near: str, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greys(tmp_path / "photos", 1)
    greys(tmp_path / "set" / "train", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_images([source], "train", "image", streaming)
    assert str(caught.value) == f"no such file or folder: {source}. Did you mean {near}?"


def test_a_hub_id_that_resembles_no_local_path_reaches_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, split: str, streaming: bool) -> None:
        asked.append((name, split, streaming))
        raise FileNotFoundError("there is no such data set")

    monkeypatch.setattr(datasets, "load_dataset", load)
    (tmp_path / "list").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "owner/photos"):
        with pytest.raises(DataError, match=f"'{name}' is no local file or folder"):
            open_images([name], "test", "image", True)
    assert asked == [("mnist", "test", True), ("owner/photos", "test", True)]
