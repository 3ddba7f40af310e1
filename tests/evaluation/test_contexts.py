from pathlib import Path

import pytest
import torch
from conftest import TINY_LAYERS, publish_tiny

from inverters.evaluation.contexts import load_contexts
from inverters.inversion.optimization import OptimizationResult


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoders for relu1_1, relu1_2 and relu2_1, a linear one for relu1_2."""
    root = publish_tiny(tmp_path_factory.mktemp("checkpoints"), ("relu1_1", "relu1_2", "relu2_1"))
    return publish_tiny(root, ("relu1_2",), objective="linear")


def test_a_context_runs_each_of_its_methods(checkpoints: Path) -> None:
    selection = {"relu1_1": ["decoder", "decoder+lbfgs"], "relu1_2": ["linear"]}
    contexts, digest = load_contexts(selection, "vgg19", "random", checkpoints, torch.device("cpu"), None, 1, 0)
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    for context in contexts:
        assert list(context.methods) == selection[context.layer]
        for method in context.methods:
            found, seconds = context.run(method, image)
            assert found.images.shape == image.shape
            assert seconds > 0
    assert len(digest) == 64


def test_the_digest_tells_decoders_apart(checkpoints: Path) -> None:
    digests = {
        load_contexts({"relu1_2": methods}, "vgg19", "random", checkpoints, torch.device("cpu"), None, 1, 0)[1]
        for methods in (["decoder"], ["decoder", "linear"], ["lbfgs"])
    }
    assert len(digests) == 3


def test_ctrl_c_during_an_optimisation_ends_the_evaluation(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.zeros(1, 3, 32, 32)
    stopped = OptimizationResult(image, [[0.0]], [0.0], [1], [None], interrupted=True)
    monkeypatch.setattr("inverters.inversion.methods.invert_by_optimization", lambda *_, **__: stopped)
    selection = {layer: ["lbfgs"] for layer in TINY_LAYERS}
    contexts, _ = load_contexts(selection, "vgg19", "random", checkpoints, torch.device("cpu"), None, 1, 0)
    with pytest.raises(KeyboardInterrupt):
        contexts[0].run("lbfgs", image)
