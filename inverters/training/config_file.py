"""Reading a run's configuration from YAML, with overrides from the command line. Every mistake is a line."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inverters.errors import ConfigError
from inverters.training.config import TrainConfig


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The run described by the YAML file at `path`, with `overrides` such as `data.batch_size=8` applied.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or keys or values are wrong: one line for each mistake,
            with file, key, and the nearest valid name.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-99-99 is a ValueError
        raise ConfigError(f"{path}: not valid YAML: {_yaml_mistake(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no keys; see configs/quickstart.yaml for an example")
    mistakes = []
    for override in overrides:
        try:
            _apply(values, override)
        except ConfigError as error:
            mistakes.append(str(error))
    try:
        config = TrainConfig.model_validate(values)
    except ValidationError as error:
        mistakes += [_explain(path, mistake) for mistake in error.errors()]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in nodes]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", nodes[number].start_mark
                )
        return super().construct_mapping(node, deep)


def _yaml_mistake(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set {override}: not of the form key=value, such as --set data.batch_size=8")
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section} is not a section")
    try:
        values[name] = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from None


def _explain(path: Path, mistake: Any) -> str:
    """One line for one of pydantic's errors: file, key, what is wrong."""
    *parents, name = mistake["loc"] or ("",)
    key = ".".join(str(part) for part in mistake["loc"] if part != "[key]")
    prefix = f"{path}: {key}: " if key else f"{path}: "
    if mistake["type"] == "extra_forbidden":
        section: Any = TrainConfig
        for parent in parents:
            section = section.model_fields[parent].annotation
        close = get_close_matches(str(name), section.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"valid keys: {', '.join(section.model_fields)}"
        return f"{prefix}unknown key; {hint}"
    if mistake["type"] == "missing":
        return f"{prefix}missing"
    message = mistake["msg"].removeprefix("Value error, ")
    return f"{prefix}{message}" + ("" if isinstance(mistake["input"], dict) else f" (got {mistake['input']!r})")
