"""Which methods can invert which layers."""

from pathlib import Path

import pytest
from conftest import publish_tiny

from inverters.errors import CheckpointError, UnknownNameError
from inverters.inversion.selection import missing_decoders, select_methods


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoders for relu1_1, relu1_2 and relu2_1, a linear one for relu1_2."""
    root = publish_tiny(tmp_path_factory.mktemp("checkpoints"), ("relu1_1", "relu1_2", "relu2_1"))
    return publish_tiny(root, ("relu1_2",), objective="linear")


@pytest.mark.parametrize(
    ("methods", "layers", "selection"),
    [
        (["decoder"], None, {"relu1_2": ["decoder"], "relu2_1": ["decoder"]}),
        (["linear"], None, {"relu1_2": ["linear"]}),
        (["linear"], "all", {"relu1_2": ["linear"]}),
        (["linear", "lbfgs"], None, {"relu1_2": ["linear", "lbfgs"]}),
        (["decoder", "linear"], None, {"relu1_2": ["decoder", "linear"], "relu2_1": ["decoder"]}),
        (["linear+lbfgs", "lbfgs"], ["relu1_1"], {"relu1_1": ["lbfgs"]}),
        (
            ["decoder", "linear"],
            "all",
            {"relu1_1": ["decoder"], "relu1_2": ["decoder", "linear"], "relu2_1": ["decoder"]},
        ),
    ],
)
def test_a_layer_has_the_methods_that_have_its_decoder(
    methods: list[str], layers: list[str] | None, selection: dict[str, list[str]], checkpoints: Path
) -> None:
    assert select_methods(methods, layers, "vgg19", "random", checkpoints) == selection


def test_optimisation_needs_no_decoders() -> None:
    nowhere = Path("/nowhere")
    usual = ["relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2"]
    assert select_methods(["lbfgs"], None, "vgg19", "random", nowhere) == {layer: ["lbfgs"] for layer in usual}
    assert select_methods(["lbfgs"], ["pool3"], "vgg19", "random", nowhere) == {"pool3": ["lbfgs"]}
    assert len(select_methods(["lbfgs"], "all", "vgg19", "random", nowhere)) == 37


@pytest.mark.parametrize(
    ("methods", "layers", "message"),
    [
        (["linear"], ["relu1_1", "relu1_2"], "no linear decoder for relu1_1 under {}. Available: relu1_2. Train one"),
        (["perceptual"], None, "no perceptual decoder for vgg19 under {}. Available: none. Train one"),
        (
            ["decoder", "linear"],
            ["relu1_1", "relu3_1"],
            "no decoder for relu3_1 under {}. Available: linear (relu1_2), pixel (relu1_1, relu1_2, relu2_1)",
        ),
        (["perceptual", "lbfgs"], "all", "no decoder for vgg19 under {}. Available: perceptual (none). Train one"),
    ],
)
def test_a_layer_without_any_method_is_refused(
    methods: list[str], layers: list[str] | None, message: str, checkpoints: Path
) -> None:
    with pytest.raises(CheckpointError) as raised:
        select_methods(methods, layers, "vgg19", "random", checkpoints)
    assert str(raised.value).startswith(message.format(checkpoints / "vgg19-random"))


def test_mistyped_weights_are_named_where_there_is_no_decoder(checkpoints: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown weights of vgg19 'orignal': did you mean 'original'"):
        select_methods(["decoder"], None, "vgg19", "orignal", checkpoints)


def test_missing_decoders_are_listed_by_method() -> None:
    selection = {"relu1_1": ["decoder"], "relu1_2": ["decoder", "linear"], "relu2_1": ["decoder"]}
    assert missing_decoders(["decoder", "linear"], selection) == {"linear": ["relu1_1", "relu2_1"]}
