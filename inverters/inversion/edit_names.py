"""Edits of features as people write them: `drop=0.5`, `keep=0,0,100,80`. Parsing them imports no torch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inverters.encoders.layers import Layer
from inverters.errors import InverterError, unknown_name

NUMBER = r"-?(?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})"
RANGE = rf"(?P<first>{NUMBER})\.\.(?P<last>{NUMBER}):(?P<count>\d{{1,9}})"  # first, last and number of values
LARGEST_SWEEP = 100  # pictures of one `mix` over a range


@dataclass(frozen=True)
class Edit:
    """An edit of features; `edits.apply` applies it. Its string is what `parse_edit` takes.

    Attributes:
        name: one of `EDITS`.
        numbers: its parameters; several weights of `mix` make a picture each, see `sweep`.
        other: the path of another image, for `mix` and `swap`.
    """

    name: str
    numbers: tuple[float, ...] = ()
    other: str | None = None

    def __str__(self) -> str:
        value = ",".join(f"{number:.9g}" for number in self.numbers)
        if self.other is not None:
            value = f"{self.other}:{value}"
        return f"{self.name}={value}" if value else self.name


class Kind(NamedTuple):
    """How an edit is written: its value as the help shows it, what that means, and whether numbers are such a value."""

    value: str
    meaning: str
    valid: Callable[[Sequence[float]], bool]


def _is_whole(numbers: Sequence[float]) -> bool:
    return all(number % 1 == 0 for number in numbers)


def _is_box(numbers: Sequence[float]) -> bool:
    return _is_whole(numbers) and len(numbers) == 4 and 0 <= numbers[0] < numbers[2] and 0 <= numbers[1] < numbers[3]


def _are_channels(numbers: Sequence[float]) -> bool:
    return _is_whole(numbers) and len(numbers) > 0 and min(numbers) >= 0


def _is_count(numbers: Sequence[float]) -> bool:
    return _is_whole(numbers) and len(numbers) == 1 and numbers[0] >= 1


BOX = "a box in pixels of the image as it is inverted, from 0,0 at the top left, with X0 < X1 and Y0 < Y1"
CHANNELS = "numbers of channels, from 0"
EDITS = {
    "drop": Kind("P", "a probability from 0 to 1", lambda n: len(n) == 1 and 0 <= n[0] <= 1),
    "top": Kind("K", "a number of values, at least 1", _is_count),
    "binarize": Kind("", "", lambda n: not n),
    "noise": Kind("S", "a number of standard deviations, at least 0", lambda n: len(n) == 1 and n[0] >= 0),
    "channels": Kind("N,N,…", CHANNELS, _are_channels),
    "without": Kind("N,N,…", CHANNELS, _are_channels),
    "keep": Kind("X0,Y0,X1,Y1", BOX, _is_box),
    "erase": Kind("X0,Y0,X1,Y1", BOX, _is_box),
    "shift": Kind("DX,DY", "pixels to the right and down", lambda n: _is_whole(n) and len(n) == 2),
    "mix": Kind(
        "IMAGE:WEIGHT",
        f"another image and its weight from 0 to 1, or a range of 2 to {LARGEST_SWEEP} different ones such as 0..1:5",
        lambda n: 0 < len(n) == len(set(n)) and all(0 <= weight <= 1 for weight in n),
    ),
    "swap": Kind("IMAGE:X0,Y0,X1,Y1", f"another image and {BOX}", _is_box),
    "random": Kind("", "", lambda n: not n),
    "again": Kind("N", "a number of passes, at least 1", _is_count),
}
RANDOM = ("drop", "noise", "random")  # depend on a seed
BOXED = ("keep", "erase", "swap")  # have a box
SPATIAL = (*BOXED, "shift")  # need features that form a grid
WITH_IMAGE = ("mix", "swap")  # need another image


def forms() -> list[str]:
    """Every edit as it is written: `drop=P`, `top=K`, `binarize`, …"""
    return [f"{name}={kind.value}" if kind.value else name for name, kind in EDITS.items()]


def parse_edit(text: str) -> Edit:
    """Parse an edit.

    Raises:
        UnknownNameError: there is no such edit.
        InverterError: its value is missing, of another kind, or out of range.
    """
    name, equals, value = text.strip().partition("=")
    if name not in EDITS:
        raise unknown_name("edit", name, EDITS)
    kind = EDITS[name]
    other = None
    if name in WITH_IMAGE:
        parts = re.fullmatch(rf"(.+):({RANGE})", value) or re.fullmatch("(.+):([^:]*)", value)
        other, value = (parts[1], parts[2]) if parts else (None, value)
    numbers = _numbers(value, name) if value or not equals else None
    if numbers is None or not kind.valid(numbers) or (name in WITH_IMAGE and not other):
        takes = f"is written {name}={kind.value}, with {kind.meaning}" if kind.value else "takes no value"
        raise InverterError(f"{name} {takes}; not {text!r}")
    return Edit(name, numbers, other)


def _numbers(value: str, name: str) -> tuple[float, ...] | None:
    """The numbers of `1,2.5`, or for `mix` those of a range `0..1:5`; None if the text is neither."""
    if name == "mix" and (found := re.fullmatch(RANGE, value)):
        first, last, count = float(found["first"]), float(found["last"]), int(found["count"])
        if not 2 <= count <= LARGEST_SWEEP:
            return None
        return tuple(round(first + (last - first) * step / (count - 1), 6) for step in range(count))
    parts = value.split(",") if value else []
    return tuple(map(float, parts)) if all(re.fullmatch(NUMBER, part) for part in parts) else None


def split_edits(text: str) -> list[str]:
    """Split a list of edits at its commas; those between numbers belong to an edit: `drop=0.5,channels=3,17`."""
    return [part.strip() for part in re.split(r",(?=\s*(?:[A-Za-z]|$))", text) if part.strip()]


def sweep(edits: Sequence[Edit]) -> list[tuple[Edit, ...]]:
    """The lists of edits that make a picture each: one, or several where a `mix` has a range of weights.

    Raises:
        InverterError: more than one has a range.
    """
    ranges = [index for index, edit in enumerate(edits) if edit.name == "mix" and len(edit.numbers) > 1]
    if not ranges:
        return [tuple(edits)]
    if len(ranges) > 1:
        raise InverterError("only one mix can have a range of weights: give the others one weight")
    (index,) = ranges
    edit = edits[index]
    single = [Edit(edit.name, (weight,), edit.other) for weight in edit.numbers]
    return [(*edits[:index], one, *edits[index + 1 :]) for one in single]


def check_layer(edit: Edit, layer: Layer) -> None:
    """Raise InverterError if the edit does not fit the features of a layer."""
    if edit.name in SPATIAL and layer.stride is None:
        raise InverterError(f"{edit.name} needs positions, but {layer.name} is one vector for the whole image")
    if edit.name in ("channels", "without") and max(edit.numbers) >= layer.channels:
        raise InverterError(f"{edit}: {layer.name} has the channels 0 to {layer.channels - 1}")
    if edit.name == "top" and edit.numbers[0] > layer.channels:
        raise InverterError(f"{edit}: {layer.name} has {layer.channels} channels")


def check_size(edit: Edit, size: tuple[int, int]) -> None:
    """Raise InverterError if the edit does not fit images of this height and width."""
    height, width = size
    if edit.name in BOXED and (edit.numbers[2] > width or edit.numbers[3] > height):
        raise InverterError(f"{edit}: the box reaches beyond the image, which has {width}×{height} pixels")
    if edit.name == "shift" and (abs(edit.numbers[0]) >= width or abs(edit.numbers[1]) >= height):
        raise InverterError(f"{edit} moves everything out of the image, which has {width}×{height} pixels")
