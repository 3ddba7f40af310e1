"""Reading a run's configuration from YAML, with overrides from the command line. Every mistake is one line."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from inverters.errors import ConfigError, shorten
from inverters.training.config import RENAMED, TrainConfig


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration in the YAML file `path`, with `overrides` such as `data.batch_size=8` applied.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or keys or values are wrong. One line for each mistake,
            with the file, the key and the nearest valid name.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-99-99 is a ValueError
        raise ConfigError(f"{path}: not valid YAML: {_explain_yaml(error)}") from None
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
        mistakes += [f"{path}: {line}" for line in explain(error)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


def explain(error: ValidationError) -> list[str]:
    """One line for each mistake in a configuration: the key, and what is wrong with its value."""
    return [_explain(mistake) for mistake in error.errors()]


class _StrictLoader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, of which the others would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in nodes]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", nodes[number].start_mark
                )
        return super().construct_mapping(node, deep)


def _explain_yaml(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too deeply nested"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).partition(";")[0].split())  # without Python's hint for too many digits


def _apply(values: dict[str, Any], override: str) -> None:
    shown = f"--set {shorten(override)}"
    key, equals, text = override.partition("=")
    if not key or not equals:
        raise ConfigError(f"{shown}: not of the form key=value, such as --set data.batch_size=8")
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{shown}: {section} is not a section")
    for section, old, new in RENAMED:
        if sections == [section] and name in (old, new):
            values.pop(old, None)
            name = new
    try:
        values[name] = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{shown}: {shorten(text)!r} is not a YAML value") from None


def _explain(mistake: Any) -> str:
    """One line for one of pydantic's errors."""
    *parents, name = mistake["loc"] or ("",)
    key = ".".join(shorten(str(part)) for part in mistake["loc"] if part != "[key]")
    prefix = f"{key}: " if key else ""
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
    whole_section = isinstance(mistake["input"], dict | BaseModel)
    return f"{prefix}{message}" + ("" if whole_section else f" (got {_shown(mistake['input'])})")


def _shown(value: Any) -> str:
    try:
        return shorten(repr(value))
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return f"an integer of {value.bit_length()} bits"
