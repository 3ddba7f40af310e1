"""Measuring on which pixels features depend, without knowing the network.

A pixel that is not a number makes exactly those features not a number that depend on it: convolutions, pooling,
normalisation, activations and attention all pass it on, whatever the weights are.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from inverters.devices import exact_float32

LENGTHS = (512, 4096)  # pixels of the strips that are tried; what depends on more counts as the whole image
THICKEST = 512  # pixels of strips; networks without padding take no thin ones
IMAGES = 4  # of a batch
TOLERANCE = 1e-3  # of the largest feature, between the features of an image and of the same image shifted

Run = Callable[[Tensor, Collection[str]], Mapping[str, Tensor]]  # from images to N×C×h×w by layer


class Extent(NamedTuple):
    """On which pixels a feature depends: `Layer.receptive_field` and `Layer.reach`."""

    receptive_field: int
    reach: int


@torch.no_grad()
@exact_float32()
def measure_extents(
    run: Run, strides: Mapping[str, int], multiple: int, size: int | None = None
) -> dict[str, Extent | None]:
    """Measure the extents of layers; None where a feature depends on the whole image.

    It also counts as the whole image if features do not move with the image when that is shifted by `multiple` pixels,
    as where a network has attention in windows, or knows positions. Tiles would change such features.

    Args:
        run: computes the features.
        strides: by layer.
        multiple: of all strides.
        size: the side of the images, if the network takes one size only.
    """
    extents: dict[str, Extent | None] = dict.fromkeys(strides)
    waiting, thickness = dict(strides), size or _thickness(run, strides, multiple)
    for length in [size] if size else [length // multiple * multiple for length in LENGTHS]:
        strips = _Strips(run, waiting, multiple, length, thickness, bool(size))
        columns, rows = strips.bounds([strips.centre]), strips.bounds([strips.centre], upright=True)
        farthest = {name: max(*columns[name][0], *rows[name][0]) for name in waiting}
        near = {name: bound for name, bound in farthest.items() if math.isfinite(bound)}
        waiting = {name: stride for name, stride in waiting.items() if farthest[name] == math.inf}
        if near:
            if not size:  # the shortest strip that shows both ends in every phase
                length = 2 * multiple * math.ceil(max(near.values()) / multiple + 3)
            extents |= replace(strips, strides={name: strides[name] for name in near}, length=length).extents()
        if not waiting:
            break
    return extents


def _thickness(run: Run, strides: Mapping[str, int], multiple: int) -> int:
    """The smallest height of strips that the network takes."""
    thickness = multiple
    while thickness < THICKEST:
        try:
            run(torch.zeros(1, 3, thickness, 2 * thickness), list(strides))
        except Exception:  # of any kind, such as for a kernel that is larger than its input
            thickness *= 2
        else:
            break
    return thickness


class _Bounds(NamedTuple):
    """Pixels between a column and the first ones of the outermost cells whose features depend on it, on each side.

    Infinite where these cells are the last ones of the strip, and negative infinite where there are none.
    """

    left: float
    right: float


@dataclass(frozen=True)
class _Strips:
    """Strips of an image, in which single columns are not a number.

    Attributes:
        run, strides, multiple: see `measure_extents`.
        length, thickness: in pixels.
        fixed: whether the network takes no other size.
    """

    run: Run
    strides: Mapping[str, int]
    multiple: int
    length: int
    thickness: int
    fixed: bool

    @property
    def centre(self) -> int:
        return self.length // 2 // self.multiple * self.multiple

    def bounds(self, columns: Sequence[int], upright: bool = False) -> dict[str, list[_Bounds]]:
        """The bounds by layer for each of `columns`, or with `upright` for rows."""
        found: dict[str, list[_Bounds]] = {name: [] for name in self.strides}
        for start in range(0, len(columns), IMAGES):
            some = columns[start : start + IMAGES]
            images = torch.full((len(some), 3, self.thickness, self.length), 0.5)
            for image, column in zip(images, some, strict=True):
                image[:, :, column] = torch.nan
            for name, features in self.run(images.mT if upright else images, list(self.strides)).items():
                depends = features.isnan().any(dim=1).any(dim=2 if upright else 1).cpu()
                found[name] += [
                    _bounds(one, self.strides[name], column) for one, column in zip(depends, some, strict=True)
                ]
        return found

    def extents(self) -> dict[str, Extent]:
        """The extents of the layers whose features move with the image, from every phase of a column in a cell."""
        steady = self._steady()
        if not steady:
            return {}
        strips = replace(self, strides={name: self.strides[name] for name in steady})
        phases = range(self.centre, self.centre + self.multiple)
        found = strips.bounds(phases)
        rows = strips.bounds([self.centre], upright=True)
        if any(rows[name][0] != found[name][0] for name in found):
            rows = strips.bounds(phases, upright=True)
        extents = {}
        for name, stride in strips.strides.items():
            period = stride if self.fixed else self.multiple
            bounds = [*found[name][:period], *rows[name][:period]]
            left, right = (max(sides) for sides in zip(*bounds, strict=True))
            if math.isfinite(left) and math.isfinite(right):
                # A feature depends on the pixels from `right` before the first one of its cell to `left` after it.
                extents[name] = Extent(int(left + right) + 1, int(max(right, left - (stride - 1))))
        return extents

    def _steady(self) -> list[str]:
        """The layers whose features move with the image when it is shifted, by how much tiles may be."""
        if self.fixed:  # no tiles: where one feature sees the same as the next, it is no window
            shifts = {stride: self.bounds([self.centre, self.centre - stride]) for stride in set(self.strides.values())}
            pairs = {name: shifts[stride][name] for name, stride in self.strides.items()}
            return [name for name, (first, second) in pairs.items() if first == second]
        bounds = self.bounds([self.centre, self.centre - self.multiple])
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(1, 3, self.thickness, self.length + self.multiple, generator=generator)
        here = self.run(noise[..., : -self.multiple], list(self.strides))
        there = self.run(noise[..., self.multiple :], list(self.strides))
        steady = []
        for name, stride in self.strides.items():
            column = self.centre // stride
            first, second = here[name][..., column], there[name][..., column - self.multiple // stride]
            same = (first - second).abs().max() <= TOLERANCE * first.abs().max()
            if same and bounds[name][0] == bounds[name][1]:
                steady.append(name)
        return steady


def _bounds(depends: Tensor, stride: int, column: int) -> _Bounds:
    """The bounds of a column, where `depends` says which columns of the features depend on it."""
    dependent = depends.nonzero().flatten().tolist()
    if not dependent:
        return _Bounds(-math.inf, -math.inf)
    first, last = dependent[0], dependent[-1]
    left = math.inf if first == 0 else column - stride * first
    right = math.inf if last == len(depends) - 1 else stride * last - column
    return _Bounds(left, right)
