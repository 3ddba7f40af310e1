"""Settings of inversion by optimisation, and those of the papers as presets."""

from dataclasses import dataclass
from typing import Literal

from inverters.errors import unknown_name


@dataclass(frozen=True)
class OptimizationSettings:
    """The optimizer and the priors on the image; see `invert_by_optimization`.

    Attributes:
        optimizer: L-BFGS with a line search, Adam, or gradient descent with momentum.
        step_size: for L-BFGS the first trial of each line search, 1 being the quasi-Newton step; for Adam the change of
            a pixel in one step; for momentum descent the factor of the gradient.
        noise: standard deviation, around mid-grey, of the pixels that optimisation from noise starts from.
        total_variation, beta: weight and exponent of `total_variation_norm`.
        alpha_norm, alpha: weight and exponent of `alpha_norm`.
        box: weight of the mean squared distance of the pixels from [0, 1].
    """

    optimizer: Literal["lbfgs", "adam", "momentum"]
    step_size: float
    noise: float
    total_variation: float = 0.0
    beta: float = 2.0
    alpha_norm: float = 0.0
    alpha: float = 6.0
    box: float = 0.0


PRESETS = {
    # Gatys et al. 2016, with the initial noise and the bounds on pixels of their code (DeepTextures). Deviation: a soft
    # box for the bounds, since torch has no L-BFGS-B. Without any, clamping at the end costs deep layers up to a third.
    "gatys": OptimizationSettings("lbfgs", step_size=1.0, noise=1 / 255, box=100.0),
    # Mahendran & Vedaldi 2015, Sec. 3, and their code (deep-goggle). On z, the image in 0–255 less the mean image, and
    # with σ = 2.71e4 for 227·227·3 values, they add 0.5/σ² Σ‖∇z‖² + 4e-10/σ² Σz⁶ and descend by 0.004 σ² with momentum
    # 0.9; here are the same numbers for means over values in [0, 1]. Deviations: mid-grey for the mean image; one total
    # variation for all layers, that of their first ones (they go up to a hundredfold); the step size stays (they lower
    # it from the 100th of 400 iterations on), since the best point is kept.
    "mahendran-vedaldi": OptimizationSettings(
        "momentum", step_size=2.9e-4, noise=0.27, total_variation=6.8, beta=2.0, alpha_norm=0.36, alpha=6.0
    ),
}


def find_preset(name: str) -> OptimizationSettings:
    """The settings of this name in `PRESETS`; raises UnknownNameError."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
