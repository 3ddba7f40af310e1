"""The settings in an evaluation's folder, which tell whether an interrupted evaluation can continue there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inverters.errors import OutputError, first_line
from inverters.files import atomic_write, make_folder, read_file
from inverters.locks import LOCK

# The settings that decide the results. Those that the results only follow from are compared, but named to the user
# in words, and only where no other difference explains theirs.
DECISIVE = ("encoder", "layers", "methods", "edits", "size", "corrections", "iterations", "seed", "device", "versions")
DERIVED = {
    "images_sha256": "other images",
    "networks_sha256": "other weights",
    "missing_decoders": "other decoders",
    "left_out": "other metrics",
}
SOURCES = ("data", "split", "image_column", "limit", "weights")  # what the derived settings may follow from
LARGEST_SETTINGS = 100_000_000  # bytes
LONGEST_VALUE = 40  # characters, in a message


def claim_folder(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Write `settings` into `folder`, unless it already belongs to the same evaluation.

    Returns:
        The settings, with the command that began the evaluation.

    Raises:
        OutputError: the folder belongs to another evaluation or to something else, or cannot be written.
    """
    path = folder / "settings.json"
    try:
        found = json.loads(read_file(path, LARGEST_SETTINGS))
    except FileNotFoundError:
        if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
            raise OutputError(f"{folder} is not empty and holds no evaluation: name another --output-dir") from None
        make_folder(folder)
        atomic_write(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return settings
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else first_line(error)
        raise OutputError(f"cannot read {path}: {why}") from None
    if not isinstance(found, dict):
        raise OutputError(f"{path} does not hold the settings of an evaluation: name another --output-dir")
    if differences := _differences(found, settings):
        raise OutputError(
            f"{folder} belongs to another evaluation, with {', '.join(differences)}: name another --output-dir"
        )
    command = found.get("command")
    return {**settings, "command": command} if isinstance(command, str) else settings


def _differences(found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """What tells another evaluation from this one, each in a few words; empty if they are the same."""
    there, here = _flat(found), _flat(settings)
    differing = [key for key in here if there.get(key) != here[key]]
    decisive = [key for key in differing if key.partition(".")[0] in DECISIVE]
    derived = [key for key in DERIVED if found.get(key) != settings.get(key)]
    if not (decisive or derived):
        return []
    named = [key for key in differing if key in decisive or (derived and key in SOURCES)]
    return [_shown(key, there.get(key), here[key]) for key in named] or [DERIVED[key] for key in derived]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with each of the versions as a key of its own."""
    versions = settings.get("versions")
    flat = {f"versions.{name}": version for name, version in versions.items()} if isinstance(versions, dict) else {}
    return {**settings, **flat, "versions": None}


def _shown(key: str, there: Any, here: Any) -> str:
    texts = [", ".join(map(str, value)) if isinstance(value, list) else str(value) for value in (there, here)]
    return f"{key} {texts[0]} (here {texts[1]})" if max(map(len, texts)) <= LONGEST_VALUE else f"other {key}"
