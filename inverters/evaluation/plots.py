"""The figures of an evaluation; each function draws one with matplotlib and returns it as a PNG."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from torch import Tensor

from inverters.data.images import to_pillow
from inverters.evaluation.results import METRICS, Interval, Results

DPI = 110
WIDTH = 8.2  # inches: 900 pixels, what a README shows
COLUMNS = 3  # panels side by side
PANEL_HEIGHT = 2.5
TILE = WIDTH / 6  # five layers and the original
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P")
DODGE = 0.08  # between methods on the axis of layers, so that their intervals stand side by side


class Style(TypedDict):
    """What tells a method's line and points from another's, in matplotlib's words."""

    color: str
    marker: str
    markerfacecolor: str


def depth_figure(
    results: Results, originals: Mapping[int, Tensor], reconstructions: Mapping[tuple[int, str, str], Tensor]
) -> bytes:
    """For each image the original on the left, then methods as rows and layers as columns.

    `originals` by image and `reconstructions` by (image, layer, method) are 3×H×W in [0, 1].
    """
    rows, columns = len(results.methods), 1 + len(results.layers)
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    height = (TILE + 0.2) * rows + 0.4  # inches for each image; below a row its PSNR, above the first one the titles
    figure = Figure((TILE * columns, height * len(originals)), DPI, layout=layout)
    blocks = figure.subfigures(len(originals), squeeze=False).flat
    scores = {(record.image, record.layer, record.method): record.scores["psnr"] for record in results.records}
    for block, (image, original) in zip(blocks, originals.items(), strict=True):
        grid = block.add_gridspec(rows, columns)
        _show(block.add_subplot(grid[:, 0], title="original"), original)
        for row, method in enumerate(results.methods):
            for column, layer in enumerate(results.layers, start=1):
                axes = block.add_subplot(grid[row, column])
                _show(axes, reconstructions[image, layer, method])
                score = scores[image, layer, method]
                axes.set_xlabel("lossless" if score is None else f"{score:.1f} dB", labelpad=2)
                axes.set_title(layer if row == 0 else "")
                axes.set_ylabel(method if column == 1 else "")
    return _as_png(figure)


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(to_pillow(image))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def quality_figure(results: Results) -> bytes:
    """PSNR and SSIM over depth, a line for each method."""
    figure, panels = _panels(2, height=3.2)
    for axes, metric in zip(panels, ("psnr", "ssim"), strict=True):
        _plot_over_depth(axes, results, metric)
    return _as_png(_with_legend(figure, results.methods))


def detail_figure(results: Results) -> bytes:
    """Resolved detail over depth, then for each layer the mean power spectra of the images and of the errors."""
    figure, (overview, *panels) = _panels(1 + len(results.layers))
    _plot_over_depth(overview, results, "resolved_detail")
    overview.set_title("all layers")
    for axes, layer in zip(panels, results.layers, strict=True):
        axes.semilogy(results.frequencies, results.image_spectrum, color="black", linestyle="--")
        for method, style in _styles(results.methods).items():
            axes.semilogy(results.frequencies, results.error_spectrum(layer, method), color=style["color"])
        axes.sharey(panels[0])
        axes.set(title=layer, xlabel="frequency (cycles per pixel)", ylabel="power")
    image = Line2D([], [], color="black", linestyle="--", label="the images' own power")
    return _as_png(_with_legend(figure, results.methods, image))


def speed_figure(results: Results) -> bytes:
    """PSNR over the time that an image takes, a panel for each layer."""
    figure, panels = _panels(len(results.layers), share=True)
    for axes, layer in zip(panels, results.layers, strict=True):
        for method, style in _styles(results.methods).items():
            summary = results.summary[layer][method]
            if "psnr" in summary:
                seconds, psnr = summary["seconds"], summary["psnr"]
                axes.errorbar(seconds.mean, psnr.mean, _error_bars([psnr]), _error_bars([seconds]), capsize=2, **style)
        axes.set(title=layer, xscale="log", xlabel=METRICS["seconds"].label, ylabel=METRICS["psnr"].label)
    return _as_png(_with_legend(figure, results.methods))


def _plot_over_depth(axes: Axes, results: Results, metric: str) -> None:
    for number, (method, style) in enumerate(_styles(results.methods).items()):
        shift = DODGE * (number - (len(results.methods) - 1) / 2)
        found = {
            position + shift: results.summary[layer][method][metric]
            for position, layer in enumerate(results.layers)
            if metric in results.summary[layer][method]
        }
        means = [interval.mean for interval in found.values()]
        axes.errorbar(list(found), means, _error_bars(list(found.values())), capsize=2, **style)
    axes.set_xticks(range(len(results.layers)), results.layers, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_ylabel(METRICS[metric].label)


def _error_bars(intervals: Sequence[Interval]) -> list[list[float]]:
    """The lengths of the intervals below and above their means."""
    return [
        [max(0.0, interval.mean - interval.low) for interval in intervals],
        [max(0.0, interval.high - interval.mean) for interval in intervals],
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
    handles = [Line2D([], [], label=method, **style) for method, style in _styles(methods).items()]
    figure.legend(
        handles=[*handles, *others], loc="outside upper center", ncols=len(handles) + len(others), frameon=False
    )
    return figure


def _styles(methods: Sequence[str]) -> dict[str, Style]:
    looks = zip(methods, cycle(COLORS), cycle(MARKERS), strict=False)
    return {method: Style(color=color, marker=marker, markerfacecolor="none") for method, color, marker in looks}


def _as_png(figure: Figure) -> bytes:
    encoded = BytesIO()
    figure.savefig(encoded, format="png")
    return encoded.getvalue()
