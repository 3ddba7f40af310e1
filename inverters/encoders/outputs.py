"""What the modules of a network return, and how it becomes features, N×C×h×w."""

from collections.abc import Iterator
from math import isqrt
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

MAX_PREFIX = 64  # class and register tokens
TOLERANCE = 0.05  # of a stride: networks without padding lose a few positions

Shape = tuple[int, ...]
Size = tuple[int, int]  # height and width


class Form(NamedTuple):
    """How a module's output holds features.

    Attributes:
        kind: `channels-first` N×C×h×w, `channels-last` N×h×w×C, `tokens` N×L×C, `channel-tokens` N×C×L, or `vector`:
            N×C, or a form of it with dimensions of 1.
        channels: C.
        stride: input pixels per position; None for vectors.
        prefix: number of tokens before those of the image, such as class and register tokens.
    """

    kind: Literal["channels-first", "channels-last", "tokens", "channel-tokens", "vector"]
    channels: int
    stride: int | None = None
    prefix: int = 0

    def features(self, output: Tensor, size: Size) -> Tensor:
        """Convert the output for images of `size` to N×C×⌊H/stride⌋×⌊W/stride⌋, or N×C×1×1 for a vector.

        The grid of a network that does not pad its input has fewer positions. Those at its edges are then repeated.
        """
        if self.stride is None:
            return output.reshape(output.shape[0], self.channels, 1, 1)
        height, width = (side // self.stride for side in size)
        if self.kind == "channels-last":
            output = output.permute(0, 3, 1, 2)
        elif self.kind == "tokens":
            output = output[:, self.prefix :].mT.reshape(output.shape[0], self.channels, height, width)
        elif self.kind == "channel-tokens":
            output = output[:, :, self.prefix :].reshape(output.shape[0], self.channels, height, width)
        missing = (width - output.shape[3], height - output.shape[2])
        if any(missing):
            sides = [part for count in missing for part in (count // 2, count - count // 2)]
            output = F.pad(output, sides, mode="replicate")  # crops where the count is negative
        return output


def first_tensor(output: Any) -> Tensor | None:
    """The output if it is a tensor, or the first element of a tuple if that is one."""
    if isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def find_form(shapes: list[Shape], sizes: list[Size], batch: int, grids: list[Form]) -> Form | str:
    """How outputs of these shapes hold features, or a clause that says why they do not.

    Args:
        shapes: of the output for images of each of `sizes`, the first of which is square.
        sizes: one or two; from two, strides and axes follow without a doubt.
        batch: the number of images.
        grids: the forms of earlier outputs that had four dimensions.
    """
    shape = shapes[0]
    if any(len(other) != len(shape) for other in shapes) or any(other[:1] != (batch,) for other in shapes):
        return f"its output {_product(shape)} for {batch} images has no dimension for them"
    if len(shape) > 1 and all(sum(side > 1 for side in other[1:]) <= 1 for other in shapes) and len(set(shapes)) == 1:
        return Form("vector", max(shape[1:]))
    candidates = {4: _grids, 3: _tokens}.get(len(shape))
    for form in candidates(shapes, sizes, grids) if candidates else ():
        return form
    return f"its output {_product(shape)} for images of {_product(sizes[0])} is neither a grid nor tokens nor a vector"


def _grids(shapes: list[Shape], sizes: list[Size], grids: list[Form]) -> Iterator[Form]:
    """The forms that fit four dimensions; that of the last grid first, for shapes such as N×56×56×56."""
    axes: dict[Literal["channels-first", "channels-last"], tuple[int, int, int]] = {
        "channels-first": (2, 3, 1),
        "channels-last": (1, 2, 3),
    }
    for kind in sorted(axes, key=lambda kind: bool(grids) and kind != grids[-1].kind):
        rows, columns, channels = axes[kind]
        strides = {
            *_strides([shape[rows] for shape in shapes], [height for height, _ in sizes]),
            *_strides([shape[columns] for shape in shapes], [width for _, width in sizes]),
        }
        if len({shape[channels] for shape in shapes}) == len(strides) == 1 and None not in strides:
            yield Form(kind, shapes[0][channels], strides.pop())


def _strides(counts: list[int], sides: list[int]) -> Iterator[int | None]:
    """The stride at which so many positions cover images of these sides; None if there is no such stride."""
    if len(counts) == 2:
        if counts[0] >= counts[1]:
            yield None
            return
        counts, sides = [counts[1] - counts[0]], [sides[1] - sides[0]]
    exact = sides[0] / counts[0]
    yield round(exact) if exact > 0.5 and abs(exact - round(exact)) <= TOLERANCE * exact else None


def _tokens(shapes: list[Shape], sizes: list[Size], grids: list[Form]) -> Iterator[Form]:
    """The forms that fit three dimensions, of which either of the last two may count the tokens."""
    for kind, length, channels in (("tokens", 1, 2), ("channel-tokens", 2, 1)):
        lengths = [shape[length] for shape in shapes]
        if len({shape[channels] for shape in shapes}) > 1:
            continue
        areas = [height * width for height, width in sizes]
        if len(lengths) == 2:
            if lengths[0] >= lengths[1]:
                continue
            strides = [isqrt((areas[1] - areas[0]) // (lengths[1] - lengths[0]))]
        else:
            strides = [grid.stride for grid in reversed(grids) if grid.stride] + [isqrt(areas[0] // lengths[0])]
        for stride in strides:
            counts = [(height // stride) * (width // stride) for height, width in sizes] if stride else []
            prefixes = {tokens - count for tokens, count in zip(lengths, counts, strict=False)}
            if len(prefixes) == 1 and 0 <= min(prefixes) <= MAX_PREFIX:
                yield Form(kind, shapes[0][channels], stride, prefixes.pop())  # type: ignore[arg-type]


def _product(shape: Shape) -> str:
    return "×".join(map(str, shape))
