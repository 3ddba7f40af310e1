"""The decoders that training starts from: new ones with random weights, or published ones."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inverters.decoders.architectures import create_decoder
from inverters.decoders.base import Decoder
from inverters.decoders.card import CARD_FILE
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.published import (
    encoder_folder,
    find_checkpoints,
    folder_name,
    load_decoder,
    shipped_checkpoints,
)
from inverters.decoders.through import ThroughDecoder
from inverters.encoders.base import Encoder, require_finite
from inverters.encoders.layers import Layer
from inverters.encoders.names import list_layers
from inverters.errors import CheckpointError, TrainingError
from inverters.training.config import TrainConfig

SHIPPED = "shipped"  # as `decoder.initial`


def new_decoders(
    config: TrainConfig, encoder: Encoder, descriptions: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Decoder]:
    """Create a decoder with random weights for each layer of the run.

    Args:
        config: of the run; its seed and the layer's name determine the weights.
        encoder: whose layers are decoded.
        descriptions: by layer, `Decoder.description` where the architecture is not that of `config`.
    """
    decoders: dict[str, Decoder] = {}
    for name in config.layers:
        layer = encoder.layers[name]
        with seeded(config.seed, name):
            if descriptions and name in descriptions:
                decoders[name] = create_decoder(layer, **descriptions[name])
            else:
                first = encoder.layers[config.decoder.through or name]
                stages, size = config.decoder.stages_of(first), config.data.crop_size
                new = ConvDecoder(first, stages, config.decoder.log_compress, size)
                decoders[name] = _completed(new, layer, config)
        if config.decoder.base_is_frozen:
            _freeze_base(decoders[name])
    return decoders


def _completed(decoder: Decoder, layer: Layer, config: TrainConfig) -> Decoder:
    """The decoder of `layer` that decodes through that of another one where the configuration asks for it."""
    if config.decoder.through:
        decoder = ThroughDecoder(layer, decoder, *config.decoder.through_size)
    return _corrected(decoder, config)


def _corrected(base: Decoder, config: TrainConfig) -> Decoder:
    """The decoder with the corrections that the configuration asks for."""
    if not config.decoder.corrections:
        return base
    sizes = config.decoder.correction_sizes.get(base.layer.stride or 0, (None, None))
    return CorrectedDecoder(base, config.decoder.corrections, *sizes)


def _freeze_base(decoder: Decoder) -> None:
    if isinstance(decoder, CorrectedDecoder):
        decoder.base.requires_grad_(False)


@contextmanager
def seeded(seed: int, layer: str) -> Iterator[None]:
    """Draw random numbers from a generator of the layer's own, so that none depends on the layers beside it."""
    digest = hashlib.sha256(f"{seed} {layer}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:8]) >> 1)
        yield


def find_initial(config: TrainConfig, encoder: Encoder) -> dict[str, Path]:
    """The folder of the published decoder that each layer starts from; none unless `decoder.initial` is set.

    With `decoder.through`, it is a decoder of that layer. Of the decoders of a layer it is the one of
    `decoder.initial_objective`, by default that of the run, else pixel.

    Raises:
        CheckpointError: a layer has neither, or the folder in `decoder.initial` does not exist.
    """
    if config.decoder.initial is None:
        return {}
    shipped = config.decoder.initial == SHIPPED
    root = shipped_checkpoints() if shipped else find_checkpoints(config.decoder.initial)
    root /= encoder_folder(encoder.name, config.encoder.weights)
    found: dict[str, list[Path]] = {}
    asked = config.decoder.initial_objective
    for layer in list_layers(encoder.name):
        objectives = [asked] if asked else [config.objective, "pixel"]
        folders = [root / folder_name(layer, objective) for objective in objectives]
        found[layer] = [folder for folder in folders if (folder / CARD_FILE).is_file()]
    starts = {layer: config.decoder.through or layer for layer in config.layers}
    for layer in starts.values():
        if not found[layer]:
            available = ", ".join(other for other, folders in found.items() if folders) or "none"
            raise CheckpointError(f"decoder.initial: no decoder of {layer} in {root}. Available: {available}")
    return {layer: found[start][0] for layer, start in starts.items()}


def load_initial(name: str, folder: Path, config: TrainConfig, encoder: Encoder) -> Decoder:
    """Load the decoder in `folder` to train it on, to train corrections of it, or to decode layer `name` through it.

    Where it has corrections already, new ones take their place.

    Raises:
        CheckpointError: it is damaged, or belongs to another encoder or other weights.
        TrainingError: it cannot be trained, or its architecture is not that of the configuration.
    """
    decoder = load_decoder(folder, encoder).requires_grad_(True)
    if config.decoder.corrections or config.decoder.through:
        base = decoder.base if isinstance(decoder, CorrectedDecoder) else decoder
        with seeded(config.seed, name):
            decoder = _completed(base, encoder.layers[name], config)
    elif isinstance(decoder, LinearDecoder):
        raise TrainingError(
            f"decoder.initial: {folder} holds a linear decoder, which is fitted and not trained: set "
            "decoder.corrections to train corrections of it"
        )
    if config.decoder.base_is_frozen:
        _freeze_base(decoder)
    first = decoder.base if isinstance(decoder, CorrectedDecoder) else decoder
    first = first.target if isinstance(first, ThroughDecoder) else first
    if isinstance(first, ConvDecoder):
        _require_architecture(first, config, folder)
    return decoder.train()


def _require_architecture(decoder: ConvDecoder, config: TrainConfig, folder: Path) -> None:
    """Raise TrainingError if the configuration asks for another architecture than that of the published decoder."""
    stride = decoder.layer.stride
    asked: dict[str, Any] = {f"stages.{stride}" if stride else "vector_stages": config.decoder.stages_of(decoder.layer)}
    if "log_compress" in config.decoder.model_fields_set:
        asked["log_compress"] = config.decoder.log_compress
    for key, value in asked.items():
        found = decoder.arguments["log_compress" if key == "log_compress" else "stages"]
        if value is not None and value != found:
            raise TrainingError(
                f"decoder.{key} is {value}, but {folder} has {found}: leave decoder.{key.partition('.')[0]} out, since "
                "decoder.initial brings it along"
            )


@torch.no_grad()
def feature_statistics(
    encoder: Encoder, layers: Iterable[str], batches: Iterable[Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The mean and standard deviation of each channel over all positions of all `batches`, C values each, by layer.

    Computed per batch in float32, and over the batches in float64 on the CPU: Apple's MPS has no float64.
    """
    layers = list(layers)
    moments: dict[str, list[Tensor]] = {layer: [] for layer in layers}  # count, means and variances, 3×C per batch
    for images in batches:
        for layer, features in encoder(images.to(encoder.device), layers).items():
            require_finite(features, encoder.name, layer)
            variance, mean = torch.var_mean(features.float(), dim=(0, 2, 3), correction=0)
            count = torch.full_like(mean, features[:, 0].numel())
            moments[layer].append(torch.stack([count, mean, variance]).cpu().double())
    statistics = {}
    for layer, parts in moments.items():
        counts, means, variances = torch.stack(parts, dim=1)
        weights = counts / counts.sum(0)
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)
        statistics[layer] = (mean.float(), variance.sqrt().float())
    return statistics
