"""The image files that paths on the command line stand for."""

from collections.abc import Sequence
from pathlib import Path

from inverters.errors import ImageError
from inverters.inversion.saved import METRICS


def find_files(paths: Sequence[str], output_dir: Path) -> tuple[list[Path], dict[str, str]]:
    """Each file once, in the order in which they are named, and what is wrong with some of `paths`.

    Earlier results that lie in a named folder are left out.
    """
    from inverters.data.paths import find_images, require_image_paths  # imports Pillow

    files: dict[Path, Path] = {}
    problems: dict[str, str] = {}
    for path in paths:
        try:
            require_image_paths([path])
            found = find_images(Path(path))
        except ImageError as error:
            problems[path] = str(error)
            continue
        if found == [Path(path)]:
            files.setdefault(Path(path).absolute(), Path(path))
            continue
        for file in found:
            if output_dir.absolute() not in file.absolute().parents:
                files.setdefault(file.absolute(), file)
            elif not (file.parent / METRICS).exists():
                problems[path] = f"{file} lies in the output folder ({output_dir}): name another --output-dir"
                break
    return list(files.values()), problems
