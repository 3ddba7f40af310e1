"""What results are called, and what distinguishes them."""

from dataclasses import asdict, fields, replace

import pytest

from inverters.inversion.provenance import Provenance, differences, reconstruction_name

DECODER = Provenance("vgg19", "original", "00ff", ("relu1_2", "relu4_2"), 512, "decoder", "pixel")
LBFGS = replace(DECODER, method="lbfgs", objective=None, init="noise", preset="gatys", iterations=200, seed=0)
EDITED = replace(DECODER, edits=("drop=0.5", "binarize"), seed=0)
MIXED = replace(DECODER, edits=("binarize", "mix=a/b.jpg:0.25"))
REFINED = replace(LBFGS, method="decoder+lbfgs", objective="pixel", init="decoder", seed=None)


@pytest.mark.parametrize(
    ("provenance", "name", "description"),
    [
        (DECODER, "relu4_2", "pixel decoder"),
        (replace(DECODER, method="perceptual", objective="perceptual"), "relu4_2-perceptual", "perceptual decoder"),
        (replace(DECODER, method="linear", objective="linear"), "relu4_2-linear", "linear decoder"),
        (EDITED, "relu4_2-edited", "pixel decoder, features edited by drop=0.5, binarize (seed 0)"),
        (MIXED, "relu4_2-mix-0.25", "pixel decoder, features edited by binarize, mix=a/b.jpg:0.25"),
        (LBFGS, "relu4_2-lbfgs", "lbfgs from noise (200 iterations, seed 0)"),
        (replace(LBFGS, init="grey", seed=None), "relu4_2-lbfgs-grey", "lbfgs from grey (200 iterations)"),
        (REFINED, "relu4_2-decoder+lbfgs", "lbfgs from the pixel decoder (200 iterations)"),
        (
            replace(LBFGS, method="mahendran-vedaldi", preset="mahendran-vedaldi"),
            "relu4_2-mahendran-vedaldi",
            "mahendran-vedaldi from noise (200 iterations, seed 0)",
        ),
    ],
)
def test_names_and_descriptions(provenance: Provenance, name: str, description: str) -> None:
    assert reconstruction_name("relu4_2", provenance) == name
    assert provenance.describe_method() == description
    assert provenance.describe_network() == ["vgg19", "original weights", "up to 512 pixels"]
    assert replace(provenance, size=None).describe_network()[-1] == "full size"


def test_json_and_back() -> None:
    for provenance in (DECODER, LBFGS, REFINED, EDITED):
        assert Provenance.from_json(asdict(provenance)) == provenance
    values = asdict(DECODER)
    for field in fields(Provenance):
        with pytest.raises(KeyError):
            Provenance.from_json({key: value for key, value in values.items() if key != field.name})


def test_every_key_is_named_where_it_differs() -> None:
    for field in fields(Provenance):
        before = LBFGS
        if field.name == "layers":
            other: object = ("relu1_1",)
        elif field.name == "edits":
            before, other = replace(LBFGS, edits=("drop=0.5",)), ("noise=1", "binarize")
        elif field.name in ("size", "iterations", "seed"):
            other = 3
        else:
            other = "other"
        (difference,) = differences([before], [replace(before, **{field.name: other})])
        assert difference.startswith("the values of the weights" if field.name == "networks" else f"{field.name} (")


def test_differences() -> None:
    assert differences([DECODER], [DECODER]) == []
    assert differences([DECODER, LBFGS], [LBFGS, DECODER]) == []
    assert differences([DECODER], [replace(DECODER, weights="random", networks="11")]) == [
        "weights (original, now random)"
    ]
    assert differences([DECODER], [DECODER, LBFGS]) == ["method (decoder, now decoder, lbfgs)"]
    both = [replace(one, size=None) for one in (DECODER, LBFGS)]
    assert differences([DECODER, LBFGS], both) == ["size (512, now full)"]
