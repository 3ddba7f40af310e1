import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from inverters.data.images import round_to_8_bits
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
from inverters.errors import InverterError, UnknownNameError
from inverters.inversion import optimization
from inverters.inversion.optimization import (
    OPTIMIZERS,
    OptimizationResult,
    alpha_norm,
    invert_by_optimization,
    total_variation_norm,
)
from inverters.inversion.presets import PRESETS, OptimizationSettings, find_preset
from inverters.metrics import feature_error, peak_signal_noise_ratio

LAYER, SIZE = "relu1_2", (32, 48)
GATYS, MAHENDRAN_VEDALDI = PRESETS["gatys"], PRESETS["mahendran-vedaldi"]
ADAM = OptimizationSettings("adam", step_size=0.02, noise=0.1)
MOMENTUM = OptimizationSettings("momentum", step_size=1e-3, noise=0.1)


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder([LAYER]).to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Three smooth images."""
    coarse = torch.rand(3, 3, 4, 6, generator=torch.Generator().manual_seed(7))
    return round_to_8_bits(F.interpolate(coarse, SIZE, mode="bicubic"))


@torch.no_grad()
def encode(images: Tensor, encoder: VGGEncoder) -> Tensor:
    return encoder(images, [LAYER])[LAYER]


def optimize(features: Tensor, encoder: VGGEncoder, **options: Any) -> OptimizationResult:
    return invert_by_optimization(features, encoder, encoder.layers[LAYER], SIZE, **options)


def invert(images: Tensor, encoder: VGGEncoder, **options: Any) -> OptimizationResult:
    return optimize(encode(images, encoder), encoder, **options)


def error(preds: Tensor, images: Tensor, encoder: VGGEncoder) -> list[float]:
    """The feature error of each of `preds`, rounded to 8 bits."""
    rounded = round_to_8_bits(preds)
    return [
        feature_error(encode(rounded[i, None], encoder), encode(images[i, None], encoder)).item()
        for i in range(len(preds))
    ]


@contextmanager
def disturbed(encoder: VGGEncoder, disturb: Callable[[int], float]) -> Iterator[list[float]]:
    """Adds `disturb(number of the pass)` to the features; yields the list of what was added."""
    added: list[float] = []

    def hook(_module: object, _inputs: object, features: dict[str, Tensor]) -> dict[str, Tensor]:
        added.append(disturb(len(added)))
        return {layer: tensor + added[-1] for layer, tensor in features.items()}

    handle = encoder.register_forward_hook(hook)
    yield added
    handle.remove()


@pytest.mark.parametrize("settings", [GATYS, MAHENDRAN_VEDALDI, ADAM, MOMENTUM])
def test_the_objective_falls_in_three_steps(
    settings: OptimizationSettings, encoder: VGGEncoder, images: Tensor
) -> None:
    result = invert(images[:1], encoder, settings=settings, iterations=3)
    (losses,) = result.losses
    assert len(losses) == 4
    assert losses[3] < 0.9 * losses[0]
    assert result.images.shape == (1, 3, *SIZE)
    assert 0 <= result.images.min() <= result.images.max() <= 1
    assert result.seconds[0] > 0
    assert result.notes == [None]
    assert not result.interrupted


def test_lbfgs_finds_the_image_that_a_shallow_layer_determines(encoder: VGGEncoder, images: Tensor) -> None:
    result = invert(images[:1], encoder, iterations=60)
    assert result.losses[0][-1] < 1e-4 * result.losses[0][0]
    assert peak_signal_noise_ratio(result.images, images[:1]).item() > 35


@pytest.mark.parametrize(("settings", "most"), [(GATYS, 30), (ADAM, 21), (MOMENTUM, 21)])
def test_encoder_passes_are_counted_and_not_wasted(
    settings: OptimizationSettings, most: int, encoder: VGGEncoder, images: Tensor
) -> None:
    features = encode(images[:1], encoder)
    with disturbed(encoder, lambda _: 0.0) as passes:
        result = invert_by_optimization(
            features, encoder, encoder.layers[LAYER], SIZE, settings=settings, iterations=20
        )
    assert result.encoder_passes == [len(passes)]
    assert 21 <= len(passes) <= most
    assert len(result.losses[0]) == 21


def test_the_first_loss_is_the_objective_at_the_initial_image(encoder: VGGEncoder, images: Tensor) -> None:
    settings = replace(GATYS, total_variation=2.0, alpha_norm=3.0)
    start = images[:1] * 1.2 - 0.1
    result = invert(images[1:2], encoder, settings=settings, iterations=1, init=start)
    before, target = encode(start, encoder).numpy(), encode(images[1:2], encoder).numpy()
    outside = np.maximum(np.abs(2 * start.numpy() - 1) - 1, 0) / 2
    expected = (
        ((before - target) ** 2).sum() / (target**2).sum()
        + 2 * total_variation_norm(start, 2).item()
        + 3 * alpha_norm(start, 6).item()
        + 100 * (outside**2).mean()
    )
    assert (outside > 0).any()
    assert result.losses[0][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
def test_total_variation_and_its_gradient_against_numpy(beta: float) -> None:
    image = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def formula(values: np.ndarray) -> float:
        padded = np.pad(values, ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge")
        rows, columns = padded[..., 1:, :-1] - values, padded[..., :-1, 1:] - values
        return float(np.mean((rows**2 + columns**2) ** (beta / 2)))

    check_value_and_gradient(lambda x: total_variation_norm(x, beta), formula, image)


@pytest.mark.parametrize("alpha", [2.0, 6.0])
def test_alpha_norm_and_its_gradient_against_numpy(alpha: float) -> None:
    image = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check_value_and_gradient(
        lambda x: alpha_norm(x, alpha), lambda values: float(np.mean(np.abs((values - 0.5) / 0.5) ** alpha)), image
    )


def check_value_and_gradient(
    prior: Callable[[Tensor], Tensor], formula: Callable[[np.ndarray], float], image: Tensor
) -> None:
    """`formula`'s gradient is taken by central differences."""
    image.requires_grad_()
    value = prior(image)
    (gradient,) = torch.autograd.grad(value, image)
    point, step = image.detach().numpy(), 1e-6
    differences = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        shift = np.zeros_like(point)
        shift[index] = step
        differences[index] = (formula(point + shift) - formula(point - shift)) / (2 * step)
    assert value.item() == pytest.approx(formula(point), rel=1e-5)
    np.testing.assert_allclose(gradient.numpy(), differences, atol=1e-6)


def test_total_variation_of_a_flat_image_has_a_finite_gradient() -> None:
    image = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(total_variation_norm(image, beta=1.0), image)
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("init", ["noise", "images"])
def test_an_image_does_not_depend_on_its_batch(init: str, encoder: VGGEncoder, images: Tensor) -> None:
    def run(chosen: Tensor) -> OptimizationResult:
        return invert(chosen, encoder, iterations=4, init=chosen.flip(-1) if init == "images" else "noise")

    together, alone = run(images), run(images[1:2])
    assert torch.equal(together.images[1:2], alone.images)
    assert together.losses[1] == alone.losses[0]


def test_noise_is_seeded(encoder: VGGEncoder, images: Tensor) -> None:
    first, again, other = (invert(images[:1], encoder, iterations=2, seed=seed).images for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_grey_starts_from_grey(encoder: VGGEncoder, images: Tensor) -> None:
    result = invert(images[:1], encoder, iterations=1, init="grey")
    grey = torch.full_like(images[:1], 0.5)
    assert math.sqrt(result.losses[0][0]) == pytest.approx(
        feature_error(encode(grey, encoder), encode(images[:1], encoder)).item(), rel=1e-4
    )


def test_a_given_image_gets_closer_in_features(encoder: VGGEncoder, images: Tensor) -> None:
    start = (images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    result = invert(images, encoder, iterations=5, init=start)
    for after, before in zip(error(result.images, images, encoder), error(start, images, encoder), strict=True):
        assert after < before


def test_a_given_image_is_returned_where_the_optimisation_makes_its_features_worse(
    encoder: VGGEncoder, images: Tensor
) -> None:
    start = (images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    flattening = replace(GATYS, total_variation=1e4)
    result = invert(images, encoder, settings=flattening, iterations=5, init=start)
    assert torch.equal(result.images, start)
    free = invert(images, encoder, settings=flattening, iterations=5)
    assert all(
        worse > kept
        for worse, kept in zip(error(free.images, images, encoder), error(start, images, encoder), strict=True)
    )


def test_a_perfect_initial_image_ends_the_optimisation(encoder: VGGEncoder, images: Tensor) -> None:
    result = invert(images[:1], encoder, init=images[:1])
    assert torch.equal(result.images, images[:1])
    assert result.encoder_passes == [1]


def test_after_a_non_finite_objective_it_goes_on_with_half_the_step(
    monkeypatch: pytest.MonkeyPatch, encoder: VGGEncoder, images: Tensor
) -> None:
    step_sizes: list[float] = []

    def momentum(image: Tensor, step_size: float) -> torch.optim.Optimizer:
        step_sizes.append(step_size)
        return OPTIMIZERS["adam"](image, 0.02)

    monkeypatch.setitem(optimization.OPTIMIZERS, "momentum", momentum)
    features = encode(images[:1], encoder)
    with disturbed(encoder, lambda number: math.nan if number == 6 else 0.0):
        result = invert_by_optimization(
            features, encoder, encoder.layers[LAYER], SIZE, settings=MOMENTUM, iterations=10
        )
    assert step_sizes == [1e-3, 0.5e-3]
    assert result.notes == [None]
    assert len(result.losses[0]) == 11
    assert np.isfinite(result.losses[0]).all()


@pytest.mark.parametrize("settings", [GATYS, ADAM])
def test_a_second_non_finite_objective_stops_the_optimisation(
    settings: OptimizationSettings, encoder: VGGEncoder, images: Tensor
) -> None:
    features = encode(images[:1], encoder)
    with disturbed(encoder, lambda number: math.inf if number >= 12 else 0.0):
        result = invert_by_optimization(
            features, encoder, encoder.layers[LAYER], SIZE, settings=settings, iterations=30
        )
    (note,), (losses,) = result.notes, result.losses
    assert note is not None
    assert f"iteration {len(losses)}:" in note
    assert 5 < len(losses) < 13
    assert np.isfinite(losses).all()
    assert error(result.images, images[:1], encoder)[0] == pytest.approx(math.sqrt(min(losses)), rel=0.2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(encoder: VGGEncoder, images: Tensor, value: float) -> None:
    features = encode(images[:1], encoder) * value
    with pytest.raises(InverterError, match=r"^vgg19 gives features at \w+ that are not finite: check its weights"):
        optimize(features, encoder, init=images[1:2])


def test_an_interrupt_keeps_the_best_so_far(encoder: VGGEncoder, images: Tensor) -> None:
    seen: list[tuple[int, int, float]] = []

    def progress(image: int, iteration: int, loss: float) -> None:
        seen.append((image, iteration, loss))
        if (image, iteration) == (1, 5):
            raise KeyboardInterrupt

    result = invert(images, encoder, iterations=8, progress=progress)
    assert result.interrupted
    assert len(result.images) == len(result.losses) == len(result.notes) == 2
    assert [entry[:2] for entry in seen] == [(0, i) for i in range(9)] + [(1, i) for i in range(6)]
    assert result.losses[1] == [loss for image, _, loss in seen if image == 1]
    whole = invert(images[1:2], encoder, iterations=5)
    assert torch.equal(result.images[1:2], whole.images)


def test_an_interrupt_before_the_first_pass_leaves_the_initial_image(encoder: VGGEncoder, images: Tensor) -> None:
    def interrupt(_: int) -> float:
        raise KeyboardInterrupt

    features = encode(images[:1], encoder)
    with disturbed(encoder, interrupt):
        result = optimize(features, encoder, init="grey")
    assert result.interrupted
    assert torch.equal(result.images, torch.full_like(images[:1], 0.5))


def test_what_is_wrong_is_named(encoder: VGGEncoder, images: Tensor) -> None:
    features = encode(images[:1], encoder)
    with pytest.raises(UnknownNameError, match="preset 'gattys': did you mean 'gatys'"):
        find_preset("gattys")
    with pytest.raises(UnknownNameError, match="optimizer 'lbfg': did you mean 'lbfgs'"):
        invert(images, encoder, settings=replace(GATYS, optimizer="lbfg"))
    with pytest.raises(UnknownNameError, match="initial image 'gray': did you mean 'grey'"):
        invert(images, encoder, init="gray")
    with pytest.raises(UnknownNameError, match="layer of vgg19 up to relu1_2 'relu2_1'"):
        invert_by_optimization(features, encoder, vgg_layers("vgg19")["relu2_1"], SIZE)
    with pytest.raises(InverterError, match="iterations must be at least 1, not 0"):
        invert(images, encoder, iterations=0)
    with pytest.raises(InverterError, match="features of relu1_2 must be 1×64×32×32, not 1×64×32×48"):
        invert_by_optimization(features, encoder, encoder.layers[LAYER], (32, 32))
    with pytest.raises(InverterError, match="init must be 1×3×32×48, not 3×3×32×48"):
        invert(images[:1], encoder, init=images)


def test_tf32_is_never_used(encoder: VGGEncoder, images: Tensor) -> None:
    precisions = []

    def note(_: int) -> float:
        precisions.append(torch.backends.cudnn.conv.fp32_precision)
        return 0.0

    before = torch.backends.cudnn.conv.fp32_precision
    features = encode(images[:1], encoder)
    with disturbed(encoder, note):
        optimize(features, encoder, init=images[1:2], iterations=2)
    assert set(precisions) == {"ieee"}
    assert torch.backends.cudnn.conv.fp32_precision == before
