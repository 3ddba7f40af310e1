"""Edits of features between `encode` and `decode`: what the decoders make of them shows what the features mean.

edited = edits.apply(inverter.encode(images), ["drop=0.5", "noise=0.3"], inverter, size)
reconstructions = inverter.decode(edited, size)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from inverters.data.images import center_crop, load_image, resize_shorter_side
from inverters.encoders.layers import Layer
from inverters.errors import InverterError
from inverters.inversion import edit_functions as functions
from inverters.inversion.edit_names import Edit, check_layer, check_size, parse_edit
from inverters.inversion.inverter import Inverter
from inverters.inversion.tiling import Region


@torch.no_grad()
def apply(
    features: Mapping[str, Tensor],
    edits: Sequence[str | Edit],
    inverter: Inverter,
    size: tuple[int, int],
    seed: int = 0,
) -> dict[str, Tensor]:
    """Apply edits, one after the other, to the features of each layer.

    Args:
        features: N×C×h×w by layer, as `inverter.encode` returns them.
        edits: such as `"drop=0.5"`; see `edit_names.EDITS`. Another image (`mix`, `swap`) is shrunk to the shorter side
            of `size`, or cropped where only images of one size can be decoded. Boxes and shifts are in pixels: a box
            takes every position whose pixels it touches, and a shift is rounded to positions.
        inverter: what computed the features. Its decoders hold the statistics that `noise` and `random` need.
        size: height and width of the images.
        seed: of the random edits. The draws are made on the CPU, so they do not depend on the device, and anew for each
            layer, so they do not depend on the other layers.

    Returns:
        The edited features by layer, of the same shapes.

    Raises:
        UnknownNameError: there is no such edit.
        ImageError: another image cannot be read.
        InverterError: an edit does not fit a layer, the size or another image, or a layer lacks the decoder it needs.
    """
    parsed = [parse_edit(edit) if isinstance(edit, str) else edit for edit in edits]
    for edit in parsed:
        if edit.name == "mix" and len(edit.numbers) > 1:
            raise InverterError("a mix over a range of weights makes several images: give it one weight")
        check_size(edit, size)
        for layer in features:
            check_layer(edit, inverter.encoder.layers[layer])
    others = {
        edit.other: inverter.encode(_other(edit, inverter, size), features.keys()) for edit in parsed if edit.other
    }
    edited = {}
    for layer, some in features.items():
        some = some.to(inverter.device)
        context = _Context(inverter, inverter.encoder.layers[layer], size, Generator().manual_seed(seed), some)
        for edit in parsed:
            some = _apply(edit, some, context, others[edit.other][layer] if edit.other else some)
        edited[layer] = some
    return edited


@dataclass(frozen=True)
class _Context:
    """What edits of a layer need beside its features, and these before any edit."""

    inverter: Inverter
    layer: Layer
    size: tuple[int, int]
    generator: Generator
    unedited: Tensor

    def statistics(self) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of each channel, 1×C×1×1, over the decoder's training data."""
        name = self.layer.name
        if name not in self.inverter.decoders:
            raise InverterError(
                f"noise and random take the statistics of a layer from its decoder; {name} has none here"
            )
        decoder = self.inverter.decoders[name]
        return decoder.mean, decoder.std

    def box(self, edit: Edit) -> Region:
        """The positions whose pixels a box touches."""
        left, top, right, bottom = (int(number) for number in edit.numbers)
        stride = self.layer.spatial_stride
        return slice(top // stride, -(-bottom // stride)), slice(left // stride, -(-right // stride))

    def steps(self, edit: Edit) -> tuple[int, int]:
        """The positions to the right and down that a shift is rounded to."""
        right, down = edit.numbers
        return round(right / self.layer.spatial_stride), round(down / self.layer.spatial_stride)

    def encode_decoded(self, features: Tensor) -> Tensor:
        """The features of the reconstruction from features."""
        name = self.layer.name
        return self.inverter.encode(self.inverter.decode({name: features}, self.size)[name], [name])[name]


def _apply(edit: Edit, features: Tensor, context: _Context, other: Tensor) -> Tensor:
    """Apply one edit to the features of a layer; `other` are those of another image."""
    numbers = edit.numbers
    match edit.name:
        case "drop":
            return functions.drop(features, numbers[0], context.generator)
        case "top":
            return functions.top(features, int(numbers[0]))
        case "noise":
            return functions.noise(features, numbers[0], context.statistics()[1], context.generator)
        case "channels":
            return functions.channels(features, [int(number) for number in numbers])
        case "without":
            return functions.without(features, [int(number) for number in numbers])
        case "keep":
            return functions.keep(features, context.box(edit))
        case "erase":
            return functions.erase(features, context.box(edit))
        case "shift":
            return functions.shift(features, *context.steps(edit))
        case "mix":
            return functions.mix(features, other, numbers[0])
        case "swap":
            return functions.swap(features, other, context.box(edit))
        case "random":
            nonnegative = bool((context.unedited >= 0).all())
            return functions.random(features, *context.statistics(), context.generator, nonnegative)
        case "again":
            return functions.again(features, int(numbers[0]), context.encode_decoded)
        case _:
            return functions.binarize(features)


def _other(edit: Edit, inverter: Inverter, size: tuple[int, int]) -> Tensor:
    """The other image of an edit, 1×3×H×W, at the size of the images."""
    image = load_image(edit.other or "")
    if inverter.input_size:
        (image,) = center_crop(image[None], inverter.input_size, inverter.encoder.input_crop)
    image = resize_shorter_side(image, min(size))
    if image.shape[1:] != size:
        (height, width), (high, wide) = size, image.shape[1:]
        raise InverterError(
            f"{edit.name} needs images of one shape: {edit.other} has {wide}×{high} pixels when shrunk to fit, not "
            f"{width}×{height}"
        )
    return image[None]
