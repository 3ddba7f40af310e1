"""`invert`: reconstruct one image, in one call."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from inverters.data.images import resize_shorter_side, to_image
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.errors import unknown_name
from inverters.inversion.inversion import Inversion
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.inversion.runner import make_runner


def invert(
    image: str | Path | bytes | Image.Image | np.ndarray | Tensor,
    layers: str | Iterable[str] | None = None,
    *,
    size: int | None = 512,
    encoder: str = DEFAULT_ENCODER,
    weights: str | None = None,
    checkpoints: Path | str | None = None,
    objective: str = "pixel",
    corrections: int | None = None,
    device: str = "auto",
    inverter: Inverter | None = None,
) -> Inversion:
    """Reconstruct an image from the features of several layers.

    Args:
        image: a path, a PIL image, an array (uint8 or floating-point in [0, 1], H×W×3) or a tensor (3×H×W); see
            `to_image`.
        layers: a name, several of them, or `"all"` that have a decoder; None takes the last of these in each stage.
        size: pixels to which the shorter side of a larger image is shrunk; None keeps its size.
        encoder, weights, checkpoints, objective, corrections, device: what to load; see `load_inverter`.
        inverter: an inverter to use, so that it is loaded once for many images; `encoder`, `weights`, `checkpoints` and
            `device` are then ignored, and `objective` and `corrections` are recorded as those of its decoders.

    Raises:
        ImageError: the image cannot be read, or is of another kind.
        UnknownNameError: a layer, encoder, set of weights or objective does not exist.
        CheckpointError: a decoder is missing, damaged, or belongs to another encoder.
        WeightsError: the encoder's weights cannot be found or downloaded.
        InverterError: there is no such device.
    """
    pixels = to_image(image)
    if inverter is None:
        inverter = load_inverter(layers, encoder, weights, checkpoints, device, objective, corrections)
    elif layers is not None and layers != "all":
        inverter = _restricted(inverter, [layers] if isinstance(layers, str) else list(layers))
    source = str(image) if isinstance(image, str | Path) else None
    runner = make_runner(inverter, size, objective=objective, corrections=corrections)
    return runner.run(resize_shorter_side(pixels, shorter) if (shorter := runner.shorter_side) else pixels, source)


def _restricted(inverter: Inverter, layers: Sequence[str]) -> Inverter:
    """The inverter with only the decoders of these layers."""
    for layer in layers:
        if layer not in inverter.decoders:
            raise unknown_name("layer of this inverter", layer, inverter.layers)
    decoders = {layer: inverter.decoders[layer] for layer in inverter.layers if layer in layers}
    return Inverter(inverter.encoder, decoders, inverter.device)
