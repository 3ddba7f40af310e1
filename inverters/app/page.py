"""The page: its controls, and which of them compute what. What is shown is drawn in the browser, by `static/`."""

import gradio as gr

from inverters.app.controls import COMPUTES, channel, network_settings, read, upload
from inverters.app.edit_tab import build_edit_tab
from inverters.app.events import Events
from inverters.app.opening import opening, photograph
from inverters.app.studio import Choice, Studio
from inverters.data.images import to_pillow

SCRIPTS = ("stage.js", "curve.js", "address.js", "code.js", "pointer.js", "viewer.js")  # in this order
FORGET = (600, 3600)  # uploaded files are looked through every 10 minutes, and deleted when an hour old
OPTIMISES = COMPUTES | {"concurrency_id": "optimise"}  # one at a time, beside another event
WITH_SHOWN = "(...inputs) => [...inputs.slice(0, -1), window.inverters.asked]"
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
    page: gr.Blocks
    with gr.Blocks(title="inverters", analytics_enabled=False, fill_width=True, delete_cache=FORGET) as page:
        with gr.Tab("Look into the depth"):
            gr.Markdown(CAPTION, elem_classes="caption")
            with gr.Row(elem_classes="page-columns"):
                with gr.Column(scale=1, min_width=240, elem_classes="controls"):
                    photo = upload(to_pillow(photograph(studio.size)), "Photograph")
                    settings = network_settings(studio, choice)
                    beside = gr.Checkbox(False, label="Side by side")
                    with gr.Column(visible=False) as second_controls:
                        second_photo = upload(None, "Second photograph (else the same)")
                        second_settings = network_settings(studio, choice._replace(objective="sharpest"))
                with gr.Column(scale=4, min_width=320):
                    viewer = gr.HTML(
                        start, html_template=read("viewer.html"), js_on_load=read(*SCRIPTS), apply_default_css=False
                    )
            second = channel("watch('value', () => window.inverters.showSecond(props.value))")
            file = channel("watch('value', () => window.inverters.save(props.value))")
            shown = gr.Textbox(visible=False)  # filled in by the browser: the layer that is shown, or a file's name
        events = Events(studio, choice, bool(start["depths"][0]["picture"]))
        build_edit_tab(events, photo, settings)

        page.load(None, settings, settings, js=read("settings.js")).then(
            events.open_page, settings, viewer, api_visibility="private", **COMPUTES
        )
        changes = [photo.input, *(some.input for some in settings)]
        gr.on(changes, events.reconstruct, [photo, *settings], viewer, trigger_mode="always_last", **COMPUTES)
        beside.input(lambda on: gr.Column(visible=on), beside, second_controls, api_visibility="private")
        gr.on(
            [beside.input, photo.input, second_photo.input, *(some.input for some in second_settings)],
            events.compare,
            [beside, photo, second_photo, *second_settings],
            second,
            trigger_mode="always_last",
            **COMPUTES,
        )
        asked = [photo, *settings, shown]
        optimisation = viewer.optimise(events.optimise, asked, [second, beside], js=WITH_SHOWN, **OPTIMISES)
        gr.on(changes, None, js="() => window.inverters.forgetOptimisation()", cancels=[optimisation])
        viewer.stop(events.stop, api_visibility="private", queue=False)
        viewer.download(events.download, asked, file, js=WITH_SHOWN, **COMPUTES)
    return page
