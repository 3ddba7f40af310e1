"""How well the features of a reconstruction agree with the photograph's."""

from collections.abc import Mapping

import torch
from torch import Tensor

from inverters.data.images import pad_to_multiple, round_to_8_bits
from inverters.encoders.layers import Layer
from inverters.inversion.inverter import MAX_WHOLE, TILE, Inverter
from inverters.inversion.tiling import Tile, split


@torch.no_grad()
def feature_errors(
    inverter: Inverter, images: Tensor, preds: Mapping[str, Tensor], tile: int | None = None
) -> dict[str, Tensor]:
    """`metrics.feature_error` of reconstructions as they are shown, rounded to 8 bits, in float32.

    Args:
        inverter: whose encoder computes the features.
        images: N×3×H×W in [0, 1], on any device.
        preds: their reconstructions by layer, likewise.
        tile: side of the tiles in which large images are encoded, see `Inverter.reconstruct`.

    Returns:
        N values by layer, on the inverter's device.
    """
    encoder, layers = inverter.encoder, list(preds)
    originals = pad_to_multiple(images.to(inverter.device), encoder.input_multiple)
    shown = {
        layer: pad_to_multiple(round_to_8_bits(one.to(inverter.device)), encoder.input_multiple)
        for layer, one in preds.items()
    }
    height, width = originals.shape[-2:]
    side = tile or (TILE if height * width > MAX_WHOLE else max(height, width))
    margin = max((encoder.layers[layer].halo or 0 for layer in layers), default=0)
    error = {layer: torch.zeros(len(images), device=inverter.device) for layer in layers}  # sums of squares
    power = {layer: torch.zeros(len(images), device=inverter.device) for layer in layers}
    for part in split(height, width, side, -(-margin // encoder.input_multiple) * encoder.input_multiple):
        targets = inverter.encode(originals[..., *part.surroundings], layers, exact=True)
        for layer, one in shown.items():
            target = _inside(targets.pop(layer), encoder.layers[layer], part)
            features = inverter.encode(one[..., *part.surroundings], [layer], exact=True)[layer]
            error[layer] += (_inside(features, encoder.layers[layer], part) - target).square().sum(dim=(1, 2, 3))
            power[layer] += target.square().sum(dim=(1, 2, 3))
    return {layer: (error[layer] / power[layer]).sqrt() for layer in layers}


def _inside(features: Tensor, layer: Layer, tile: Tile) -> Tensor:
    """The features of the pixels of a tile, out of those of its surroundings."""
    return features if layer.stride is None else features[..., *tile.near(0, layer.stride).surroundings]
