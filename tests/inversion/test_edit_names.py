"""Edits as text."""

import pytest

from inverters.encoders.layers import Layer
from inverters.errors import InverterError, UnknownNameError
from inverters.inversion.edit_names import EDITS, Edit, check_layer, forms, parse_edit, split_edits, sweep

GRID = Layer("relu2_2", channels=128, stride=2, receptive_field=14, stage="block2")
VECTOR = Layer("logits", channels=10, stride=None, receptive_field=None, stage="head")


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("drop=0.5", Edit("drop", (0.5,))),
        ("drop=.5", Edit("drop", (0.5,))),
        ("top=5", Edit("top", (5,))),
        ("binarize", Edit("binarize")),
        ("noise=0.3", Edit("noise", (0.3,))),
        ("channels=3,17", Edit("channels", (3, 17))),
        ("without=0", Edit("without", (0,))),
        ("keep=0,10,100,200", Edit("keep", (0, 10, 100, 200))),
        ("erase=0,0,1,1", Edit("erase", (0, 0, 1, 1))),
        ("shift=-16,32", Edit("shift", (-16, 32))),
        ("mix=a:b, c.jpg:0.25", Edit("mix", (0.25,), "a:b, c.jpg")),
        ("mix=a=b.jpg:0..1:5", Edit("mix", (0, 0.25, 0.5, 0.75, 1), "a=b.jpg")),
        ("swap=other.jpg:0,0,10,10", Edit("swap", (0, 0, 10, 10), "other.jpg")),
        ("random", Edit("random")),
        ("again=3", Edit("again", (3,))),
    ],
)
def test_edits_are_parsed(text: str, edit: Edit) -> None:
    assert parse_edit(text) == edit
    if ".." not in text:
        assert parse_edit(str(edit)) == edit


def test_a_string_is_what_was_parsed() -> None:
    for text in ("drop=0.5", "binarize", "mix=a.jpg:0.333333", "keep=0,0,1000000,7", "shift=-16,0"):
        assert str(parse_edit(text)) == text
    assert [form.partition("=")[0] for form in forms()] == list(EDITS)


@pytest.mark.parametrize(
    "text",
    [
        *("drop", "drop=", "drop=1.5", "drop=-0.1", "drop=nan", "drop=half", "drop=0.1,0.2", "drop=0..1:5"),
        *("top=0", "top=1.5", "top=-1", "binarize=1", "binarize=", "random=3", "noise=-1", "noise=1e999", "noise=inf"),
        *("channels=", "channels=1,,2", "channels=-1", "channels=1.5", "without"),
        *("keep=0,0,10", "keep=10,0,10,5", "keep=-1,0,10,5", "erase=0,0,1.5,2", "shift=1", "shift=0.5,1"),
        *(
            "mix",
            "mix=a.jpg",
            "mix=0.5",
            "mix=:0.5",
            "mix=a.jpg:1.5",
            "mix=a.jpg:0..2:3",
            "mix=a.jpg:0..1:1",
            "mix=a.jpg:1..1:3",
        ),
        *("mix=a.jpg:0..1:101", "swap=a.jpg", "swap=0,0,1,1", "swap=a.jpg:0,0", "again=0", "again=1.5"),
    ],
)
def test_what_is_out_of_range_is_told_how_it_is_written(text: str) -> None:
    with pytest.raises(InverterError) as error:
        parse_edit(text)
    name, kind = text.partition("=")[0], EDITS[text.partition("=")[0]]
    takes = f"is written {name}={kind.value}, with {kind.meaning}" if kind.value else "takes no value"
    assert str(error.value) == f"{name} {takes}; not {text!r}"


def test_an_unknown_edit_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown edit 'binarise': did you mean 'binarize'\? Valid: drop, top"):
        parse_edit("binarise")


def test_commas_between_numbers_belong_to_an_edit() -> None:
    assert split_edits("drop=0.5, binarize,channels=3,17,noise=.3,") == [
        *("drop=0.5", "binarize", "channels=3,17", "noise=.3"),
    ]
    assert split_edits("") == []


def test_a_range_of_weights_is_one_list_of_edits_for_each() -> None:
    edits = [parse_edit(text) for text in ("drop=0.5", "mix=a.jpg:0..1:3", "binarize")]
    assert [[str(edit) for edit in some] for some in sweep(edits)] == [
        ["drop=0.5", f"mix=a.jpg:{weight}", "binarize"] for weight in ("0", "0.5", "1")
    ]
    assert sweep(edits[:1]) == [(edits[0],)]
    with pytest.raises(InverterError, match="only one mix can have a range"):
        sweep([edits[1], edits[1]])


@pytest.mark.parametrize(
    ("text", "layer", "message"),
    [
        ("top=129", GRID, "top=129: relu2_2 has 128 channels"),
        ("channels=3,128", GRID, "channels=3,128: relu2_2 has the channels 0 to 127"),
        ("without=10", VECTOR, "without=10: logits has the channels 0 to 9"),
        ("keep=0,0,8,8", VECTOR, "keep needs positions, but logits is one vector for the whole image"),
        ("shift=8,8", VECTOR, "shift needs positions, but logits is one vector for the whole image"),
    ],
)
def test_what_does_not_fit_a_layer(text: str, layer: Layer, message: str) -> None:
    with pytest.raises(InverterError) as error:
        check_layer(parse_edit(text), layer)
    assert str(error.value) == message


def test_what_fits_a_layer() -> None:
    for text in ("top=10", "channels=9", "without=9", "drop=1", "binarize", "mix=a.jpg:0.5"):
        check_layer(parse_edit(text), VECTOR)
