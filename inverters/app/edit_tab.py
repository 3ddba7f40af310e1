"""The tab "Change the features"."""

from typing import Any

import gradio as gr

from inverters.app.controls import COMPUTES, read, upload
from inverters.app.events import Events

CAPTION = (
    "The features of one layer are changed, then made into a picture. What survives did not depend on what was lost."
)


def build_edit_tab(events: Events, photo: gr.Image, settings: list[Any]) -> None:
    """Build the tab; `photo` and `settings` are the controls that it shares with the first one."""
    with gr.Tab("Change the features") as tab:
        gr.Markdown(CAPTION)
        with gr.Row(elem_classes="page-columns"):
            with gr.Column(scale=1, min_width=240, elem_classes="controls"):
                names = [*events.studio.network(events.choice).objectives("pixel")]
                layer = gr.Dropdown(names, value=names[len(names) // 2], label="Layer")
                sliders = [
                    gr.Slider(0, 0.95, 0, step=0.05, label="Values set to zero", info="as a fraction"),
                    gr.Slider(0, 2, 0, step=0.1, label="Noise", info="in standard deviations of each channel"),
                    gr.Slider(0, 64, 0, step=1, label="Largest values kept", info="at each position; 0 keeps all"),
                    gr.Slider(-128, 128, 0, step=8, label="Moved to the right", info="in pixels"),
                    gr.Slider(0, 8, 0, step=1, label="Encoded and decoded again", info="times"),
                ]
                switches = [gr.Checkbox(label="Only zero or not (binarize)"), gr.Checkbox(label="Random features")]
                texts = [
                    gr.Textbox(label="Only these channels", placeholder="3,17", info="numbers from 0; then Enter"),
                    gr.Textbox(
                        label="Only this box", placeholder="0,0,128,128", info="left, top, right, bottom; then Enter"
                    ),
                ]
                other = upload(None, "Mix with another photograph")
                weight = gr.Slider(0, 1, 0.5, step=0.05, label="Its weight")
            with gr.Column(scale=4, min_width=320):
                result = gr.HTML(
                    None, html_template=read("edited.html"), js_on_load=read("edited.js"), apply_default_css=False
                )
    settings[0].input(
        events.layers, [settings[0], layer], layer, preprocess=False, show_progress="hidden", api_visibility="private"
    )
    controls: list[Any] = [layer, *sliders, *switches, other, weight]
    gr.on(
        [tab.select, *(control.input for control in controls), *(text.submit for text in texts)],
        events.edit,
        [photo, *settings, layer, *sliders, *switches, *texts, other, weight],
        result,
        trigger_mode="always_last",
        **COMPUTES | {"show_progress": "minimal"},
    )
