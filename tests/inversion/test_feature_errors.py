"""Feature errors of reconstructions, and where they stand among those of photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import publish_tiny
from torch import Tensor, nn

from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.inversion.error_quantiles import QUANTILES, error_quantiles
from inverters.inversion.feature_errors import feature_errors
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.inversion.verdicts import percentile

LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture
def inverter(tmp_path: Path) -> Inverter:
    return load_inverter(LAYERS, weights="random", checkpoints=publish_tiny(tmp_path), device="cpu")


def images(count: int = 2, height: int = 46, width: int = 61) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_it_is_that_of_the_8_bit_image(inverter: Inverter) -> None:
    targets = images()
    preds = inverter.reconstruct(targets)
    errors = feature_errors(inverter, targets, preds)
    assert list(errors) == list(LAYERS)
    for layer, one in preds.items():
        shown = torch.from_numpy(np.round(one.numpy() * 255).astype(np.uint8)).float() / 255
        features, target = (
            inverter.encoder(nn.functional.pad(some, (0, 3, 0, 18), mode="replicate"), [layer])[layer].double()
            for some in (shown, targets)
        )
        for number in range(2):
            expected = (features[number] - target[number]).norm() / target[number].norm()
            assert errors[layer][number].item() == pytest.approx(expected.item(), rel=1e-5)


def test_tiles_do_not_change_it(inverter: Inverter) -> None:
    targets = images(1, 70, 100)
    preds = inverter.reconstruct(targets)
    whole, tiled = feature_errors(inverter, targets, preds), feature_errors(inverter, targets, preds, tile=32)
    for layer in LAYERS:
        assert tiled[layer].item() == pytest.approx(whole[layer].item(), rel=1e-5)


def test_vectors_have_one_too() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = NetworkEncoder(network, Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 32))
    target, other = images(1, 32, 32), images(2, 32, 32)[1:]
    error = feature_errors(Inverter(encoder, {}, torch.device("cpu")), target, {"3": other})["3"]
    with torch.no_grad():
        expected = (network(other.mul(255).round() / 255) - network(target)).norm() / network(target).norm()
    assert error.item() == pytest.approx(expected.item(), rel=1e-5)


def test_quantiles_are_those_of_numpy(inverter: Inverter) -> None:
    batches = [images(3), torch.empty(0, 3, 1, 1), images(1, 20, 33), images(7, 30, 30)]
    found = error_quantiles(inverter, iter(batches))
    for layer in LAYERS:
        errors = torch.cat(
            [feature_errors(inverter, some, inverter.reconstruct(some))[layer] for some in batches if len(some)]
        )
        expected = np.quantile(errors.numpy(), np.linspace(0, 1, QUANTILES))
        assert found[layer] == pytest.approx(expected, rel=1e-3)


def test_the_percentile_of_a_quantile_is_its_own() -> None:
    quantiles = np.sort(np.random.default_rng(0).random(QUANTILES)).tolist()
    grid = np.linspace(0, 100, QUANTILES)
    assert [percentile(value, quantiles) for value in quantiles] == pytest.approx(grid)
    for error in np.linspace(0, 1, 50):
        assert percentile(float(error), quantiles) == pytest.approx(np.interp(error, quantiles, grid))


@pytest.mark.parametrize(("error", "expected"), [(0.1, 0), (0.2, 0), (0.3, 75), (0.4, 100), (9, 100)])
def test_equal_quantiles(error: float, expected: float) -> None:
    """Whoever equals the smallest error is better than all others."""
    assert percentile(error, [0.2, 0.2, 0.4]) == pytest.approx(expected)
