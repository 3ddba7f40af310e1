"""The `Inverter`: an encoder and decoders of its layers, ready to reconstruct images."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from inverters.data.images import pad_to_multiple
from inverters.decoders.base import Decoder, LayerDict
from inverters.devices import exact_float32, has_fast_bfloat16
from inverters.encoders.base import Encoder
from inverters.errors import InverterError
from inverters.inversion.tiling import Tile, split

MAX_WHOLE = 2_000_000  # pixels of an image that is inverted in one piece: about 3 GB
TILE = 1024

Progress = Callable[[int, int], None]  # is told the number of tiles done, and of all


class Inverter(nn.Module):
    """An encoder and a decoder for each of some of its layers: reconstructs images from each of these layers.

    Layers at full resolution are computed in float32 (they are almost lossless, and bfloat16 would be the limit), all
    others in bfloat16 where the device computes it natively. TF32 is never used.
    """

    encoder: Encoder

    def __init__(self, encoder: Encoder, decoders: Mapping[str, Decoder], device: torch.device) -> None:
        super().__init__()
        encoder.require_layers(decoders)
        self.encoder = encoder
        self.decoders = LayerDict(decoders)
        self.to(device).to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.device

    @property
    def layers(self) -> list[str]:
        """The layers that it has a decoder for."""
        return list(self.decoders.keys())

    @torch.no_grad()
    def encode(self, images: Tensor, layers: Iterable[str] | None = None, exact: bool = False) -> dict[str, Tensor]:
        """The features of `images`.

        Args:
            images: N×3×H×W, RGB in [0, 1], any height and width, on any device.
            layers: of the encoder; None takes those that have a decoder.
            exact: compute every layer in float32, which optimisation needs.

        Returns:
            N×C×h×w by layer, on the inverter's device, of the images padded to a multiple of every stride.

        Raises:
            InverterError: `images` is not of that kind.
            UnknownNameError: the encoder does not reach a layer.
        """
        _require_images(images)
        return self._encode(self._padded(images), self.layers if layers is None else list(layers), exact)

    @torch.no_grad()
    def decode(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """The images that the decoders make of `features`.

        Args:
            features: N×C×h×w by layer, as `encode` returns them; any of the layers.
            size: height and width of the images.

        Returns:
            N×3×H×W float32 in [0, 1] by layer. `decode(encode(images), size)` is `reconstruct(images)`, bit for bit,
            where that uses no tiles.
        """
        height, width = size
        return {
            layer: self._decode(layer, some.to(self.device))[..., :height, :width] for layer, some in features.items()
        }

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, tile: int | None = None, progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """The reconstruction of each image from each layer.

        Args:
            images: N×3×H×W, RGB in [0, 1], any height and width, on any device.
            tile: side in pixels, a multiple of `encoder.input_multiple`, of the squares that images are inverted in one
                after the other, which bounds the memory. Tiles overlap by the receptive field, so tiling does not
                change the result. None takes 1024 where an image has more than 2 million pixels.
            progress: called after each tile with the number of tiles done and of all.

        Returns:
            N×3×H×W float32 in [0, 1] by layer, on the inverter's device.

        Raises:
            InverterError: `images` is not of that kind, or `tile` is not such a number.
        """
        _require_images(images)
        multiple = self.encoder.input_multiple
        if tile is not None and (tile < 1 or tile % multiple):
            raise InverterError(f"tile must be a positive multiple of {multiple}, not {tile}")
        height, width = images.shape[-2:]
        images = self._padded(images)
        if tile is None:
            tile = TILE if height * width > MAX_WHOLE else max(images.shape[-2:])
        tiles = split(images.shape[-2], images.shape[-1], tile, self._margin())
        results = {layer: torch.empty_like(images) for layer in self.layers}
        for done, part in enumerate(tiles, start=1):
            self._reconstruct_tile(images, part, results)
            if progress:
                progress(done, len(tiles))
        return {layer: result[..., :height, :width] for layer, result in results.items()}

    def _padded(self, images: Tensor) -> Tensor:
        return pad_to_multiple(images.to(self.device, torch.float32), self.encoder.input_multiple)

    def _in_float32(self, layer: str) -> bool:
        return self.encoder.layers[layer].stride == 1 or not has_fast_bfloat16(self.device)

    def _autocast(self, float32: bool) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=not float32)

    def _encode(self, images: Tensor, layers: Sequence[str], exact: bool = False) -> dict[str, Tensor]:
        self.encoder.require_layers(layers)
        images = images.contiguous(memory_format=torch.channels_last)
        features: dict[str, Tensor] = {}
        float32 = [layer for layer in layers if exact or self._in_float32(layer)]
        for some in filter(None, (float32, [layer for layer in layers if layer not in float32])):
            with exact_float32(), self._autocast(some is float32):
                features |= self.encoder(images, some)
        return {layer: features[layer] for layer in layers}

    def _decode(self, layer: str, features: Tensor) -> Tensor:
        with exact_float32(), self._autocast(self._in_float32(layer)):
            pixels: Tensor = self.decoders[layer](features, partial(self._encode_layer, layer))
        return pixels.float().clamp(0, 1)

    def _encode_layer(self, layer: str, images: Tensor) -> Tensor:
        found: Tensor = self.encoder(images, [layer])[layer]
        return found

    def _margin(self) -> int:
        """Pixels around a tile that its reconstructions depend on; a multiple of the encoder's."""
        multiple = self.encoder.input_multiple
        halo = max((self._halo(layer) for layer in self.layers), default=0)
        return -(-halo // multiple) * multiple

    def _halo(self, layer: str) -> int:
        of_layer = self.encoder.layers[layer].halo
        if of_layer is None:
            raise InverterError(f"{layer} depends on the whole image, which therefore cannot be inverted in tiles")
        return of_layer + self.decoders[layer].halo

    def _reconstruct_tile(self, images: Tensor, tile: Tile, results: dict[str, Tensor]) -> None:
        """Write the reconstructions of the pixels of `tile` into `results`."""
        features = self._encode(images[..., *tile.surroundings], self.layers)
        for layer in self.layers:
            decoder = self.decoders[layer]
            near = tile.near(decoder.halo, decoder.layer.spatial_stride)
            pixels = self._decode(layer, features.pop(layer)[..., *near.surroundings])
            results[layer][..., *tile.pixels] = pixels[..., *near.pixels]


def _require_images(images: Tensor) -> None:
    """Raise InverterError unless `images` is N×3×H×W, floating-point, in [0, 1]."""
    if not isinstance(images, Tensor):
        raise InverterError(
            f"images must be a tensor N×3×H×W, not {type(images).__name__}: for files, PIL images and arrays use "
            "inverters.invert, or inverters.load_image(path)[None]"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        hint = ": add a dimension with images[None]" if images.ndim == 3 and images.shape[0] == 3 else ""
        raise InverterError(f"images must be N×3×H×W, not {'×'.join(map(str, images.shape))}{hint}")
    if not images.is_floating_point():
        raise InverterError(f"images must be floating-point in [0, 1], not {images.dtype}: divide by 255")
    low, high = (value.item() for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise InverterError(f"images must be in [0, 1], but their values reach from {low:g} to {high:g}")


def weights_digest(networks: Iterable[nn.Module]) -> str:
    """SHA-256 over the names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for network in networks:
        for key, tensor in network.state_dict().items():
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
