"""Functions from the features of one layer, N×C×h×w, to features; a vector for the whole image is N×C×1×1.

Most are experiments of Dosovitskiy & Brox 2016 (Inverting Visual Representations with Convolutional Networks), who
perturb, interpolate and sample the features of AlexNet and decode the result.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from inverters.inversion.tiling import Region


def drop(features: Tensor, probability: float, generator: Generator) -> Tensor:
    """Set each value to 0 with this probability; the others stay as they are.

    Dosovitskiy & Brox 2016 drop half of the values of a layer, to see how redundant it is.
    """
    kept = torch.rand(features.shape, generator=generator) >= probability
    return features * kept.to(features.device)


def top(features: Tensor, count: int) -> Tensor:
    """Keep the `count` largest values of each position, and set the others to 0.

    Dosovitskiy & Brox 2016 keep the five largest class scores, to see how much of the image the others hold, which
    Hinton et al. 2015 call dark knowledge.
    """
    values, channels = features.topk(count, dim=1)
    return torch.zeros_like(features).scatter_(1, channels, values)


def binarize(features: Tensor) -> Tensor:
    """Replace each nonzero value by the mean of the nonzero ones of its image.

    Where values have signs, they keep them, and the mean is that of the magnitudes. What is left says *which* features
    are active, but not how strongly (Dosovitskiy & Brox 2016).
    """
    dimensions = (1, 2, 3)
    active = (features != 0).sum(dimensions, keepdim=True).clamp_min(1)
    return features.sign() * (features.abs().sum(dimensions, keepdim=True) / active)


def noise(features: Tensor, amount: float, std: Tensor, generator: Generator) -> Tensor:
    """Add normal noise of `amount` standard deviations of each channel, `std` 1×C×1×1.

    The features may become negative, also after a ReLU.
    """
    return features + amount * std * torch.randn(features.shape, generator=generator).to(features)


def channels(features: Tensor, numbers: Sequence[int]) -> Tensor:
    """Keep these channels, and set the others to 0."""
    return features - without(features, numbers)


def without(features: Tensor, numbers: Sequence[int]) -> Tensor:
    """Set these channels to 0: a lesion, in the words of neuroscience."""
    edited = features.clone()
    edited[:, list(numbers)] = 0
    return edited


def keep(features: Tensor, box: Region) -> Tensor:
    """Keep the positions inside a box, rows and columns of the features, and set the others to 0."""
    edited = torch.zeros_like(features)
    edited[..., *box] = features[..., *box]
    return edited


def erase(features: Tensor, box: Region) -> Tensor:
    """Set the positions inside a box to 0. Neighbours that saw the box remember it: they show how local the code is."""
    edited = features.clone()
    edited[..., *box] = 0
    return edited


def shift(features: Tensor, right: int, down: int) -> Tensor:
    """Move the features by so many positions; those that come in from outside are 0."""
    return F.pad(features, (right, -right, down, -down))


def mix(features: Tensor, other: Tensor, weight: float) -> Tensor:
    """(1 − weight) · features + weight · other: interpolation between two images (Dosovitskiy & Brox 2016)."""
    return torch.lerp(features, other, weight)


def swap(features: Tensor, other: Tensor, box: Region) -> Tensor:
    """Take the positions inside a box from the features of another image."""
    edited = features.clone()
    edited[..., *box] = other[..., *box]
    return edited


def random(features: Tensor, mean: Tensor, std: Tensor, generator: Generator, nonnegative: bool) -> Tensor:
    """Draw all values independently, from the mean and the standard deviation of each channel, 1×C×1×1.

    Dosovitskiy & Brox 2016 decode such random features to see what a decoder believes to be an image. Assumed is a
    normal distribution or, for features that are never negative, a rectified one: max(0, z), z normal, with this mean
    and standard deviation after the rectification. Of `features` only the shape counts.
    """
    centre, scale = _rectified(mean, std) if nonnegative else (mean, std)
    values = centre + scale * torch.randn(features.shape, generator=generator).to(features)
    return values.clamp_min(0) if nonnegative else values


def again(features: Tensor, passes: int, encode_decoded: Callable[[Tensor], Tensor]) -> Tensor:
    """Decode the features and encode the image, `passes` times over: what drifts is not a fixed point."""
    for _ in range(passes):
        features = encode_decoded(features)
    return features


def _rectified(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """The centre and the scale of normal values that have this mean and standard deviation once they are rectified.

    With z ~ N(t, 1), max(0, z) has the mean t·Φ(t) + φ(t) and the second moment (t² + 1)·Φ(t) + t·φ(t). The ratio of
    its mean to its standard deviation grows with t, which is looked up.
    """
    t = torch.linspace(-5, 10, 15_001, dtype=torch.float64)
    cdf, pdf = torch.special.ndtr(t), torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    first = t * cdf + pdf
    deviation = ((t.square() + 1) * cdf + t * pdf - first.square()).sqrt()
    wanted = (mean / std).cpu().double()
    index = torch.searchsorted(first / deviation, wanted).clamp_max(len(t) - 1)
    scale = std.cpu().double() / deviation[index]
    centre = torch.where(wanted > t[-1], mean.cpu().double(), t[index] * scale)  # far from 0, nothing is rectified
    return centre.to(mean), scale.to(std)
