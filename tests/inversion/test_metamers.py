"""Metamers of small networks whose null spaces are known."""

import pytest
import torch
from torch import Tensor, nn

from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.inversion.metamers import SMALLEST_ERROR, Metamers, find_metamers
from inverters.metrics import feature_error

pytestmark = pytest.mark.usefixtures("one_thread")


def encoder(*weights: list[float]) -> NetworkEncoder:
    """A 1×1 convolution: at each pixel a linear map of its colour, a row for each channel."""
    convolution = nn.Conv2d(3, len(weights), 1, bias=False)
    convolution.weight.data = torch.tensor(weights)[:, :, None, None]
    return NetworkEncoder(nn.Sequential(convolution), Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 32))


def photograph() -> Tensor:
    return 0.2 + 0.6 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def found(network: NetworkEncoder, init: Tensor | None = None, iterations: int = 200) -> tuple[Metamers, Tensor]:
    features = network(photograph(), ["0"])["0"]
    start = photograph() if init is None else init
    return find_metamers(features, network, network.layers["0"], start, iterations), features


def test_metamers_of_a_linear_layer_differ_in_its_null_space() -> None:
    """The layer sees the sum of the channels only: all other colours are open."""
    network = encoder([1.0, 1.0, 1.0])
    metamers, features = found(network)
    assert metamers.images.shape == (2, 3, 32, 32)
    assert metamers.images.min() >= 0 and metamers.images.max() <= 1
    first, second = metamers.images.double()
    difference = first - second
    assert difference.sum(0).norm() < 1e-2 * difference.norm()
    errors = feature_error(network(metamers.images, ["0"])["0"], features)
    assert errors.tolist() == pytest.approx(metamers.errors)
    assert max(metamers.errors) <= metamers.largest_error == SMALLEST_ERROR
    assert metamers.distance < 11
    assert metamers.distance == pytest.approx(-10 * difference.square().mean().log10().item(), abs=0.1)


def test_an_invertible_layer_leaves_nothing_open() -> None:
    metamers, _ = found(encoder([1.0, 0.2, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 1.0]))
    assert metamers.distance > 50  # twice the smallest error, seen through the inverse of the map
    assert max(metamers.errors) <= metamers.largest_error


def test_they_agree_as_well_as_optimisation_from_the_same_image() -> None:
    """After a single step from mid-grey features agree badly, and more is open."""
    network = encoder([1.0, 1.0, 1.0], [0.0, 1.0, -1.0])
    metamers, features = found(network, torch.full((1, 3, 32, 32), 0.5), iterations=1)
    reference = feature_error(network(metamers.reference[None], ["0"])["0"], features).item()
    assert metamers.largest_error == pytest.approx(reference)
    assert reference > 0.01
    assert max(metamers.errors) <= reference * (1 + 1e-6)


def test_the_seed_decides() -> None:
    network = encoder([1.0, 1.0, 1.0])
    features, layer = network(photograph(), ["0"])["0"], network.layers["0"]
    first, again, other = (find_metamers(features, network, layer, photograph(), 10, seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
