"""What the page's controls ask for. Uploads come as gradio describes them; errors are one line."""

import base64
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import gradio as gr

from inverters.app.downloads import FILES, make_file
from inverters.app.edited import Changes, Edited
from inverters.app.opening import photograph
from inverters.app.panes import Pane
from inverters.app.studio import Choice, Studio
from inverters.app.uploads import load_upload
from inverters.errors import CheckpointError, InverterError, OutputError, WeightsError

Upload = dict[str, Any] | None


class File(TypedDict):
    """A file for the browser to save.

    Keys:
        uri: its contents as a data URI.
        asked: when it was asked for, so that asking twice saves twice.
    """

    name: str
    uri: str
    asked: float


class Events:
    """Answers the page's events.

    Args:
        studio: computes.
        choice: what the page opens with.
        opens_with_pictures: whether there are pictures of that choice already.
    """

    studio: Studio
    choice: Choice
    opens_with_pictures: bool

    def __init__(self, studio: Studio, choice: Choice, opens_with_pictures: bool) -> None:
        self.studio, self.choice, self.opens_with_pictures = studio, choice, opens_with_pictures

    def open_page(self, network: str, objective: str, corrections: bool) -> Iterator[Pane]:
        """Reconstruct the photograph that the page opens with; pictures that are there stay until all are done."""
        choice = Choice(network, objective, corrections)
        with one_line_errors():
            for pane in self.studio.reconstruct(photograph(self.studio.size), choice):
                if not (self.opens_with_pictures and choice == self.choice and pane["note"]):
                    yield pane

    def reconstruct(self, photo: Upload, network: str, objective: str, corrections: bool) -> Iterator[Pane]:
        """Reconstruct an image from every layer; yields after each of them."""
        with one_line_errors():
            yield from self.studio.reconstruct(self._load(photo), Choice(network, objective, corrections))

    def compare(
        self, on: bool, photo: Upload, second: Upload, network: str, objective: str, corrections: bool
    ) -> Iterator[Pane | None]:
        """Reconstruct a second image, or the same one in another way, to stand beside the first."""
        if not on:
            yield None
            return
        yield from self.reconstruct(second or photo, network, objective, corrections)

    def optimise(
        self, photo: Upload, network: str, objective: str, corrections: bool, layer: str, request: gr.Request
    ) -> Iterator[tuple[Pane, bool]]:
        """Optimise the decoder's picture of one layer; yields after each iteration."""
        with one_line_errors():
            choice = Choice(network, objective, corrections)
            for pane in self.studio.optimise(self._load(photo), choice, layer, str(request.session_hash)):
                yield pane, False  # nothing else stands beside it

    def stop(self, request: gr.Request) -> None:
        """Stop this user's optimisation."""
        self.studio.stop(str(request.session_hash))

    def download(self, photo: Upload, network: str, objective: str, corrections: bool, name: str) -> File:
        """Draw the strip or an animation through the depth, as a data URI: no file stays on the server."""
        with one_line_errors():
            pane = self.studio.finished(self._load(photo), Choice(network, objective, corrections))
            data = base64.b64encode(make_file(pane, name)).decode()
        return {"name": name, "uri": f"data:{FILES[name]};base64,{data}", "asked": time.time()}

    def edit(
        self,
        photo: Upload,
        network: str,
        objective: str,
        corrections: bool,
        layer: str,
        drop: float,
        noise: float,
        top: int,
        right: int,
        again: int,
        binarize: bool,
        random: bool,
        channels: str,
        keep: str,
        other: Upload,
        mix: float,
    ) -> Edited:
        """Reconstruct an image from the changed features of one layer; see `edited.Changes`.

        `mix` is the weight, from 0 to 1, of the features of the other image.
        """
        changes: Changes = {
            "drop": drop,
            "noise": noise,
            "top": top,
            "right": right,
            "again": again,
            "binarize": binarize,
            "random": random,
            "channels": channels,
            "keep": keep,
        }
        with one_line_errors():
            second = self._load(other) if other else None
            choice = Choice(network, objective, corrections)
            return self.studio.edit(self._load(photo), choice, layer, changes, second, mix)

    def layers(self, network: str, layer: str) -> Any:
        """The layers of a network, with the one that was chosen or else the middle one."""
        names = [*self.studio.network(Choice(network)).objectives("pixel")]
        return gr.Dropdown(names, value=layer if layer in names else names[len(names) // 2])

    def _load(self, photo: Upload) -> Any:
        return load_upload(photo["path"] if photo else None, self.studio.size)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show what a user can mend in one line; what only the server's owner can mend goes to the server's log."""
    try:
        yield
    except (CheckpointError, WeightsError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise gr.Error("this network cannot be used now: the server's log says why", print_exception=False) from None
    except InverterError as error:
        raise gr.Error(str(error), print_exception=False) from None
