"""What a user can cause, as exceptions whose message is one line: what, where, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class InverterError(Exception):
    """Base of every error that a user can cause. The command line prints it and exits with status 1."""


class ConfigError(InverterError):
    """A run's configuration is wrong. One line per mistake, all mistakes at once."""


class ImageError(InverterError):
    """A file is not an image that can be read."""


class OutputError(InverterError):
    """A result cannot be written."""


class DataError(InverterError):
    """A data set cannot be found, or holds nothing to work on."""


class WeightsError(InverterError):
    """The encoder's weights cannot be found, fetched or used."""


class CheckpointError(InverterError):
    """A published decoder is missing, damaged, or belongs to another encoder or layer."""


class UnknownNameError(InverterError):
    """A name (of a layer, an encoder, a method, …) that does not exist."""


class TrainingError(InverterError):
    """Training cannot start or go on."""


def first_line(error: BaseException) -> str:
    """The first line of a library's message, for use in one of ours; the error's name where there is no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UnknownNameError:
    """The error for a mistyped `name`: it suggests the nearest of the `valid` names, or lists them all."""
    valid = list(valid)
    close = get_close_matches(name, valid, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "there is no such name."
    return UnknownNameError(f"unknown {kind} {name!r}: {hint} Valid: {', '.join(valid)}")
