"""Lists of layers as people write them: `--layers relu1_2 relu4_2`, `relu1_2, relu4_2` and repeated options."""

import os
from collections.abc import Sequence
from itertools import pairwise

from inverters.encoders.names import DEFAULT_ENCODER, list_layers
from inverters.errors import InverterError

OPTIONS = ("--layers", "--layer")


def join_layers(arguments: Sequence[str]) -> list[str]:
    """Replace all lists of layers in a command line by one list without spaces.

    What follows a list belongs to it if a comma says so, or if it is the name of a layer and of no file.

    Raises:
        InverterError: what follows a list is neither an option nor a layer nor a file.
    """
    rest: list[str] = []
    lists: list[tuple[str, str]] = []
    position = 0
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        option, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
            break
        if option not in OPTIONS or not (equals or waiting):
            rest.append(argument)
            continue
        listed = value if equals else waiting.pop(0)
        while waiting and _continues(listed, waiting[0], arguments):
            listed += f",{waiting.pop(0)}"
        position = position if lists else len(rest)
        lists.append((option, listed))
    if lists:
        names = ",".join(listed for _, listed in lists).split(",")
        rest.insert(position, f"{lists[0][0]}={','.join(filter(None, names))}")
    return rest


def _continues(listed: str, following: str, arguments: Sequence[str]) -> bool:
    """Whether `following` belongs to the list before it."""
    if following.startswith("-"):
        return False
    if listed.endswith(",") or following.startswith(","):
        return True
    if os.path.exists(following):  # noqa: PTH110 (Path.exists raises where a name is too long)
        return False
    known = _known_layers(arguments)
    if all(name in known for name in following.split(",") if name):
        return True
    if known and following.isidentifier():
        raise InverterError(
            f"--layers takes names separated by commas, with no spaces; {following!r} is neither a layer nor a file"
        )
    return False


def _known_layers(arguments: Sequence[str]) -> set[str]:
    """The layers of the encoder that a command line names; none if there is no such encoder."""
    encoder = DEFAULT_ENCODER
    for argument, following in pairwise([*arguments, ""]):
        if argument == "--encoder":
            encoder = following
        elif argument.startswith("--encoder="):
            encoder = argument.removeprefix("--encoder=")
    try:
        return set(list_layers(encoder))
    except InverterError:  # the command itself explains it
        return set()
