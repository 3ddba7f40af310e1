"""`Printer`: what a command prints, and where.

Results go to stdout; progress, notes and errors to stderr. `--json` replaces the results by one JSON document, and
`--quiet` leaves nothing but errors (and the document, if `--json` asks for it).
"""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from inverters.errors import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

output = Console(width=None if sys.stdout and sys.stdout.isatty() else 120)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Printer:
    """Prints the results, notes and progress of one command."""

    json: bool = False
    quiet: bool = False

    def table(self, table: "RenderableType") -> None:
        """Print a result for people."""
        if not (self.json or self.quiet):
            output.print(table)

    def line(self, text: str) -> None:
        """Print a line of the result for people, such as where files were written."""
        if not (self.json or self.quiet):
            print(printable(text))

    def document(self, value: Mapping[str, Any]) -> None:
        """Print the result for scripts, once per command; numbers that are not finite become null."""
        if self.json:
            import json

            print(json.dumps(_finite(value), indent=2, allow_nan=False, default=str))

    def note(self, text: str) -> None:
        """Print on stderr what a user should know although the command succeeds."""
        if not self.quiet:
            errors.print(printable(text), markup=False)

    def note_once(self, text: str) -> None:
        """`note`, by only one of the processes on a machine that run the same command."""
        if os.environ.get("LOCAL_RANK", "0") == "0":
            self.note(text)

    def error(self, text: str) -> None:
        """Print on stderr that a part of the work failed."""
        errors.print(printable(f"error: {text}"), markup=False)

    def step(self, text: str) -> None:
        """Print a line of progress on stderr where there is no terminal for a progress bar."""
        if not (self.json or self.quiet or errors.is_terminal):
            errors.print(printable(text), markup=False)

    def progress_bar(self) -> "Progress":
        """A progress bar on stderr, shown only on a terminal."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        return Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=errors,
            disable=self.quiet or not errors.is_terminal,
            transient=True,
        )


def _finite(value: Any) -> Any:
    """The same JSON value with null for infinity and NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
