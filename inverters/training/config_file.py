"""Reading a run's configuration from YAML, with overrides from the command line. Every mistake is one line."""

import math
import warnings
from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from inverters.errors import ConfigError, shorten
from inverters.files import read_file
from inverters.training.config import RENAMED, TrainConfig

LARGEST_CONFIG = 1_000_000  # bytes
MOST_NODES = 100_000
MOST_MISTAKES = 20  # that are explained


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration in the YAML file `path`, with `overrides` such as `data.batch_size=8` applied.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or keys or values are wrong. One line for each mistake,
            with the file, the key and the nearest valid name.

    Warns:
        FutureWarning: a key has an old name.
    """
    try:
        values = _load(read_file(path, LARGEST_CONFIG).decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file: {error}") from None
    except Exception as error:  # YAML's tags raise nearly anything: !!bool x a KeyError, 2024-99-99 a ValueError
        raise ConfigError(f"{path}: not valid YAML: {_explain_yaml(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no keys; see configs/quickstart.yaml for an example")
    _warn_of_old_keys(path, values, overrides)
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


def _warn_of_old_keys(path: Path, values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Give a FutureWarning for each key that was renamed, in the file or in an override."""
    for section, old, new in RENAMED:
        given = values.get(section)
        places = [f"{path}"] if isinstance(given, dict) and old in given else []
        places += ["--set" for override in overrides if override.partition("=")[0] == f"{section}.{old}"]
        for place in dict.fromkeys(places):
            message = f"{place}: {section}.{old} is deprecated: write {section}.{new}"
            warnings.warn(message, FutureWarning, stacklevel=3)


def explain(error: ValidationError) -> list[str]:
    """One line for each of the first mistakes in a configuration: the key, and what is wrong with its value."""
    found = error.errors()
    more = [f"and {len(found) - MOST_MISTAKES} more mistakes"] if len(found) > MOST_MISTAKES else []
    return [_explain(mistake) for mistake in found[:MOST_MISTAKES]] + more


class _StrictLoader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, of which the others would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"):
            value = self.construct_object(key, deep=True)
            if not isinstance(value, Hashable):
                continue  # which is refused below
            if value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {value!r} stands twice", key.start_mark)
            seen.add(value)
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    """The value of a YAML text; raises nearly anything if it is not valid, or if its aliases make too much of it."""
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > MOST_NODES:
            raise ValueError(f"its aliases make more than {MOST_NODES:,} values of it")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for when its aliases are expanded; infinitely many where it contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until its parts are counted
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        nodes = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_expanded(one, known) for one in nodes)
    return known[id(node)]


def _explain_yaml(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too deeply nested"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {shorten(str(error.problem), 200)}"
    if isinstance(error, KeyError | TypeError | AttributeError):  # of a tag's constructor, such as !!bool x
        return "a value does not fit its tag"
    return shorten(" ".join(str(error).partition(";")[0].split()), 200)  # without Python's hint for too many digits


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
        values[name] = _load(text)
    except Exception:  # see load_config
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
    except (ValueError, RecursionError):  # Python prints no integer of more than 4,300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else "a value too large to show"
