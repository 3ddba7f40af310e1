"""The depth figure of an evaluation: one image, reconstructed from each layer by each method."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from inverters.data.images import to_pillow
from inverters.evaluation.plots import DPI, WIDTH, as_png
from inverters.evaluation.results import Results

MAX_COLUMNS = 5  # layers side by side; more are wrapped into blocks
MAX_TILE = 2.0  # inches


def depth_figure(
    results: Results, image: int, original: Tensor, reconstructions: Mapping[tuple[str, str], Tensor]
) -> bytes:
    """Methods as rows, layers as columns, the original at the left of the first row.

    Args:
        results: hold the PSNR of each reconstruction.
        image: its row in the data set.
        original: 3×H×W in [0, 1].
        reconstructions: by layer and method, like `original`; absent where a method has no decoder.
    """
    blocks = math.ceil(len(results.layers) / MAX_COLUMNS)
    columns = math.ceil(len(results.layers) / blocks)
    tile = min(WIDTH / (columns + 1), MAX_TILE)
    rows = len(results.methods)
    side = tile - 0.25 / (columns + 1) - 0.05  # of a picture: the names of the methods and the gaps take the rest
    height = (side + 0.2) * rows + 0.3  # of a block: below each picture is its PSNR, above the first row are titles
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    figure = Figure((tile * (columns + 1), height * blocks), DPI, layout=layout)
    psnr = {
        (record.layer, record.method): record.scores["psnr"]
        for record in results.records
        if record.image == image and not record.edit
    }
    for block, part in enumerate(figure.subfigures(blocks, squeeze=False).flat):
        grid = part.add_gridspec(rows, columns + 1)
        _show(part.add_subplot(grid[0, 0], title="original"), original)
        for column, layer in enumerate(results.layers[block * columns : (block + 1) * columns], start=1):
            for row, method in enumerate(results.methods):
                axes = part.add_subplot(grid[row, column])
                axes.set_title(layer if row == 0 else "")
                axes.set_ylabel(method if column == 1 else "")
                _show(axes, reconstructions.get((layer, method)))
                if (layer, method) in reconstructions:
                    score = psnr[layer, method]
                    axes.set_xlabel("lossless" if score is None else f"{score:.1f} dB", labelpad=2)
    return as_png(figure)


def _show(axes: Axes, image: Tensor | None) -> None:
    """Draw the image, or say that there is none."""
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    if image is None:
        axes.text(0.5, 0.5, "no decoder", ha="center", va="center", color="gray", transform=axes.transAxes)
    else:
        axes.imshow(to_pillow(image))
