"""What the tabs of the page share: controls, static files, and how events are run."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from inverters.app.networks import OBJECTIVES
from inverters.app.studio import Choice, Studio

STATIC = Path(__file__).parent / "static"
COMPUTES: dict[str, Any] = {  # events that take long: one at a time
    "concurrency_id": "compute",
    "show_progress": "hidden",  # the viewer shows it
    "preprocess": False,  # gradio would decode the file, and answer with a traceback where it cannot
}


def read(*names: str) -> str:
    """Static files, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


def upload(value: Image.Image | None, label: str) -> gr.Image:
    """An image to upload, paste, or take with the camera."""
    return gr.Image(
        value,
        label=label,
        sources=["upload", "clipboard", "webcam"],
        format="png",
        height=220,
        buttons=[],
        interactive=True,
    )


def network_settings(studio: Studio, choice: Choice) -> list[Any]:
    """The controls of a `Choice`; those that leave no choice are hidden."""
    networks, corrected = [*studio.networks], any(network.corrected for network in studio.networks.values())
    return [
        gr.Dropdown(networks, value=choice.network, label="Network", visible=len(networks) > 1),
        gr.Radio([*OBJECTIVES], value=choice.objective, label="Decoders"),
        gr.Checkbox(choice.corrections, label="Corrections", visible=corrected),
    ]


def channel(script: str) -> gr.HTML:
    """A component that is never seen, and hands what the server sends to the viewer."""
    return gr.HTML(None, html_template=" ", js_on_load=script, visible="hidden")
