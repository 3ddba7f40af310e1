"""The image files that paths on the command line stand for."""

import os
from collections.abc import Sequence
from pathlib import Path

from inverters.errors import ImageError
from inverters.inversion.saved import METRICS


def find_files(paths: Sequence[str], output_dir: Path) -> tuple[list[Path], dict[str, str]]:
    """Each file once, in the order in which they are named, and what is wrong with some of `paths`.

    Earlier results that lie in a named folder are left out.
    """
    from inverters.data.paths import no_images, require_image_paths, search_folder  # imports Pillow

    files: dict[Path, Path] = {}
    problems: dict[str, str] = {}
    results = Path(os.path.realpath(output_dir))  # Path.resolve raises where links form a loop
    for path in paths:
        try:
            require_image_paths([path])
        except ImageError as error:
            problems[path] = str(error)
            continue
        if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where the parent may not be searched)
            files.setdefault(Path(path).absolute(), Path(path))
            continue
        found, unreadable = search_folder(Path(path))
        problems |= unreadable
        if not (found or unreadable):
            problems[path] = str(no_images(Path(path)))
        for file in found:
            if results not in Path(os.path.realpath(file.parent), file.name).parents:
                files.setdefault(file.absolute(), file)
            elif not (file.parent / METRICS).exists():
                problems[path] = f"{file} lies in the output folder ({output_dir}): name another --output-dir"
                break
    return list(files.values()), problems
