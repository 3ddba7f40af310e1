"""Published decoders: how they are written, found and loaded."""

import json
import os
import re
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save
from torch import Tensor

from inverters.decoders.architectures import ARCHITECTURES, create_decoder
from inverters.decoders.base import Decoder
from inverters.decoders.names import OBJECTIVES
from inverters.decoders.quantization import dequantize, quantize
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.encoders.names import DEFAULT_ENCODER, list_layers, named_weights, weights_label
from inverters.errors import CheckpointError, InverterError, unknown_name
from inverters.files import atomic_write, make_folder

SCHEMA_VERSION = 2
MODEL_FILE, CARD_FILE = "model.safetensors", "config.json"
CHECKPOINTS_VARIABLE = "INVERTERS_CHECKPOINTS"
PACKAGE = Path(__file__).parents[1]
DecoderT = TypeVar("DecoderT", bound=Decoder)
Storage = Literal["float16", "int8"]


class DecoderCard(BaseModel):
    """The description of a published decoder: the contents of its `config.json`.

    Attributes:
        fingerprint: `Encoder.fingerprint(layer)`.
        objective: one of `OBJECTIVES`.
        architecture: one of `ARCHITECTURES`.
        decoder: the arguments of the architecture, without the layer.
        initial: the folder of the decoders that training started from.
        storage: of the weights; see `quantize` for int8.
        loss: the weights of its terms.
        metrics: means over the validation images.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = 2
    encoder: str
    weights: str
    fingerprint: str
    layer: str
    objective: Literal["pixel", "perceptual", "linear"] = "pixel"
    architecture: str = "conv"
    decoder: dict[str, Any]
    initial: str | None = None
    storage: Storage = "float16"
    loss: dict[str, float]
    data: dict[str, Any]
    steps: int
    seed: int
    versions: dict[str, str]
    metrics: dict[str, float]


def _upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a card of schema version 1, where the objective implied the architecture, to version 2."""
    architecture = "linear" if values.get("objective") == "linear" else "conv"
    values = {**values, "schema_version": SCHEMA_VERSION, "architecture": architecture}
    if isinstance(arguments := values.get("decoder"), dict) and "compress" in arguments:
        values["decoder"] = {"log_compress" if key == "compress" else key: value for key, value in arguments.items()}
    return values


def build_decoder(card: DecoderCard, layer: Layer) -> Decoder:
    """Build the untrained decoder of `layer` that a card describes.

    Raises:
        CheckpointError: there is no such architecture, or it does not take these arguments.
    """
    if card.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"unknown architecture {card.architecture!r}: upgrade inverters, which knows {', '.join(ARCHITECTURES)}"
        )
    try:
        return create_decoder(layer, card.architecture, card.decoder)
    except (TypeError, ValueError, RuntimeError, KeyError, InverterError) as error:
        raise CheckpointError(
            f"the arguments {card.decoder} do not fit a {card.architecture} decoder of {layer.name}: {error}"
        ) from None


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
    stored = {key: value.cpu().contiguous() for key, value in _stored(decoder, card.storage).items()}
    make_folder(folder)
    atomic_write(folder / MODEL_FILE, save(stored))
    atomic_write(folder / CARD_FILE, card.model_dump_json(indent=2) + "\n")
    return folder


def find_checkpoints(explicit: Path | None = None) -> Path:
    """The folder of published decoders: `explicit`, else `$INVERTERS_CHECKPOINTS`, else the shipped ones.

    Raises:
        CheckpointError: the folder does not exist.
    """
    variable = os.environ.get(CHECKPOINTS_VARIABLE)
    folder = explicit or (Path(variable) if variable else None)
    if folder is None:
        return shipped_checkpoints()
    if not os.path.isdir(folder):  # noqa: PTH112 (Path.is_dir raises where a name is too long)
        source = "" if explicit else f", which ${CHECKPOINTS_VARIABLE} names"
        raise CheckpointError(f"no folder of decoders at {folder}{source}")
    return folder


def shipped_checkpoints() -> Path:
    """The folder of the shipped decoders."""
    in_wheel, in_sources = PACKAGE / "checkpoints", PACKAGE.parent / "checkpoints"
    return in_wheel if in_wheel.is_dir() else in_sources


def available_decoders(
    root: Path, encoder: str = DEFAULT_ENCODER, weights: str | None = None, objective: str = "pixel"
) -> dict[str, DecoderCard]:
    """The cards of the decoders under `root` for this encoder and objective, by layer, in order of execution.

    Raises:
        CheckpointError: a card is damaged.
        UnknownNameError: there is no such encoder or objective.
    """
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    folder = root / encoder_folder(encoder, weights)
    folders = {layer: folder / folder_name(layer, objective) for layer in list_layers(encoder)}
    # Path.is_file raises where a name is too long.
    return {layer: read_card(path) for layer, path in folders.items() if os.path.isfile(path / CARD_FILE)}  # noqa: PTH113


def read_card(folder: Path) -> DecoderCard:
    """Read the card of the decoder in `folder`.

    Raises:
        CheckpointError: it is missing, damaged, or of an unknown schema version.
    """
    path = folder / CARD_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            version = values.get("schema_version")
            if version == 1:
                values = _upgrade(values)
            elif version != SCHEMA_VERSION:
                raise CheckpointError(
                    f"{path} has schema version {version!r}, but this version of inverters reads 1 to {SCHEMA_VERSION}"
                )
        return DecoderCard.model_validate(values)
    except FileNotFoundError:
        raise CheckpointError(f"no decoder at {folder}: {CARD_FILE} is missing") from None
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise CheckpointError(f"{path} does not describe a decoder: {mistakes}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


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
    try:
        decoder = build_decoder(card, encoder.layers[card.layer])
        stored = load_file(folder / MODEL_FILE)
        if any(value.dtype == torch.int8 for value in stored.values()) != (card.storage == "int8"):
            raise ValueError(f"its weights are not stored as {card.storage}")
        decoder.load_state_dict(dequantize(stored))
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {folder}: {error}") from None
    except FileNotFoundError:
        raise CheckpointError(f"no decoder at {folder}: {MODEL_FILE} is missing") from None
    except Exception as error:  # a damaged file, or one whose tensors do not fit the card
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder / MODEL_FILE} is not the decoder of its card: {reason}") from None
    return decoder.requires_grad_(False).eval()
