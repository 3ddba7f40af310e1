"""Metamers: images that differ, but have the same features as a photograph (Feather et al. 2019).

A decoder shows one image for given features. How far two images with these features can be apart is what the layer
leaves open, whatever decodes it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inverters.data.images import round_to_8_bits
from inverters.devices import exact_float32
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.inversion.optimization import OPTIMIZERS, invert_by_optimization
from inverters.metrics import feature_error, peak_signal_noise_ratio

SMALLEST_ERROR = 1e-3  # smaller feature errors count as this one: rounding to 8 bits makes about three times as much
FIRST_DISTANCE = 0.02  # standard deviation of the noise by which the two images differ at first
ROUNDS = 5  # of the augmented Lagrangian, between which its multipliers are updated
BOX = 100.0  # weight of the mean squared distance of pixels from [0, 1], as in the preset gatys
PENALTY = 1.0  # of a relative excess of the squared error, doubled in each round
RESTORATIONS = 10  # at most, of an image that violates the constraint
MARGIN = 0.1  # of the squared error, by which a restored image is to stay below the largest
HALVINGS = 20  # of the way back to the first image, if that does not help

Progress = Callable[[int, int, float], None]  # takes the steps done, those to do, and the distance in dB


@dataclass(frozen=True)
class Metamers:
    """Two images with the features of a third.

    Attributes:
        images: 2×3×H×W in [0, 1].
        errors: their feature errors, at most `largest_error`.
        reference: the image that optimisation finds without regard to any distance, 3×H×W in [0, 1].
        largest_error: its feature error, or `SMALLEST_ERROR` where that is larger.
    """

    images: Tensor
    errors: tuple[float, float]
    reference: Tensor
    largest_error: float

    @property
    def distance(self) -> float:
        """PSNR in dB between the two as 8-bit images: infinite if they are equal, the smaller the further apart."""
        return _decibels(self.images)


@exact_float32()
def find_metamers(
    features: Tensor,
    encoder: Encoder,
    layer: Layer,
    init: Tensor,
    iterations: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> Metamers:
    """Find two images that are as far apart as possible among those with the features φ₀.

    L-BFGS takes `iterations` steps from `init` towards an image with the features φ₀. Its feature error ε says how well
    features can be made to agree. From there, two images x₁, x₂ maximise log ‖x₁ − x₂‖² under ‖φ(xᵢ) − φ₀‖ ≤ ε‖φ₀‖, by
    an augmented Lagrangian (Nocedal & Wright 2006, Sec. 17.4) that L-BFGS minimises in as many steps. If they violate
    the constraint at the end, further steps lower their errors alone, and if that does not suffice, they are moved
    towards the first image until they meet it. The search is local, so that images that are still further apart may
    exist.

    Args:
        features: φ₀, 1×C×h×w, of `layer`, on the encoder's device.
        encoder, layer: φ.
        init: 1×3×H×W in [0, 1], such as a decoder's reconstruction; sides are multiples of `encoder.input_multiple`.
        iterations: steps of L-BFGS, twice.
        seed: of the noise by which the two images differ at first.
        progress: called after each round of the second search.

    Raises:
        InverterError: see `invert_by_optimization`.
    """
    size = (init.shape[2], init.shape[3])
    found = invert_by_optimization(features, encoder, layer, size, iterations=iterations, init=init)
    if found.interrupted:
        raise KeyboardInterrupt
    search = _Search(features.float(), encoder, layer.name, found.images)
    images = search.run(iterations, seed, progress)
    first, second = search.errors(images).tolist()
    return Metamers(images, (first, second), found.images[0], search.largest)


class _Search:
    """The maximisation of the distance between two images around a reference, 1×3×H×W, that meets the constraint."""

    def __init__(self, features: Tensor, encoder: Encoder, layer: str, reference: Tensor) -> None:
        self.features, self.encoder, self.layer = features, encoder, layer
        self.reference = reference.to(features.device)
        self.largest = max(SMALLEST_ERROR, self.errors(self.reference).item())
        self.multipliers = torch.full((2,), 0.5, device=features.device)  # the optimum if features are linear in pixels
        self.penalty = PENALTY

    @torch.no_grad()
    def errors(self, images: Tensor) -> Tensor:
        """The feature errors of N×3×H×W images."""
        return feature_error(self.encoder(images, [self.layer])[self.layer], self.features)

    def run(self, iterations: int, seed: int, progress: Progress | None) -> Tensor:
        """The two images, 2×3×H×W in [0, 1]."""
        noise = torch.randn(self.reference.shape, generator=torch.Generator().manual_seed(seed)).to(self.reference)
        pixels = torch.cat([self.reference + FIRST_DISTANCE * noise, self.reference - FIRST_DISTANCE * noise])
        steps = -(-iterations // ROUNDS)
        for number in range(ROUNDS):
            self._descend(pixels, steps, self._lagrangian)
            excess = self._excess(pixels.clamp(0, 1))
            self.multipliers = (self.multipliers + self.penalty * excess).clamp(min=0)
            self.penalty *= 2
            if progress:
                progress((number + 1) * steps, ROUNDS * steps, _decibels(pixels.clamp(0, 1)))
        for _ in range(RESTORATIONS):
            if (self.errors(pixels.clamp(0, 1)) <= self.largest).all():
                break
            self._descend(pixels, steps, self._violation)
        return torch.cat([self._feasible(image[None]) for image in pixels.clamp(0, 1)])

    def _descend(self, pixels: Tensor, steps: int, objective: Callable[[Tensor], Tensor]) -> None:
        """Change `pixels`, which may leave [0, 1], by steps of L-BFGS that minimise `objective` of images within it."""
        pixels.requires_grad_()
        optimizer = OPTIMIZERS["lbfgs"](pixels, 1.0)
        optimizer.param_groups[0] |= {"max_iter": steps, "max_eval": 2 * steps}

        @torch.enable_grad()
        def evaluate() -> Tensor:
            images = pixels.clamp(0, 1)
            value = objective(images) + BOX * (pixels - images).square().mean()
            (pixels.grad,) = torch.autograd.grad(value, pixels)
            return value.detach()

        optimizer.step(evaluate)  # type: ignore[arg-type]
        pixels.requires_grad_(False)

    def _lagrangian(self, images: Tensor) -> Tensor:
        """−log ‖x₁ − x₂‖² and the terms of the constraints."""
        distance = (images[0] - images[1]).square().mean()
        constraints = (self.multipliers + self.penalty * self._excess(images)).clamp(min=0).square() / 2 / self.penalty
        return constraints.sum() - distance.log()

    def _violation(self, images: Tensor) -> Tensor:
        """How far the constraints are violated: zero from a margin within them on."""
        return (self._excess(images) + MARGIN).clamp(min=0).square().sum()

    def _excess(self, images: Tensor) -> Tensor:
        """Squared feature errors over the square of the largest that is allowed, minus 1: at most 0 if they are met."""
        features: Tensor = self.encoder(images, [self.layer])[self.layer]
        errors = (features - self.features).square().sum(dim=(1, 2, 3)) / self.features.square().sum()
        return errors / self.largest**2 - 1

    def _feasible(self, image: Tensor) -> Tensor:
        """The point between the reference and an image, 1×3×H×W, as close to the latter as the constraint allows."""
        if self.errors(image).item() <= self.largest:
            return image
        nearest, low, high = self.reference, 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            point = self.reference.lerp(image, middle)
            if self.errors(point).item() <= self.largest:
                nearest, low = point, middle
            else:
                high = middle
        return nearest


def _decibels(images: Tensor) -> float:
    """PSNR between two images as 8-bit images."""
    first, second = round_to_8_bits(images)
    return peak_signal_noise_ratio(first[None], second[None]).item()
