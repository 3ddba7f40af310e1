"""The tables that commands print on the terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inverters.encoders.layers import Layer
from inverters.errors import printable

if TYPE_CHECKING:
    from inverters.inversion.saved import ImageMetrics, MethodMetrics
    from inverters.inversion.verdicts import FeatureError
    from inverters.training.trained import TrainedDecoder

SHOWN_IMAGES = 20


ByMethod = Mapping[str, Mapping[str, float]]  # by method and layer


def psnr_table(images: Sequence[tuple[str, "ImageMetrics"]], count: int, means: ByMethod) -> Table:
    """PSNR in dB by layer, with a row for each image and method.

    Args:
        images: the first images with their names.
        count: of all images.
        means: over all images.
    """

    def cells(method: "MethodMetrics") -> dict[str, str]:
        return {layer: decibels(psnr) for layer, psnr in method.psnr.items()}

    return _prediction_table("PSNR in dB", images, cells, count, means, decibels)


def error_table(images: Sequence[tuple[str, "ImageMetrics"]], count: int, means: ByMethod) -> Table:
    """Feature errors by layer like `psnr_table`, with the percentage of photographs whose error is smaller."""

    def cells(method: "MethodMetrics") -> dict[str, str]:
        return {layer: _described(error) for layer, error in method.feature_errors.items()}

    title = "Feature error, and how many photographs have a smaller one"
    return _prediction_table(title, images, cells, count, means, "{:.3f}".format)


def _described(error: "FeatureError") -> str:
    """`0.083 61 %`; bold where few photographs have a larger error."""
    if error.percentile is None:
        return f"{error.value:.3f}"
    text = f"{error.value:.3f} {error.percentile:.0f}\N{NO-BREAK SPACE}%"
    return f"[bold yellow]{text}[/]" if error.unusual else text


def _prediction_table(
    title: str,
    images: Sequence[tuple[str, "ImageMetrics"]],
    cells: Callable[["MethodMetrics"], Mapping[str, str]],
    count: int,
    means: ByMethod,
    show: Callable[[float], str],
) -> Table:
    """A table with a row for each image and method, and their means below.

    Args:
        images: the first images, with their names.
        cells: makes those of a method's row, by layer.
        count: of all images.
        means: over all images, by method and layer.
        show: makes a cell of a mean.
    """
    layers = list(dict.fromkeys(layer for some in means.values() for layer in some))
    several = len(means) > 1
    table = _table(title, "image", *(["method"] if several else []), *layers)
    if several:
        table.columns[1].justify = "left"

    def add(name: str, by_method: Mapping[str, Mapping[str, str]]) -> None:
        for method, row in by_method.items():
            if row:
                scores = (row.get(layer, "") for layer in layers)
                table.add_row(Text(printable(name)), *([method] if several else []), *scores)
                name = ""

    for name, metrics in images:
        add(name, {method.provenance.label: cells(method) for method in metrics.methods})
    if count > len(images) > 0:
        table.add_row(f"… {count - len(images)} more")
    if count > 1:
        table.add_section()
        add("mean", {method: {layer: show(one) for layer, one in some.items()} for method, some in means.items()})
    return table


def method_table(methods: Sequence[str], layers: Mapping[str, Mapping[str, float | None]], of: str = "") -> Table:
    """Mean PSNR in dB by layer and method (or edit): None if every one is exact, absent without a decoder."""
    table = _table(f"PSNR in dB{of}, mean over the images", "layer", *methods)
    for layer, psnr in layers.items():
        table.add_row(layer, *(decibels(psnr[method]) if method in psnr else "–" for method in methods))
    return table


def layer_table(layers: Mapping[str, Layer], psnr: Mapping[str, float | None]) -> Table:
    """The layers of an encoder; a dash stands for the whole image.

    `psnr` maps those with a decoder to its validation PSNR in dB, None if unknown.
    """
    table = _table(None, "layer", "channels", "stride", "receptive field", "stage", "decoder", "validation PSNR")
    for name, layer in layers.items():
        known = psnr.get(name)
        table.add_row(
            name,
            str(layer.channels),
            *("—" if extent is None else str(extent) for extent in (layer.stride, layer.receptive_field)),
            layer.stage,
            "yes" if name in psnr else "",
            "" if known is None else f"{known:.1f} dB",
        )
    return table


def training_table(trained: Sequence["TrainedDecoder"]) -> Table:
    """Validation PSNR in dB of a run's decoders: at its start and end, and of the one that was published."""
    last = max(max(made.history, default=0) for made in trained)
    steps = [0, last] if last else []  # there are none for linear decoders
    table = _table("Validation PSNR in dB", "layer", *(f"step {step}" for step in steps), "published", "from step")
    for made in trained:
        shown = [decibels(made.history[step]) if step in made.history else "" for step in steps]
        table.add_row(made.decoder.layer.name, *shown, decibels(made.psnr), str(made.step))
    return table


def decibels(psnr: float | None) -> str:
    """`31.4`, or `lossless` where the PSNR is infinite."""
    return f"{psnr:.1f}" if psnr is not None and math.isfinite(psnr) else "lossless"


def _table(title: str | None, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table
