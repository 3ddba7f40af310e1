"""The page: its controls, and which of them compute what. What is shown is drawn in the browser, by `static/`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from inverters.app.networks import OBJECTIVES
from inverters.app.opening import opening, photograph
from inverters.app.panes import Pane
from inverters.app.studio import Choice, Studio
from inverters.app.uploads import load_upload
from inverters.data.images import to_pillow
from inverters.errors import CheckpointError, InverterError, OutputError, WeightsError

STATIC = Path(__file__).parent / "static"
FORGET = (600, 3600)  # uploaded files are looked through every 10 minutes, and deleted when an hour old
SCRIPTS = ("stage.js", "curve.js", "address.js", "viewer.js")  # in this order
File = dict[str, Any] | None  # an uploaded file, as gradio describes it
CAPTION = (
    "What does a network still know about a photograph? Drag through its depth: each picture is made from the "
    "features of one layer alone."
)


def build_page(studio: Studio, choice: Choice) -> gr.Blocks:
    """Build the page.

    Args:
        studio: computes what it shows.
        choice: what it opens with.
    """
    start = opening(studio, choice)

    def reconstruct(photo: File, network: str, objective: str, corrections: bool) -> Iterator[Pane]:
        """Reconstruct an image from every layer; yields after each of them."""
        with one_line_errors():
            image = load_upload(photo["path"] if photo else None, studio.size)
            yield from studio.reconstruct(image, Choice(network, objective, corrections))

    def open_page(network: str, objective: str, corrections: bool) -> Iterator[Pane]:
        """Reconstruct the photograph that the page opens with; pictures that are there stay until all are done."""
        asked = Choice(network, objective, corrections)
        with one_line_errors():
            for pane in studio.reconstruct(photograph(studio.size), asked):
                if pane["note"] == "" or asked != choice or not start["depths"][0]["picture"]:
                    yield pane

    page: gr.Blocks
    with gr.Blocks(title="inverters", analytics_enabled=False, fill_width=True, delete_cache=FORGET) as page:
        gr.Markdown(CAPTION, elem_classes="caption")
        with gr.Row(elem_classes="page-columns"):
            with gr.Column(scale=1, min_width=240, elem_classes="controls"):
                photo = gr.Image(
                    to_pillow(photograph(studio.size)),
                    label="Photograph",
                    sources=["upload", "clipboard", "webcam"],
                    format="png",
                    height=220,
                    buttons=[],
                )
                network = gr.Dropdown(
                    [*studio.networks], value=choice.network, label="Network", visible=len(studio.networks) > 1
                )
                objective = gr.Radio([*OBJECTIVES], value=choice.objective, label="Decoders")
                corrections = gr.Checkbox(
                    choice.corrections,
                    label="Corrections",
                    visible=any(some.corrected for some in studio.networks.values()),
                )
            with gr.Column(scale=4, min_width=320):
                viewer = gr.HTML(
                    start,
                    html_template=(STATIC / "viewer.html").read_text(encoding="utf-8"),
                    js_on_load="\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS),
                    apply_default_css=False,
                )
        settings = [network, objective, corrections]
        page.load(
            open_page, settings, viewer, show_progress="hidden", concurrency_id="reconstruct", api_visibility="private"
        )
        gr.on(
            [photo.input, network.input, objective.input, corrections.input],
            reconstruct,
            [photo, *settings],
            viewer,
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_id="reconstruct",
            preprocess=False,  # gradio would decode the file, and answer with a traceback where it cannot
            api_name="reconstruct",
        )
    return page


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
