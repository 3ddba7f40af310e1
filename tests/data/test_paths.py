import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inverters.data.paths import find_images, image_suffixes, require_image_paths
from inverters.errors import ImageError

# Finding files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_searched_recursively_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "deep/er/c.webp", "notes.txt", ".hidden.png", ".thumbnails/d.png")
    found = [file.relative_to(tmp_path).as_posix() for file in find_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_a_named_file_is_returned_unchanged(tmp_path: Path) -> None:
    touch(tmp_path, "photo.upload")
    for named in (tmp_path / "photo.upload", tmp_path / "missing.png"):
        assert find_images(named) == [named]


def test_a_folder_without_images_is_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ImageError) as caught:
        find_images(tmp_path)
    assert str(caught.value) == (
        f"no images in folder {tmp_path}: none of its files has a suffix such as .jpg, .png or .tif"
    )


def test_an_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "private/b.png")
    scandir = os.scandir

    def deny(folder: str | Path) -> Any:
        if Path(folder).name == "private":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(ImageError, match=r"^cannot read folder .*private: Permission denied$"):
        find_images(tmp_path)


def test_suffixes_are_those_of_photographs_that_pillow_decodes() -> None:
    known = Image.registered_extensions()
    assert all(known[suffix] in Image.OPEN for suffix in image_suffixes())
    assert {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"} <= {
        *image_suffixes()
    }
    assert not {".pdf", ".mpg", ".eps", ".ps", ".ico", ".h5", ".svg"} & {*image_suffixes()}


def test_importing_loads_neither_torch_nor_pillows_plugins() -> None:
    program = "import sys, PIL.Image, inverters.data.paths; sys.exit(PIL.Image._initialized or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# Checking paths


def test_existing_paths_pass(tmp_path: Path) -> None:
    touch(tmp_path, "photo.png")
    require_image_paths([tmp_path, tmp_path / "photo.png", str(tmp_path / "photo.png")])


def test_missing_paths_are_named_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/beach.jpg", "photos/wedding.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError) as caught:
        require_image_paths(["photos", "photos/beech.jpg", "photo/wedding.jpg", "photo", Path("xyz.png"), "a/b/c"])
    assert str(caught.value).splitlines() == [
        "no such file or folder: photos/beech.jpg. Did you mean photos/beach.jpg?",
        "no such file or folder: photo/wedding.jpg. Did you mean photos/wedding.jpg?",
        "no such file or folder: photo. Did you mean photos?",
        "no such file or folder: xyz.png",
        "no such file or folder: a/b/c",
    ]


@pytest.mark.parametrize(
    "url", ["http://host/a.jpg", "https://host/a.jpg", "file:///a.jpg", "s3://bucket/a.jpg", Path("http://host/a.jpg")]
)
def test_urls_are_refused(url: str | Path) -> None:
    with pytest.raises(ImageError, match=r"^cannot read .*/a\.jpg: URLs are not supported; download the file"):
        require_image_paths([url])


def test_standard_input_is_refused() -> None:
    with pytest.raises(ImageError, match=r"^cannot read -: standard input is not supported; name a file$"):
        require_image_paths(["-"])


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=rf"^no such file or folder: {tmp_path}/x{{300}}$"):
        require_image_paths([tmp_path / ("x" * 300)])
