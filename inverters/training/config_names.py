"""The configurations that come with the package, by name."""

from pathlib import Path

from inverters.errors import ConfigError, unknown_name
from inverters.files import shipped_folder


def shipped_configs() -> dict[str, Path]:
    """The files of the configurations that come with the package, by name, such as `quickstart` or `shipped/deep`."""
    root = shipped_folder("configs")
    files = sorted(root.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def find_config(name: Path) -> Path:
    """Return the file that `name` stands for: a path as it is, or a configuration that comes with the package.

    A file that exists is preferred.

    Raises:
        ConfigError: there is no such file.
        UnknownNameError: `name` is not the path of a file, and no configuration of that name comes with the package.
    """
    if name.is_file():
        return name
    shipped = shipped_configs()
    if name.as_posix() in shipped:
        return shipped[name.as_posix()]
    if name.exists():
        return name  # a folder, which reading refuses
    if not name.suffix:
        raise unknown_name("configuration", str(name), shipped)
    hint = f"; invert train {name.stem} takes the one that comes with inverters" if name.stem in shipped else ""
    raise ConfigError(f"{name}: no such file{hint}")
