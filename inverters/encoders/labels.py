"""`Label`: what a classifier sees. This module imports no torch."""

from textwrap import shorten
from typing import NamedTuple

LONGEST_NAME = 24  # letters


class Label(NamedTuple):
    """A class of ImageNet, and its probability."""

    name: str
    probability: float

    def __str__(self) -> str:
        return f"{shorten(self.name, LONGEST_NAME, placeholder='…')} {100 * self.probability:.0f} %"
