"""Published decoders: writing, finding and loading them."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save

from inverters.decoders.base import Decoder
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.names import OBJECTIVES
from inverters.encoders.base import Encoder
from inverters.encoders.registry import DEFAULT_ENCODER, default_weights, list_layers, weights_label
from inverters.errors import CheckpointError, InverterError, unknown_name
from inverters.files import atomic_write, make_folder

SCHEMA_VERSION = 2
MODEL_FILE, CARD_FILE = "model.safetensors", "config.json"
CHECKPOINTS_VARIABLE = "INVERTERS_CHECKPOINTS"
ARCHITECTURES: dict[str, type[Decoder]] = {"conv": ConvDecoder, "linear": LinearDecoder}


class DecoderCard(BaseModel):
    """What is known about a published decoder: the contents of its `config.json`.

    Attributes:
        fingerprint: `Encoder.fingerprint(layer)`.
        objective: one of `OBJECTIVES`.
        architecture: one of `ARCHITECTURES`.
        decoder: its constructor arguments beside the layer.
        initial: the folder of decoders that training started from.
        metrics: means over the validation images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = 2
    encoder: str
    weights: str
    fingerprint: str
    layer: str
    objective: Literal["pixel", "perceptual", "linear"] = "pixel"
    architecture: Literal["conv", "linear"] = "conv"
    decoder: dict[str, Any]
    initial: str | None = None
    loss: dict[str, float]
    data: dict[str, Any]
    steps: int
    seed: int
    versions: dict[str, str]
    metrics: dict[str, float]


def _upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """A card of schema version 1 as one of version 2: the objective implied the architecture."""
    decoder = dict(values.get("decoder", {}))
    if "compress" in decoder:
        decoder["log_compress"] = decoder.pop("compress")
    architecture = "linear" if values.get("objective") == "linear" else "conv"
    return {**values, "schema_version": 2, "architecture": architecture, "decoder": decoder}


def build_decoder(card: DecoderCard) -> Decoder:
    """The decoder that a card describes, with its initial weights.

    Raises:
        UnknownNameError: there is no such encoder.
        CheckpointError: the encoder has no such layer, or the arguments do not fit the architecture.
    """
    layers = list_layers(card.encoder)
    if card.layer not in layers:
        raise CheckpointError(f"the card names the layer {card.layer!r}, which {card.encoder} does not have")
    try:
        return ARCHITECTURES[card.architecture](layers[card.layer], **card.decoder)
    except (TypeError, ValueError, RuntimeError, KeyError, InverterError) as error:
        raise CheckpointError(
            f"the card's arguments {card.decoder} do not fit {card.architecture!r}: {error}"
        ) from None


def folder_name(layer: str, objective: str) -> str:
    """`relu4_2` for the default decoder, `relu4_2-linear` for those of another objective."""
    return layer if objective == "pixel" else f"{layer}-{objective}"


def publish_decoder(decoder: Decoder, card: DecoderCard, root: Path) -> Path:
    """Write `decoder`, its weights in half precision, into its folder under `root/<encoder>-<weights>/`.

    Returns:
        That folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = root / f"{card.encoder}-{card.weights}" / folder_name(card.layer, card.objective)
    parameters = dict(decoder.named_parameters())
    state = {
        key: (value.half() if key in parameters else value).detach().cpu().contiguous()
        for key, value in decoder.state_dict().items()
    }
    make_folder(folder)
    atomic_write(folder / MODEL_FILE, save(state))
    atomic_write(folder / CARD_FILE, card.model_dump_json(indent=2) + "\n")
    return folder


def find_checkpoints(explicit: Path | None = None) -> Path:
    """The folder of published decoders: `explicit`, else `$INVERTERS_CHECKPOINTS`, else the shipped ones.

    Raises:
        CheckpointError: the folder does not exist.
    """
    named = os.environ.get(CHECKPOINTS_VARIABLE)
    if folder := explicit or (Path(named) if named else None):
        if not os.path.isdir(folder):  # noqa: PTH112 (Path.is_dir raises where a name is too long)
            source = "" if explicit else f", which ${CHECKPOINTS_VARIABLE} names"
            raise CheckpointError(f"no folder of decoders at {folder}{source}")
        return folder
    package = Path(__file__).parents[1]
    inside_wheel = package / "checkpoints"
    return inside_wheel if inside_wheel.is_dir() else package.parent / "checkpoints"


def available_decoders(
    root: Path, encoder: str = DEFAULT_ENCODER, weights: str | None = None, objective: str = "pixel"
) -> dict[str, DecoderCard]:
    """The cards of the decoders published under `root` for this encoder and objective, by layer, shallowest first.

    Raises:
        CheckpointError: a card is damaged.
        UnknownNameError: there is no such encoder or objective.
    """
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    folder = root / encoder_folder(encoder, weights)
    folders = {layer: folder / folder_name(layer, objective) for layer in list_layers(encoder)}
    # Path.is_file raises where a name is too long.
    return {layer: read_card(place) for layer, place in folders.items() if os.path.isfile(place / CARD_FILE)}  # noqa: PTH113


def encoder_folder(encoder: str, weights: str | None) -> str:
    """`vgg19-original`: the folder of the decoders of an encoder."""
    return f"{encoder}-{weights_label(weights or default_weights(encoder))}"


def read_card(folder: Path) -> DecoderCard:
    """The card of the decoder in `folder`.

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
    """The decoder published in `folder`, checked against `encoder` and the name of the folder.

    Raises:
        CheckpointError: it is missing or damaged, or belongs to another encoder, other weights, layer or objective.
    """
    card = read_card(folder)
    if (name := folder_name(card.layer, card.objective)) != folder.name:
        raise CheckpointError(f"{folder} holds a decoder of {name}, not of {folder.name}")
    if card.encoder != encoder.name:
        raise CheckpointError(f"{folder} was trained on {card.encoder}, but the encoder is {encoder.name}")
    if card.fingerprint != (fingerprint := encoder.fingerprint(card.layer)):
        raise CheckpointError(
            f"{folder} was trained on weights {card.weights!r} with fingerprint {card.fingerprint[:12]}…, but the "
            f"encoder's weights {encoder.weights!r} have {fingerprint[:12]}…"
        )
    try:
        decoder = build_decoder(card)
        decoder.load_state_dict(load_file(folder / MODEL_FILE))
    except FileNotFoundError:
        raise CheckpointError(f"no decoder at {folder}: {MODEL_FILE} is missing") from None
    except InverterError:
        raise
    except Exception as error:  # a damaged file, or one whose tensors do not fit the card
        raise CheckpointError(
            f"{folder / MODEL_FILE} is not the decoder of its card: {' '.join(str(error).split())}"
        ) from None
    return decoder.requires_grad_(False).eval()
