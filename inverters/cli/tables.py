"""The tables that commands print on the terminal."""

import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from inverters.encoders.layers import Layer

SHOWN_IMAGES = 20


def image_table(images: Sequence[tuple[str, Mapping[str, float]]]) -> Table:
    """PSNR in dB of named images by layer: the first `SHOWN_IMAGES` of them, and the mean over all."""
    layers = list(images[0][1])
    table = _table("PSNR in dB", "image", *layers)
    for name, psnr in images[:SHOWN_IMAGES]:
        table.add_row(Text(name), *(decibels(psnr[layer]) for layer in layers))
    if len(images) > SHOWN_IMAGES:
        table.add_row(f"… {len(images) - SHOWN_IMAGES} more")
    if len(images) > 1:
        table.add_section()
        table.add_row("mean", *(decibels(sum(psnr[layer] for _, psnr in images) / len(images)) for layer in layers))
    return table


def mean_table(psnr: Mapping[str, float]) -> Table:
    """Mean PSNR in dB by layer."""
    table = _table("PSNR in dB", "", *psnr)
    table.add_row("mean", *map(decibels, psnr.values()))
    return table


def method_table(methods: Sequence[str], layers: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Mean PSNR in dB by layer and method: None if every reconstruction is exact, absent without a decoder."""
    table = _table("PSNR in dB, mean over the images", "layer", *methods)
    for layer, psnr in layers.items():
        table.add_row(layer, *(decibels(psnr[method]) if method in psnr else "–" for method in methods))
    return table


def layer_table(layers: Mapping[str, Layer], psnr: Mapping[str, float | None]) -> Table:
    """The layers of an encoder. `psnr` maps those with a decoder to its validation PSNR in dB, None if unknown."""
    table = _table(None, "layer", "channels", "stride", "receptive field", "decoder", "validation PSNR")
    for name, layer in layers.items():
        known = psnr.get(name)
        table.add_row(
            name,
            str(layer.channels),
            *("whole image" if extent is None else str(extent) for extent in (layer.stride, layer.receptive_field)),
            "yes" if name in psnr else "",
            "" if known is None else f"{known:.1f} dB",
        )
    return table


def decibels(psnr: float | None) -> str:
    """`31.4`, or `lossless` where the PSNR is infinite."""
    return f"{psnr:.1f}" if psnr is not None and math.isfinite(psnr) else "lossless"


def _table(title: str | None, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table
