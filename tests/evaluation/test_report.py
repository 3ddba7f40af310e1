"""The report and its interpretation, on results that are made up."""

import pytest
from results import made_results

from inverters.evaluation.interpretation import interpret
from inverters.evaluation.report import as_markdown

DEEPER = {
    "relu1_2": {"decoder": 45.0, "lbfgs": 46.0, "decoder+lbfgs": 57.4},
    "relu2_2": {"decoder": 36.0, "lbfgs": 30.0, "decoder+lbfgs": 43.0},
    "relu3_2": {"decoder": 29.0, "lbfgs": 20.0, "decoder+lbfgs": 31.0},
    "relu4_2": {"decoder": 24.8, "lbfgs": 14.0, "decoder+lbfgs": 24.4},
}
ERRORS = {layer: {"decoder": 0.5, "lbfgs": 0.3, "decoder+lbfgs": 0.1} for layer in DEEPER}


def test_it_says_who_is_closest_what_optimisation_gains_and_where_features_mislead() -> None:
    assert interpret(made_results(DEEPER, ERRORS)) == [
        "By PSNR, decoder+lbfgs is closest to the image at relu1_2 to relu3_2 and decoder at relu4_2.",
        "Optimisation started from the decoder changes its PSNR by +12.4 dB at relu1_2, +7.0 dB at relu2_2, +2.0 dB at "
        "relu3_2 and −0.4 dB at relu4_2.",
        "At relu4_2 decoder+lbfgs has the closest features but decoder the closest pixels: there, closer features do "
        "not mean closer pixels.",
    ]


def test_without_optimisation_it_says_by_how_much_the_closest_leads() -> None:
    psnr = {"relu4_2": {"decoder": 23.1, "perceptual": 22.4}, "relu5_2": {"decoder": 17.7, "perceptual": 17.1}}
    errors = {"relu4_2": {"decoder": 0.6, "perceptual": 0.4}, "relu5_2": {"decoder": 0.8, "perceptual": 0.7}}
    assert interpret(made_results(psnr, errors)) == [
        "By PSNR, decoder is closest to the image at relu4_2 and relu5_2.",
        "The lead over the next method is 0.7 dB at relu4_2 and 0.6 dB at relu5_2.",
        "At relu4_2 and relu5_2 perceptual has the closest features but decoder the closest pixels: there, closer "
        "features do not mean closer pixels.",
    ]


def test_features_and_pixels_may_agree() -> None:
    psnr = {"relu4_2": {"decoder": 23.0, "linear": 20.0}, "relu5_2": {"decoder": 17.0}}
    assert interpret(made_results(psnr))[2] == "The closest features go with the closest pixels at relu4_2."


def test_one_method_alone_is_described_by_layer() -> None:
    assert interpret(made_results({"relu1_2": {"decoder": 40.0}, "relu4_2": {"decoder": 20.0}})) == [
        "PSNR of decoder: 40.00 dB at relu1_2 and 20.00 dB at relu4_2.",
        "Feature error of decoder: 0.0250 at relu1_2 and 0.0500 at relu4_2.",
        "Time per image of decoder: 0.045 s at relu1_2 and 0.045 s at relu4_2.",
    ]


def test_many_layers_are_a_range() -> None:
    psnr = {f"relu{block}_1": {"decoder": 30.0, "decoder+lbfgs": 30.0 + block} for block in range(1, 6)}
    psnr["pool5"] = {"decoder": 30.0, "decoder+lbfgs": 28.0}
    assert interpret(made_results(psnr))[1] == (
        "Optimisation started from the decoder changes its PSNR by −2.0 dB (at pool5) to +5.0 dB (at relu5_1)."
    )


@pytest.mark.parametrize("psnr", [None, 40.0])
def test_exact_reconstructions_count_as_100_db(psnr: float | None) -> None:
    results = made_results({"relu1_1": {"decoder": None, "lbfgs": psnr}})
    assert results.means("relu1_1", "psnr") == {"decoder": 100, "lbfgs": psnr or 100}
    assert all("relu1_1" in sentence for sentence in interpret(results))
    assert "Exact to the last bit, which counts as 100 dB in means: 0.png from" in as_markdown(results)


def test_the_report_opens_with_the_interpretation() -> None:
    results = made_results(DEEPER, ERRORS)
    title, text, *_ = as_markdown(results).split("\n\n")
    assert title == "# Benchmark decoders against optimisation and linear baselines"
    assert text == " ".join(interpret(results))
    assert text.count(". ") == 2 + text.count(" 0. ")


def test_the_best_is_bold_and_an_absent_method_a_dash() -> None:
    report = as_markdown(made_results({"relu1_2": {"decoder": 30.0}, "relu2_2": {"decoder": 20.0, "linear": 25.0}}))
    assert "| relu1_2 | **30.00** | – |\n| relu2_2 | 20.00 | **25.00** |" in report


def test_intervals_are_shown_from_five_images_on() -> None:
    few, enough = (as_markdown(made_results(DEEPER, images=images)) for images in (4, 5))
    assert "means over the images, without intervals, which take at least 5 images." in few
    assert "means over the images, with bootstrap 95 % intervals." in enough


def test_a_metric_that_is_left_out_has_no_table() -> None:
    results = made_results(DEEPER)
    results.settings["left_out"] = {"resolved_detail": "its definition changed"}
    report = as_markdown(results)
    assert "## Resolved detail" not in report
    assert "\n\nResolved detail is left out: its definition changed.\n\n" in report
