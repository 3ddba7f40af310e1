"""The figures: that they draw what they should; whether they look good is for eyes."""

from io import BytesIO
from itertools import pairwise

import matplotlib.figure
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from results import made_results

from inverters.evaluation import plots
from inverters.evaluation.pictures import depth_figure
from inverters.inversion.method_names import METHODS

PSNR = {"relu4_2": {"decoder": 23.1, "perceptual": 22.4}, "relu5_2": {"decoder": 17.7, "perceptual": 17.1}}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = matplotlib.figure.Figure.savefig

    def record(figure: Figure, *arguments: object, **options: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", record)
    return figures


def size(png: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(png)) as image:
        return image.size


def test_every_method_has_a_look_of_its_own() -> None:
    assert list(plots.STYLES) == list(METHODS)
    assert len({style["color"] for style in plots.STYLES.values()}) == len(METHODS)
    assert len({style["marker"] for style in plots.STYLES.values()}) == len(METHODS)


@pytest.mark.parametrize("draw", [plots.quality_figure, plots.speed_figure])
def test_a_method_looks_the_same_whatever_it_is_compared_with(drawn: list[Figure], draw: object) -> None:
    looks = []
    for methods in (["decoder", "lbfgs"], ["perceptual", "linear", "lbfgs"], ["lbfgs"]):
        draw(made_results({"relu1_2": dict.fromkeys(methods, 20.0)}))  # type: ignore[operator]
        legend = drawn[-1].legends[0]
        lines = dict(zip([text.get_text() for text in legend.get_texts()], legend.get_lines(), strict=True))
        assert list(lines) == methods
        looks.append((lines["lbfgs"].get_color(), lines["lbfgs"].get_marker()))
    assert looks == [("#009E73", "^")] * 3


def test_the_labels_of_times_do_not_overlap(drawn: list[Figure]) -> None:
    """Both methods take about as long: less than a decade, where matplotlib labels every minor tick."""
    plots.speed_figure(made_results(PSNR))
    canvas = FigureCanvasAgg(drawn[-1])
    canvas.draw()
    for axes in drawn[-1].axes:
        labels = [label for label in axes.get_xticklabels(which="both") if label.get_text()]
        boxes = sorted((label.get_window_extent(canvas.get_renderer()) for label in labels), key=lambda box: box.x0)
        assert len(boxes) >= 2
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_every_interval_is_drawn_and_none_where_there_is_none(drawn: list[Figure]) -> None:
    for images, bars in ((4, 0), (5, 2)):
        plots.quality_figure(made_results(PSNR, images=images))
        assert len(drawn[-1].axes[0].collections) == bars


def test_absent_pairs_are_left_out_of_every_chart() -> None:
    results = made_results({"relu1_2": {"decoder": 30.0}, "relu2_2": {"decoder": 20.0, "linear": None}})
    for figure in (plots.quality_figure, plots.detail_figure, plots.speed_figure):
        assert size(figure(results))[0] == 902


def test_spectra_are_drawn_where_resolved_detail_is_left_out(drawn: list[Figure]) -> None:
    results = made_results(PSNR)
    plots.detail_figure(results)
    assert [axes.get_title() for axes in drawn[-1].axes] == ["all layers", "relu4_2", "relu5_2"]
    results.settings["left_out"] = {"resolved_detail": "its definition changed"}
    plots.detail_figure(results)
    assert [axes.get_title() for axes in drawn[-1].axes] == ["relu4_2", "relu5_2"]


def test_the_original_is_in_line_with_the_first_row(drawn: list[Figure]) -> None:
    results = made_results({"relu1_2": {"decoder": 30.0}, "relu2_2": {"decoder": 20.0, "linear": 10.0}})
    tile = torch.zeros(3, 32, 32)
    pairs = [("relu1_2", "decoder"), ("relu2_2", "decoder"), ("relu2_2", "linear")]
    depth_figure(results, 0, tile, dict.fromkeys(pairs, tile))
    FigureCanvasAgg(drawn[-1]).draw()
    original, first, absent, *_ = drawn[-1].axes
    assert (original.get_title(), first.get_title(), first.get_ylabel()) == ("original", "relu1_2", "decoder")
    assert original.get_position().y0 == pytest.approx(first.get_position().y0, abs=0.01)
    assert original.get_position().height == pytest.approx(first.get_position().height, rel=0.02)
    assert first.get_xlabel() == "30.0 dB"
    assert [text.get_text() for text in absent.texts] == ["no decoder"]


@pytest.mark.parametrize(("count", "blocks"), [(1, 1), (5, 1), (7, 2), (10, 2), (11, 3)])
def test_many_layers_are_wrapped_into_blocks(drawn: list[Figure], count: int, blocks: int) -> None:
    layers = [f"layer{number}" for number in range(count)]
    tile = torch.zeros(3, 32, 32)
    results = made_results({layer: {"decoder": 30.0} for layer in layers})
    png = depth_figure(results, 0, tile, {(layer, "decoder"): tile for layer in layers})
    titles = [axes.get_title() for axes in drawn[-1].axes]
    assert titles.count("original") == blocks
    assert [title for title in titles if title != "original"] == layers
    assert size(png)[0] <= 902
