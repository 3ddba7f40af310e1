"""The `Inverter`: an encoder and decoders, together ready to reconstruct images."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from inverters.checkpoint import decoders_at_hand, find_checkpoints, folder_name, load_decoder
from inverters.decoder import Decoder
from inverters.devices import find_device, has_fast_bfloat16
from inverters.encoder import VGGEncoder
from inverters.errors import CheckpointError, InverterError
from inverters.images import pad_to_multiple
from inverters.layers import INPUT_MULTIPLE, deepest_of_each_block, find_layers
from inverters.tiles import Tile, split
from inverters.weights import check_weights, weights_label

LARGEST_WHOLE = 2_000_000  # pixels of an image that is inverted in one piece: about 3 GB
TILE = 1024

Progress = Callable[[int, int], None]  # is told the number of tiles done, and of all


class Inverter(nn.Module):
    """An encoder and a decoder for each of some of its layers: reconstructs images from each of these layers."""

    def __init__(self, encoder: VGGEncoder, decoders: Mapping[str, nn.Module], device: torch.device) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)
        self.to(device).to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.mean.device

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, tile: int | None = None, progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """The reconstruction of each image from each layer.

        Args:
            images: N×3×H×W, RGB in [0, 1], any height and width, on any device.
            tile: the side in pixels, a multiple of 32, of the squares that images are inverted in one after the other,
                which bounds the memory. What surrounds a square counts as far as it reaches into it, so the result is
                that of the whole image. None takes 1024 where an image has more than 2 million pixels.
            progress: is called after each tile with the number of tiles done and of all.

        Returns:
            N×3×H×W float32 in [0, 1] by layer, on the inverter's device.

        Raises:
            InverterError: `images` is not of that shape, or not of floating-point numbers; or no such tile.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise InverterError(f"images must be N×3×H×W, not {'×'.join(map(str, images.shape))}")
        if not images.is_floating_point():
            raise InverterError(f"images must be floating-point numbers in [0, 1], not {images.dtype}")
        if tile is not None and (tile < 1 or tile % INPUT_MULTIPLE):
            raise InverterError(f"a tile's side must be a multiple of {INPUT_MULTIPLE}, not {tile}")
        height, width = images.shape[-2:]
        images = pad_to_multiple(images.to(self.device, torch.float32), INPUT_MULTIPLE)
        if tile is None:
            tile = TILE if height * width > LARGEST_WHOLE else max(images.shape[-2:])
        tiles = split(images.shape[-2], images.shape[-1], tile, self._margin())
        results = {layer: torch.empty_like(images) for layer in self.decoders}
        for done, part in enumerate(tiles, start=1):
            self._reconstruct_tile(images, part, results)
            if progress:
                progress(done, len(tiles))
        return {layer: result[..., :height, :width] for layer, result in results.items()}

    def _decoders(self) -> Mapping[str, Decoder]:
        return cast("Mapping[str, Decoder]", self.decoders)

    def _margin(self) -> int:
        """How far around a pixel lies what its reconstructions depend on; a multiple of 32."""
        reach = max((decoder.layer.reach + decoder.reach for decoder in self._decoders().values()), default=0)
        return -(-reach // INPUT_MULTIPLE) * INPUT_MULTIPLE

    def _reconstruct_tile(self, images: Tensor, tile: Tile, results: dict[str, Tensor]) -> None:
        """Writes what each layer says of the pixels of `tile` into `results`."""
        surroundings = images[..., *tile.surroundings].contiguous(memory_format=torch.channels_last)
        # Layers at full resolution are almost lossless: there bfloat16 would be what limits them.
        decoders = self._decoders()
        exact = {layer for layer, decoder in decoders.items() if decoder.layer.stride == 1}
        for layers in filter(None, (exact, decoders.keys() - exact)):
            fast = layers is not exact and has_fast_bfloat16(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
                features = self.encoder(surroundings, layers)
                for layer in list(features):
                    decoder = decoders[layer]
                    near = tile.near(decoder.reach, decoder.layer.stride)
                    pixels = decoder(features.pop(layer)[..., *near.surroundings])
                    results[layer][..., *tile.pixels] = pixels[..., *near.pixels].float().clamp(0, 1)


def load_inverter(
    layers: Iterable[str] | None = None,
    encoder: str = "vgg19",
    weights: str = "original",
    checkpoints: Path | str | None = None,
    device: str = "auto",
    objective: str = "pixel",
) -> Inverter:
    """The encoder and its published decoders, ready to reconstruct images.

    Args:
        layers: names from `layer_table(encoder)`, or `"all"` that have a decoder; None takes the deepest of these in
            each block.
        encoder: one of `ENCODERS`.
        weights: see `VGGEncoder`.
        checkpoints: a folder of published decoders; None looks where `find_checkpoints` says.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        objective: which decoders: `pixel`, trained for small errors of pixels; `perceptual`, trained for those of
            features too; `linear`, fitted in closed form.

    Raises:
        UnknownNameError: an encoder, layer, set of weights or objective that does not exist.
        CheckpointError: a decoder is missing, damaged, or belongs to another encoder.
        WeightsError: the encoder's weights are not to be had.
        InverterError: no such device.
    """
    root = find_checkpoints(Path(checkpoints) if checkpoints is not None else None)
    folder = root / f"{encoder}-{weights_label(weights)}"
    at_hand = decoders_at_hand(root, encoder, weights, objective)
    if not at_hand:
        check_weights(encoder, weights)
    if layers is None:
        wanted = deepest_of_each_block(at_hand, encoder)
    else:
        wanted = [layer.name for layer in find_layers(at_hand if layers == "all" else layers, encoder)]
    missing = [layer for layer in wanted if layer not in at_hand]
    if missing or not wanted:
        kind = "" if objective == "pixel" else f"{objective} "
        relu = [layer.replace("conv", "relu") for layer in missing if layer.startswith("conv")]
        caffe = f"The papers' {missing[0]} is {relu[0]} here. " if relu and relu[0] in at_hand else ""
        raise CheckpointError(
            f"no {kind}decoder for {', '.join(missing) or encoder} under {folder}. {caffe}At hand: "
            f"{', '.join(at_hand) or 'none'}. Train one with `invert train`, or name a folder with --checkpoints"
        )
    place = find_device(device)
    network = VGGEncoder(wanted, encoder, weights)
    decoders = {layer: load_decoder(folder / folder_name(layer, objective), network) for layer in wanted}
    return Inverter(network, decoders, place)


def weights_digest(networks: Iterable[nn.Module]) -> str:
    """SHA-256 over the names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for network in networks:
        for key, tensor in network.state_dict().items():
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
