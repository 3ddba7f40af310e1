"""Published decoders: how they are written, found and loaded."""

import hashlib
import os
import re
from copy import deepcopy
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

from inverters.decoders.architectures import ARCHITECTURES, create_decoder
from inverters.decoders.base import Decoder
from inverters.decoders.card import CARD_FILE, DecoderCard, Storage, read_card, write_card
from inverters.decoders.names import CHECKPOINTS_VARIABLE, OBJECTIVES, is_on_hub
from inverters.decoders.quantization import dequantize, quantize
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.encoders.names import DEFAULT_ENCODER, list_layers, named_weights, weights_label
from inverters.errors import CheckpointError, first_line, shorten, unknown_name
from inverters.files import atomic_write, make_folder, read_file, shipped_folder

MODEL_FILE = "model.safetensors"
LARGEST_MODEL = 4_000_000_000  # bytes
DecoderT = TypeVar("DecoderT", bound=Decoder)


def build_decoder(card: DecoderCard, layer: Layer) -> Decoder:
    """Build the decoder of `layer` that a card describes on the meta device: it has shapes, but takes no memory.

    Raises:
        CheckpointError: there is no such architecture, or it does not take these arguments.
    """
    if card.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"unknown architecture {card.architecture!r}: upgrade inverters, which knows {', '.join(ARCHITECTURES)}"
        )
    try:
        with torch.device("meta"):
            decoder = create_decoder(layer, card.architecture, card.decoder)
    except Exception as error:  # arguments of a wrong type or size raise nearly anything
        raise CheckpointError(
            f"the arguments {shorten(str(card.decoder), 200)} do not fit a {card.architecture} decoder of "
            f"{layer.name}: {shorten(first_line(error), 200)}"
        ) from None
    decoder.error_quantiles = card.error_quantiles
    return decoder


def folder_name(layer: str, objective: str) -> str:
    """The name of a decoder's folder: `relu4_2`, or `relu4_2-linear` for another objective than `pixel`."""
    return layer if objective == "pixel" else f"{layer}-{objective}"


def encoder_folder(encoder: str, weights: str | None) -> str:
    """The name of the folder with the decoders of an encoder: `vgg19-original`, `timm-resnet50-a1_in1k`."""
    return _encoder_folder(encoder, weights_label(named_weights(encoder, weights)))


def _encoder_folder(encoder: str, label: str) -> str:
    return f"{re.sub('[/:]', '-', encoder)}-{label}"


def as_published(decoder: DecoderT, storage: Storage = "float16") -> DecoderT:
    """A copy of `decoder` that computes what it will once it is published and loaded: its weights are rounded."""
    copy = deepcopy(decoder).requires_grad_(False).eval()
    copy.load_state_dict(dequantize(_stored(decoder, storage)))
    return copy


def _stored(decoder: Decoder, storage: Storage) -> dict[str, Tensor]:
    """What is stored of a decoder: weights in half precision or 8 bits, and statistics as they are."""
    weights = {key: parameter.detach().half() for key, parameter in decoder.named_parameters()}
    statistics = {key: value for key, value in decoder.state_dict().items() if key not in weights}
    return statistics | (quantize(weights) if storage == "int8" else weights)


def publish_decoder(decoder: Decoder, card: DecoderCard, root: Path) -> Path:
    """Write `decoder` to `root/<encoder>-<weights>/<layer>[-<objective>]/`, its weights as `card.storage` says.

    Returns:
        That folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = root / _encoder_folder(card.encoder, card.weights) / folder_name(card.layer, card.objective)
    model = save({key: value.cpu().contiguous() for key, value in _stored(decoder, card.storage).items()})
    make_folder(folder)
    atomic_write(folder / MODEL_FILE, model)
    write_card(card.model_copy(update={"sha256": hashlib.sha256(model).hexdigest()}), folder)
    return folder


def add_checksum(folder: Path) -> None:
    """Rewrite the card of the decoder in `folder` in this version's schema with the SHA-256 of its model.

    Raises:
        CheckpointError: the decoder is missing or damaged; a checksum that the card has already is checked.
        OutputError: the card cannot be written.
    """
    card = read_card(folder)
    digest = hashlib.sha256(_read_model(card, folder)).hexdigest()
    if card.sha256 is None:
        write_card(card.model_copy(update={"sha256": digest}), folder)


def find_checkpoints(explicit: Path | str | None = None) -> Path:
    """The folder of published decoders: `explicit`, else `$INVERTERS_CHECKPOINTS`, else the shipped ones.

    Of decoders on the Hugging Face Hub, `hf://OWNER/NAME[@REVISION]`, the cards are downloaded.

    Raises:
        CheckpointError: the folder does not exist, or the Hub does not give the cards.
    """
    place = os.environ.get(CHECKPOINTS_VARIABLE) if explicit is None else explicit
    if not place:
        return shipped_checkpoints()
    if is_on_hub(place):
        from inverters.decoders.hub import download_cards  # here because huggingface_hub takes a second to import

        return download_cards(str(place))
    if not os.path.isdir(place):  # noqa: PTH112 (Path.is_dir raises where a name is too long)
        source = "" if explicit else f", which ${CHECKPOINTS_VARIABLE} names"
        raise CheckpointError(f"no folder of decoders at {place}{source}")
    return Path(place)


def shipped_checkpoints() -> Path:
    """The folder of the shipped decoders."""
    return shipped_folder("checkpoints")


def available_decoders(
    root: Path, encoder: str = DEFAULT_ENCODER, weights: str | None = None, objective: str = "pixel"
) -> dict[str, DecoderCard]:
    """The cards of the decoders under `root` for this encoder and objective, by layer, in order of execution.

    Raises:
        CheckpointError: a card is damaged.
        UnknownNameError: there is no such encoder or objective.
    """
    return {layer: read_card(path) for layer, path in decoder_folders(root, encoder, weights, objective).items()}


def decoder_folders(
    root: Path, encoder: str = DEFAULT_ENCODER, weights: str | None = None, objective: str = "pixel"
) -> dict[str, Path]:
    """The folders of these decoders by layer, in order of execution; whether they can be loaded is not looked at.

    Raises:
        UnknownNameError: there is no such encoder or objective.
    """
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    folder = root / encoder_folder(encoder, weights)
    folders = {layer: folder / folder_name(layer, objective) for layer in list_layers(encoder)}
    # Path.is_file raises where a name is too long.
    return {layer: path for layer, path in folders.items() if os.path.isfile(path / CARD_FILE)}  # noqa: PTH113


def load_decoder(folder: Path, encoder: Encoder) -> Decoder:
    """Load the decoder in `folder`, frozen, and check that it belongs to `encoder` and to this folder.

    Raises:
        CheckpointError: it is missing or damaged, or belongs to another encoder, other weights, layer or objective.
    """
    card = read_card(folder)
    if (name := folder_name(card.layer, card.objective)) != folder.name:
        raise CheckpointError(f"{folder} holds a decoder of {name}, not of {folder.name}")
    if card.encoder != encoder.name:
        raise CheckpointError(f"{folder} was trained on {card.encoder}, but the encoder is {encoder.name}")
    if card.layer not in encoder.layers:
        raise CheckpointError(f"{folder} was trained on {card.layer}, a layer that this {encoder.name} does not have")
    if card.fingerprint != (fingerprint := encoder.fingerprint(card.layer)):
        raise CheckpointError(
            f"{folder} was trained on weights {card.weights!r} with fingerprint {card.fingerprint[:12]}…, but the "
            f"encoder's weights {encoder.weights!r} have {fingerprint[:12]}…"
        )
    return read_decoder(folder, card, encoder.layers[card.layer])


def read_decoder(folder: Path, card: DecoderCard, layer: Layer) -> Decoder:
    """Load the decoder of `layer` in `folder`, frozen, as its card describes it.

    Raises:
        CheckpointError: it is missing or damaged, or is not that of its card.
    """
    if "snapshots" in folder.parts and not (folder / MODEL_FILE).is_file():  # perhaps in the cache of the Hub
        from inverters.decoders.hub import download_weights

        download_weights(folder)
    try:
        decoder = build_decoder(card, layer)
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {folder}: {error}") from None
    model = _read_model(card, folder)
    try:
        decoder.load_state_dict(_weights(load(model), card.storage), assign=True)
    except Exception as error:  # a damaged file, or one whose tensors do not fit the card
        reason = shorten(" ".join(str(error).split()), 500)
        raise CheckpointError(f"{folder / MODEL_FILE} is not the decoder of its card: {reason}") from None
    return decoder.requires_grad_(False).eval()


def _read_model(card: DecoderCard, folder: Path) -> bytes:
    """Read the model of a card, and check its SHA-256 if the card has one."""
    path = folder / MODEL_FILE
    try:
        model = read_file(path, LARGEST_MODEL)
    except FileNotFoundError:
        raise CheckpointError(f"no decoder at {folder}: {MODEL_FILE} is missing") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    if card.sha256 is not None and card.sha256 != (digest := hashlib.sha256(model).hexdigest()):
        raise CheckpointError(
            f"{path} is not the decoder of its card: its SHA-256 is {digest[:12]}…, not {shorten(card.sha256, 12)}. "
            "It is damaged, or was replaced: download or publish the decoder again"
        )
    return model


def _weights(stored: dict[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The weights in float32; raises ValueError if they are stored in another way, or no decoder can have them."""
    if any(value.dtype == torch.int8 for value in stored.values()) != (storage == "int8"):
        raise ValueError(f"its weights are not stored as {storage}")
    weights = {key: value.float() for key, value in dequantize(stored).items()}
    for key, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"{key} has values that are not finite")
        if key.rpartition(".")[2] == "std" and not (value > 0).all():
            raise ValueError(f"{key} has standard deviations that are not positive")
    return weights
