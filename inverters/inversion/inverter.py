"""`Inverter`: an encoder and decoders of its layers, which reconstruct images."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from inverters.data.images import pad_to_multiple
from inverters.decoders.base import Decoder, LayerDict
from inverters.devices import exact_float32, has_fast_bfloat16
from inverters.encoders.base import Encoder, require_finite
from inverters.errors import InverterError, unknown_name
from inverters.inversion.inputs import padded_size, require_features, require_images
from inverters.inversion.tiling import Tile, split

MAX_WHOLE = 2_000_000  # pixels of an image that is inverted in one piece, which takes about 3 GB
TILE = 1024

Progress = Callable[[int, int], None]  # takes the number of finished tiles and of all tiles


class Inverter(nn.Module):
    """An encoder, and decoders for some of its layers.

    Layers of stride 1 are computed in float32: their reconstructions are almost lossless, and bfloat16 would limit
    them. All other layers, and corrections, are computed in bfloat16 on devices with native support for it, and else in
    float32. TF32 is never used. In bfloat16 the last bits of a deep layer's features depend on whether a layer of
    stride 1 is computed in the same pass.

    Args:
        encoder: moved to `device`.
        decoders: by layer of `encoder`; moved to `device`.
        device: from `find_device`.

    Raises:
        UnknownNameError: the encoder does not have one of the layers.
    """

    encoder: Encoder
    decoders: LayerDict[Decoder]

    def __init__(self, encoder: Encoder, decoders: Mapping[str, Decoder], device: torch.device) -> None:
        super().__init__()
        encoder.require_layers(decoders)
        self.encoder = encoder
        self.decoders = LayerDict(decoders)
        self.to(device).to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """The device of the encoder and the decoders."""
        return self.encoder.device

    @property
    def layers(self) -> list[str]:
        """The layers that have a decoder."""
        return list(self.decoders.keys())

    @property
    def input_size(self) -> int | None:
        """The side of the images if the encoder, or a decoder of a vector, takes one size only; else None."""
        return self.encoder.input_size or next(filter(None, (decoder.size for decoder in self.decoders.values())), None)

    @torch.no_grad()
    def encode(self, images: Tensor, layers: Iterable[str] | None = None, exact: bool = False) -> dict[str, Tensor]:
        """Compute the features of `images`.

        Args:
            images: N×3×H×W, RGB in [0, 1], any height and width, on any device.
            layers: names of the encoder's layers; None takes those that have a decoder.
            exact: compute all layers in float32, as optimisation needs them.

        Returns:
            N×C×h×w by layer, on the inverter's device, of the images padded to multiples of `encoder.input_multiple`.

        Raises:
            InverterError: `images` are not such images.
            UnknownNameError: the encoder does not have one of the layers.
        """
        require_images(images)
        return self._encode(self._padded(images), self.layers if layers is None else list(layers), exact)

    @torch.no_grad()
    def decode(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Decode the features of any layers that have a decoder.

        `decode(encode(images), size)` equals `reconstruct(images)` bit for bit, unless that tiles the images.

        Args:
            features: N×C×h×w by layer, as `encode` returns them.
            size: height and width of the images.

        Returns:
            N×3×H×W float32 in [0, 1] by layer, on the inverter's device.

        Raises:
            UnknownNameError: a layer has no decoder.
            InverterError: the features do not have the shape of their layer for images of this size.
        """
        height, width = size
        padded = padded_size(size, self.encoder.input_multiple)
        for layer, some in features.items():
            if layer not in self.decoders:
                raise unknown_name("layer of these decoders", layer, self.layers)
            require_features(some, self.encoder.layers[layer], padded)
            self._require_size(layer, size)
        return {
            layer: self._decode(layer, some.to(self.device))[..., :height, :width] for layer, some in features.items()
        }

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, tile: int | None = None, progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """Reconstruct `images` from the features of every layer that has a decoder.

        Args:
            images: N×3×H×W, RGB in [0, 1], any height and width, on any device.
            tile: invert the images in squares of this side, one after the other, which bounds the memory; in pixels, a
                multiple of `encoder.input_multiple`. Tiles overlap by the receptive field, so tiling does not change
                the result. None takes 1024 for images of more than 2 million pixels, and else no tiles.
            progress: called after each tile.

        Returns:
            N×3×H×W float32 in [0, 1] by layer, on the inverter's device; NaN where a decoder's weights are so damaged
            that its pixels are not finite.

        Raises:
            InverterError: `images` are not such images, `tile` is not such a multiple, or the images need tiles but a
                layer depends on the whole image.
        """
        require_images(images)
        multiple = self.encoder.input_multiple
        if tile is not None and (tile < 1 or tile % multiple):
            raise InverterError(f"tile must be a positive multiple of {multiple}, not {tile}")
        height, width = images.shape[-2:]
        for layer in self.layers:
            self._require_size(layer, (height, width))
        images = self._padded(images)
        if tile is None and images.shape[-2] * images.shape[-1] > MAX_WHOLE:
            tile = TILE
        if tile is None or tile >= max(images.shape[-2:]):
            features = self._encode(images, self.layers)
            results = {layer: self._decode(layer, features.pop(layer)) for layer in self.layers}
            if progress:
                progress(1, 1)
        else:
            results = self._reconstruct_in_tiles(images, tile, progress)
        return {layer: result[..., :height, :width] for layer, result in results.items()}

    def _require_size(self, layer: str, size: tuple[int, int]) -> None:
        """Raise InverterError unless the decoder of a layer can make images of this height and width."""
        side = self.decoders[layer].size
        if side and size != (side, side):
            raise InverterError(
                f"the decoder of {layer} makes images of {side}×{side} pixels only, not {size[1]}×{size[0]}: crop them "
                "by inverters.data.images.center_crop"
            )

    def _padded(self, images: Tensor) -> Tensor:
        return pad_to_multiple(images.to(self.device, torch.float32), self.encoder.input_multiple)

    def _autocast(self, float32: bool) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=not float32 and has_fast_bfloat16(self.device))

    def _encode(self, images: Tensor, layers: Sequence[str], exact: bool = False) -> dict[str, Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        with exact_float32(), self._autocast(exact):
            features: dict[str, Tensor] = self.encoder(images, layers)
        return {layer: features[layer] for layer in layers}

    def _decode(self, layer: str, features: Tensor) -> Tensor:
        decoder = self.decoders[layer]
        with exact_float32(), self._autocast(decoder.needs_float32):
            pixels: Tensor = decoder(features, partial(self._encode_layer, layer))
        pixels = pixels.float()
        if not pixels.isfinite().all():
            require_finite(features, self.encoder.name, layer)
            pixels = pixels.masked_fill(pixels.isinf(), torch.nan)  # which clamping would make black or white
        return pixels.clamp(0, 1)

    def _encode_layer(self, layer: str, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images, [layer])[layer]
        return features

    def _reconstruct_in_tiles(self, images: Tensor, side: int, progress: Progress | None) -> dict[str, Tensor]:
        """Reconstruct padded `images` in tiles of `side` pixels."""
        results = {layer: torch.empty_like(images) for layer in self.layers}
        tiles = split(images.shape[-2], images.shape[-1], side, self._margin())
        for done, tile in enumerate(tiles, start=1):
            self._reconstruct_tile(images, tile, results)
            if progress:
                progress(done, len(tiles))
        return results

    def _margin(self) -> int:
        """Pixels around a tile that its reconstructions depend on, rounded up to a multiple of the encoder's."""
        multiple = self.encoder.input_multiple
        halo = max((self._halo(layer) for layer in self.layers), default=0)
        return -(-halo // multiple) * multiple

    def _halo(self, layer: str) -> int:
        """Pixels around the cell of a feature that the pixels of its cell depend on."""
        halo = self.encoder.layers[layer].halo
        if halo is None:
            raise InverterError(f"{layer} depends on the whole image, which cannot be inverted in tiles: shrink it")
        return halo + self.decoders[layer].halo

    def _reconstruct_tile(self, images: Tensor, tile: Tile, results: dict[str, Tensor]) -> None:
        """Write the reconstructions of the pixels of `tile` into `results`."""
        features = self._encode(images[..., *tile.surroundings], self.layers)
        for layer, decoder in self.decoders.items():
            near = tile.near(decoder.halo, decoder.layer.spatial_stride)
            pixels = self._decode(layer, features.pop(layer)[..., *near.surroundings])
            results[layer][..., *tile.pixels] = pixels[..., *near.pixels]


def weights_digest(networks: Iterable[nn.Module]) -> str:
    """SHA-256 over the names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for network in networks:
        for key, tensor in network.state_dict().items():
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
