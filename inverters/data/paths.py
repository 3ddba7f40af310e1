"""Paths of images: checking those a user names, and finding the images in a folder; imports no torch."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import Image

from inverters.errors import ImageError
from inverters.files import no_such_path

# Video, vector graphics, icons, brushes, and formats that Pillow identifies but cannot decode by itself. For PostScript
# it runs Ghostscript, if there is one; FlashPix and MIC need another library.
NO_PHOTOGRAPHS = {
    *("BUFR", "CUR", "EPS", "FLI", "FPX", "GBR", "GRIB", "HDF5", "ICNS", "ICO", "IPTC", "MIC", "MPEG", "WMF", "XBM"),
    "XPM",
}


@cache
def image_formats() -> tuple[str, ...]:
    """List Pillow's names (`JPEG`, `PNG`, …) of all formats of photographs that it decodes."""
    Image.init()  # imports all of Pillow's plugins
    return tuple(name for name in Image.ID if name not in NO_PHOTOGRAPHS)


@cache
def image_suffixes() -> tuple[str, ...]:
    """List the file suffixes (`.jpg`, `.png`, …) of all formats of photographs that Pillow decodes."""
    suffixes = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, name in suffixes.items() if name in image_formats()))


def require_image_paths(paths: Iterable[str | Path]) -> None:
    """Check that all `paths` exist, before anything slow is loaded.

    Raises:
        ImageError: some do not, or are URLs or `-`. The message has a line for each, with the most similar path.
    """
    mistakes = []
    for path in map(str, paths):
        if "://" in path or path.startswith(("http:/", "https:/")):  # pathlib joins repeated slashes
            mistakes.append(f"cannot read {path}: URLs are not supported; download the file and name it")
        elif path == "-":
            mistakes.append("cannot read -: standard input is not supported; name a file")
        elif not os.path.exists(path):  # noqa: PTH110 (Path.exists raises where a name is too long)
            mistakes.append(no_such_path(path))
    if mistakes:
        raise ImageError("\n".join(mistakes))


def find_images(path: Path) -> list[Path]:
    """List the images in a folder and its subfolders, sorted; a `path` that is no folder is returned unchanged.

    Images are recognised by their suffix, see `image_suffixes`. Hidden files and folders are skipped.

    Raises:
        ImageError: the folder cannot be read, or has no images.
    """
    if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where the parent may not be searched)
        return [path]

    images, problems = search_folder(path)
    if problems:
        raise ImageError(next(iter(problems.values())))
    if not images:
        raise no_images(path)
    return images


def no_images(folder: Path) -> ImageError:
    """The error that says that a folder has no images."""
    return ImageError(f"no images in folder {folder}: none of its files has a suffix such as .jpg, .png or .tif")


def search_folder(path: Path) -> tuple[list[Path], dict[str, str]]:
    """List the images below a folder as `find_images` does, and by folder what is wrong with those not readable."""
    images: list[Path] = []
    problems: dict[str, str] = {}

    def note(error: OSError) -> None:
        problems[str(error.filename)] = f"cannot read folder {error.filename}: {error.strerror}"

    for parent, subfolders, names in os.walk(path, onerror=note):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        visible = [name for name in names if not name.startswith(".")]
        images += [Path(parent, name) for name in visible if name.lower().endswith(image_suffixes())]
    return sorted(images), problems
