"""Inversion by optimisation: descend from an initial image to one with the same features.

The slow reference method. Mahendran & Vedaldi 2015 (Eq. 1) introduced it with a prior on the image; Gatys et al. 2016
(Fig. 1) use it without one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from inverters.data.images import round_to_8_bits
from inverters.devices import exact_float32
from inverters.encoders.base import Encoder, require_finite
from inverters.encoders.layers import Layer
from inverters.errors import InverterError, unknown_name
from inverters.inversion.inputs import require_features, require_shape
from inverters.inversion.presets import PRESETS, OptimizationSettings
from inverters.metrics import feature_error

OPTIMIZERS: dict[str, Callable[[Tensor, float], Optimizer]] = {
    "lbfgs": lambda image, step_size: torch.optim.LBFGS(
        [image],
        lr=step_size,
        max_iter=1,  # one iteration per step
        max_eval=26,  # leaves the line search 25; torch's default of 1.25 · max_iter leaves it none
        tolerance_grad=0,  # torch's tolerances are absolute, and the objective is small long before its minimum
        tolerance_change=0,
        history_size=20,  # as in Gatys' code; each entry holds two images
        line_search_fn="strong_wolfe",
    ),
    "adam": lambda image, step_size: torch.optim.Adam([image], lr=step_size),
    "momentum": lambda image, step_size: torch.optim.SGD([image], lr=step_size, momentum=0.9),
}

Progress = Callable[[int, int, float], None]  # takes the index of the image, the iteration and the objective


def total_variation_norm(images: Tensor, beta: float) -> Tensor:
    """TV^β: the mean of (Δx² + Δy²)^(β/2) over N×3×H×W; differences past the border are 0 (M&V 2015)."""
    rows = F.pad(images.diff(dim=-2), (0, 0, 0, 1))
    columns = F.pad(images.diff(dim=-1), (0, 1))
    return (rows.square() + columns.square() + 1e-12).pow(beta / 2).mean()  # for β = 1 the root has no gradient at 0


def alpha_norm(images: Tensor, alpha: float) -> Tensor:
    """The mean of |2x − 1|^α, which for a large α is almost 0 inside [0, 1] and steep outside (M&V 2015)."""
    return (2 * images - 1).abs().pow(alpha).mean()


@dataclass(frozen=True)
class OptimizationResult:
    """The result of `invert_by_optimization`. Every list has one entry per image.

    Attributes:
        images: N×3×H×W in [0, 1], the points of the lowest objective.
        losses: the objective at the initial image and after each iteration.
        seconds: duration.
        encoder_passes: forward and backward passes through the encoder.
        notes: why the optimisation ended early, or None.
        interrupted: Ctrl-C ended the last of these optimisations; the images after it are left out.
    """

    images: Tensor
    losses: list[list[float]]
    seconds: list[float]
    encoder_passes: list[int]
    notes: list[str | None]
    interrupted: bool


@exact_float32()
def invert_by_optimization(
    features: Tensor,
    encoder: Encoder,
    layer: Layer,
    size: tuple[int, int],
    *,
    settings: OptimizationSettings = PRESETS["gatys"],
    iterations: int = 200,
    init: Tensor | Literal["noise", "grey"] = "noise",
    seed: int = 0,
    progress: Progress | None = None,
) -> OptimizationResult:
    """Find images x with the features φ₀: minimise ‖φ(x) − φ₀‖² / ‖φ₀‖² plus the priors of `settings`.

    Every image is optimised on its own, in float32. Ctrl-C ends the optimisation and keeps the best point so far.

    Args:
        features: φ₀, N×C×h×w, on the encoder's device.
        encoder: φ.
        layer: the layer of the encoder that the features come from.
        size: height and width of the images, multiples of `encoder.input_multiple`.
        settings: the optimizer and the priors.
        iterations: number of steps. A step of L-BFGS takes one encoder pass, occasionally a few.
        init: the initial images: `noise`, the same for every image; `grey`; or N×3×H×W in [0, 1], such as the
            reconstructions of a decoder. Given images are returned where the optimum, rounded to 8 bits, has the larger
            feature error.
        seed: seed of the noise.
        progress: called at the initial image, as iteration 0, and after each iteration.

    Raises:
        UnknownNameError: the encoder does not reach `layer`, or there is no such optimizer or `init`.
        InverterError: the features or `init` do not have the shape that `size` asks for, features are not finite, or
            `iterations` is below 1.
    """
    if settings.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", settings.optimizer, OPTIMIZERS)
    if iterations < 1:
        raise InverterError(f"iterations must be at least 1, not {iterations}")
    encoder.require_layers([layer.name])
    require_features(features, layer, size)
    require_finite(features, encoder.name, layer.name)
    count = len(features)
    if isinstance(init, Tensor):
        require_shape("init", init, (count, 3, *size))
        starts = init
    else:
        starts = _initial_image(init, size, settings.noise, seed).expand(count, -1, -1, -1)

    descents: list[_Descent] = []
    for number in range(count):
        descent = _Descent(features[number, None], encoder, layer.name, settings, starts[number, None])
        descents.append(descent)
        descent.run(iterations, partial(progress, number) if progress else None)
        if descent.interrupted:
            break
    return OptimizationResult(
        images=torch.cat([descent.result(keep_start=isinstance(init, Tensor)) for descent in descents]),
        losses=[descent.losses for descent in descents],
        seconds=[descent.seconds for descent in descents],
        encoder_passes=[descent.passes for descent in descents],
        notes=[descent.note for descent in descents],
        interrupted=descents[-1].interrupted,
    )


def _initial_image(init: str, size: tuple[int, int], noise: float, seed: int) -> Tensor:
    if init not in ("noise", "grey"):
        raise unknown_name("initial image", init, ("noise", "grey"))
    std = noise if init == "noise" else 0.0
    return 0.5 + std * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))


class _Point(NamedTuple):
    """An image, 1×3×H×W, with the value that the optimizer minimises, 3·H·W times the objective, and its gradient."""

    image: Tensor
    value: float
    gradient: Tensor


class _Descent:
    """The optimisation of one image."""

    def __init__(
        self, features: Tensor, encoder: Encoder, layer: str, settings: OptimizationSettings, start: Tensor
    ) -> None:
        self.features, self.encoder, self.layer, self.settings = features.float(), encoder, layer, settings
        self.start = self.image = start.to(features.device, torch.float32).contiguous()
        self.points: list[_Point] = []  # the best one and the latest one
        self.losses: list[float] = []
        self.seconds, self.passes, self.interrupted = 0.0, 0, False
        self.note: str | None = None

    @property
    def best(self) -> Tensor:
        return self.points[0].image if self.points else self.start

    def run(self, iterations: int, report: Callable[[int, float], None] | None) -> None:
        """Descend. If the objective becomes non-finite, continue once from the best point with half the step size."""
        started = time.perf_counter()
        for step_size in (self.settings.step_size, self.settings.step_size / 2):
            try:
                self._descend(step_size, iterations, report)
            except FloatingPointError:
                continue
            except KeyboardInterrupt:
                self.interrupted = True
            break
        else:
            self.note = f"stopped in iteration {len(self.losses)}: the objective is not finite, even with half the step"
        self.seconds = time.perf_counter() - started

    def _descend(self, step_size: float, iterations: int, report: Callable[[int, float], None] | None) -> None:
        self.image = self.best.clone().requires_grad_()
        optimizer = OPTIMIZERS[self.settings.optimizer](self.image, step_size)
        while len(self.losses) <= iterations:
            passes = self.passes
            if self.losses:
                optimizer.step(self._evaluate)
            self.losses.append(self._evaluate() / self.image.numel())
            if report:
                report(len(self.losses) - 1, self.losses[-1])
            if self.passes == passes:  # the gradient is zero
                break

    def _evaluate(self) -> float:
        """Return the value at `self.image` and set its gradient, without an encoder pass if both are known."""
        known = [point for point in self.points if torch.equal(point.image, self.image)]
        point = known[0] if known else self._measure()
        self.image.grad = point.gradient
        return point.value

    @torch.enable_grad()
    def _measure(self) -> _Point:
        self.passes += 1
        value = self._objective(self.image) * self.image.numel()
        if not value.isfinite():
            raise FloatingPointError
        (gradient,) = torch.autograd.grad(value, self.image)
        point = _Point(self.image.detach().clone(), value.item(), gradient.contiguous())
        self.points = [min([*self.points[:1], point], key=lambda known: known.value), point]
        return point

    def _objective(self, image: Tensor) -> Tensor:
        settings = self.settings
        features: Tensor = self.encoder(image, [self.layer])[self.layer]
        loss: Tensor = (
            (features - self.features).square().sum() / self.features.square().sum()
            + settings.total_variation * total_variation_norm(image, settings.beta)
            + settings.alpha_norm * alpha_norm(image, settings.alpha)
            + settings.box * (image - image.clamp(0, 1)).square().mean()
        )
        return loss

    def result(self, keep_start: bool) -> Tensor:
        """The best image in [0, 1]; with `keep_start` the initial one if its feature error in 8 bits is smaller."""
        best = self.best.clamp(0, 1)
        return self.start if keep_start and not self._error(best) <= self._error(self.start) else best

    @torch.no_grad()
    def _error(self, image: Tensor) -> float:
        return feature_error(self.encoder(round_to_8_bits(image), [self.layer])[self.layer], self.features).item()
