"""Settings of inversion by optimisation, with those of the papers as presets."""

from dataclasses import dataclass
from typing import Literal

from inverters.errors import unknown_name


@dataclass(frozen=True)
class OptimizationSettings:
    """The optimizer and the priors on the image; see `invert_by_optimization`.

    Attributes:
        optimizer: L-BFGS with a line search, Adam, or gradient descent with momentum.
        step_size: for L-BFGS the first step that each line search tries, where 1 is the quasi-Newton step; for Adam the
            change of a pixel per step; for momentum the factor of the gradient.
        noise: standard deviation of the initial pixels around mid-grey, for `init="noise"`.
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
    # box replaces the bounds, since torch has no L-BFGS-B. Without either, clamping the result raises the feature error
    # of deep layers by up to a third.
    "gatys": OptimizationSettings("lbfgs", step_size=1.0, noise=1 / 255, box=100.0),
    # Mahendran & Vedaldi 2015, Sec. 3, and their code (deep-goggle). With z, the image in 0–255 minus the mean image,
    # and σ = 2.71e4 for 227·227·3 values, they add 0.5/σ² Σ‖∇z‖² + 4e-10/σ² Σz⁶ to the objective and descend with step
    # size 0.004 σ² and momentum 0.9. These are the same numbers, converted to means over values in [0, 1]. Deviations:
    # mid-grey replaces the mean image; all layers have the weight of total variation of their first ones (which grows
    # up to a hundredfold); the step size is constant (theirs falls from iteration 100 of 400 on), since the best point
    # is kept.
    "mahendran-vedaldi": OptimizationSettings(
        "momentum", step_size=2.9e-4, noise=0.27, total_variation=6.8, beta=2.0, alpha_norm=0.36, alpha=6.0
    ),
}


def find_preset(name: str) -> OptimizationSettings:
    """The settings of this name in `PRESETS`.

    Raises:
        UnknownNameError: there is no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
