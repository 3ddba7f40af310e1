"""Errors that a user can cause: their messages are one line and say what to do."""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


class InverterError(Exception):
    """Base class of all errors that a user can cause. The command line prints the message and exits with status 1."""


class ConfigError(InverterError):
    """A configuration is invalid. The message has a line for each mistake."""


class ImageError(InverterError):
    """An image does not exist or cannot be read."""


class OutputError(InverterError):
    """A file or folder cannot be written."""


class StorageError(OutputError):
    """Nothing more can be written, whatever the file: the disk is full, read-only or broken."""


class DataError(InverterError):
    """A data set does not exist, cannot be read, or has no usable images."""


class WeightsError(InverterError):
    """The weights of an encoder cannot be found, downloaded or used."""


class CheckpointError(InverterError):
    """A published decoder is missing or damaged, or belongs to another encoder or layer."""


class UnknownNameError(InverterError):
    """A name of a layer, an encoder, a method, … does not exist."""


class TrainingError(InverterError):
    """Training cannot start or continue."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Return `text` with control characters escaped: names of files may hold the escape codes of a terminal."""
    return "".join(repr(one)[1:-1] if unicodedata.category(one) in ("Cc", "Cs") else one for one in text)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory is exhausted, which torch reports by a class of its own on GPUs only."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words


def shorten(text: str, length: int = 80) -> str:
    """Return `text`, or its first `length` characters and an ellipsis: what a message quotes may have any length."""
    return text if len(text) <= length else f"{text[:length]}…"


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown `name`, which suggests the most similar of the `valid` names and lists all."""
    valid = list(valid)
    close = get_close_matches(name, valid, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "there is no such name."
    return UnknownNameError(f"unknown {kind} {name!r}: {hint} Valid: {', '.join(valid)}")
