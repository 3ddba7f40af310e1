"""The charts of an evaluation; each function draws one with matplotlib and returns it as a PNG."""

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import cycle, islice
from typing import Any, TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from inverters.evaluation.results import Interval, Results
from inverters.evaluation.scores import METRICS
from inverters.inversion.method_names import METHODS

DPI = 110
WIDTH = 8.2  # inches: 900 pixels, what a README shows
COLUMNS = 3  # panels side by side
PANEL_HEIGHT = 2.5
LEGEND_COLUMNS = 5
DODGE = 0.08  # between methods on the axis of layers, so that their intervals stand side by side
SLANTED: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}  # names of layers on an axis
UPRIGHT: dict[str, Any] = {"rotation": 90, "size": "x-small"}  # the same where there are many
WIDE_ROOM, NARROW_ROOM = 12, 6  # layers whose slanted names fit below a panel
# A colour and a marker for each of `METHODS`, in their order: Okabe & Ito 2008, and the wine of Tol's muted scheme.
COLORS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#882255")
MARKERS = ("o", "v", "s", "^", "D", "P", "X")


class Style(TypedDict):
    """The look of a method's lines and points, in matplotlib's words."""

    color: str
    marker: str
    markerfacecolor: str


STYLES = {
    method: Style(color=color, marker=marker, markerfacecolor="none")
    for method, color, marker in zip(METHODS, COLORS, MARKERS, strict=True)
}


def quality_figure(results: Results) -> bytes:
    """PSNR, SSIM and top-1 agreement by layer, as far as they were computed, a line for each method."""
    metrics = [metric for metric in ("psnr", "ssim", "agreement") if metric in results.metrics]
    figure, panels = _panels(len(metrics), height=3.2)
    for axes, metric in zip(panels, metrics, strict=True):
        _plot_by_layer(axes, results, metric, WIDE_ROOM)
    return as_png(_with_legend(figure, results.methods))


def detail_figure(results: Results) -> bytes:
    """Resolved detail by layer, if it was computed; then by layer the mean power spectra of the images and errors."""
    overview = "resolved_detail" in results.metrics
    figure, panels = _panels(overview + len(results.layers))
    if overview:
        _plot_by_layer(panels[0], results, "resolved_detail", NARROW_ROOM)
        panels[0].set_title("all layers")
    spectra = panels[overview:]
    for axes, layer in zip(spectra, results.layers, strict=True):
        axes.semilogy(results.frequencies, results.image_spectrum, color="black", linestyle="--")
        for method, power in results.error_spectra(layer).items():
            axes.semilogy(results.frequencies, power, color=STYLES[method]["color"])
        axes.sharey(spectra[0])
        axes.set(title=layer, xlabel="frequency (cycles per pixel)", ylabel="power")
    images = Line2D([], [], color="black", linestyle="--", label="the images")
    return as_png(_with_legend(figure, results.methods, images))


def edits_figure(results: Results) -> bytes:
    """PSNR and feature error by layer, a line for each edit and a black one for none; two panels for each decoder."""
    methods = results.edited_methods
    figure = Figure((WIDTH, 3.2 * len(methods) + 0.4), DPI, layout="constrained")
    styles = [
        Style(color="black", marker="", markerfacecolor="none"),
        *islice(cycle(STYLES.values()), len(results.edits)),
    ]
    lines = dict(zip(("", *results.edits), styles, strict=True))
    for method, row in zip(methods, figure.subplots(len(methods), 2, squeeze=False), strict=True):
        layers = list(results.edited[method])
        for axes, metric in zip(row, ("psnr", "feature_error"), strict=True):
            for edit, style in lines.items():
                found = {
                    layer: (results.edited[method][layer] if edit else results.summary[layer])[edit or method]
                    for layer in layers
                }
                points = [
                    (place, found[layer][metric].mean) for place, layer in enumerate(layers) if metric in found[layer]
                ]
                axes.plot(*zip(*points, strict=True), **style)
            axes.set_xticks(range(len(layers)), layers, **(SLANTED if len(layers) <= WIDE_ROOM else UPRIGHT))
            axes.set(ylabel=METRICS[metric].label, title=method if len(methods) > 1 else "")
            axes.grid(alpha=0.3)
    handles = [Line2D([], [], label=edit or "unedited", **style) for edit, style in lines.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), LEGEND_COLUMNS), frameon=False)
    return as_png(figure)


def speed_figure(results: Results) -> bytes:
    """PSNR over the time for one image, a panel for each layer."""
    figure, panels = _panels(len(results.layers), share=True)
    for axes, layer in zip(panels, results.layers, strict=True):
        for method, summary in results.summary[layer].items():
            if "psnr" in summary:
                seconds, psnr = summary["seconds"], summary["psnr"]
                bars = (_error_bars([psnr]), _error_bars([seconds]))
                axes.errorbar(seconds.mean, psnr.mean, *bars, capsize=2, **STYLES[method])
        axes.set(title=layer, xscale="log", xlabel=METRICS["seconds"].label, ylabel=METRICS["psnr"].label)
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    times = [found["seconds"].mean for by_method in results.summary.values() for found in by_method.values()]
    panels[0].set_xlim(*_log_limits(min(times), max(times)))
    return as_png(_with_legend(figure, results.methods))


def _log_limits(low: float, high: float) -> tuple[float, float]:
    """The limits of a logarithmic axis: the powers of ten around the values, which get labels, and some distance."""
    return min(10.0 ** math.floor(math.log10(low)), low / 1.5), max(10.0 ** math.ceil(math.log10(high)), high * 1.5)


def _plot_by_layer(axes: Axes, results: Results, metric: str, room: int) -> None:
    """A line for each method; `room` is the number of layers whose slanted names fit."""
    for number, method in enumerate(results.methods):
        shift = DODGE * (number - (len(results.methods) - 1) / 2)
        found = {
            position + shift: by_method[method][metric]
            for position, by_method in enumerate(results.summary.values())
            if metric in by_method.get(method, {})
        }
        means = [interval.mean for interval in found.values()]
        axes.errorbar(list(found), means, _error_bars(list(found.values())), capsize=2, **STYLES[method])
    names = results.layers
    axes.set_xticks(range(len(names)), names, **(SLANTED if len(names) <= room else UPRIGHT))
    axes.set_ylabel(METRICS[metric].label)


def _error_bars(intervals: Sequence[Interval]) -> list[list[float]] | None:
    """The lengths of the intervals below and above their means; None if there are no intervals."""
    if all(found.low is None for found in intervals):
        return None
    return [
        [0.0 if found.low is None else max(0.0, found.mean - found.low) for found in intervals],
        [0.0 if found.high is None else max(0.0, found.high - found.mean) for found in intervals],
    ]


def _panels(count: int, height: float = PANEL_HEIGHT, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, `height` inches each, in rows of at most `COLUMNS`; `share` their axes."""
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure((WIDTH, height * rows + 0.4), DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        axes.tick_params(labelbottom=True, labelleft=True)
        axes.grid(alpha=0.3)
    return figure, panels[:count]


def _with_legend(figure: Figure, methods: Sequence[str], *others: Line2D) -> Figure:
    """The figure with a legend above its panels."""
    handles = [*(Line2D([], [], label=method, **STYLES[method]) for method in methods), *others]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), LEGEND_COLUMNS), frameon=False)
    return figure


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    encoded = BytesIO()
    figure.savefig(encoded, format="png")
    return encoded.getvalue()
