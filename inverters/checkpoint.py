"""Published decoders: writing them, finding them, loading them."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save

from inverters.decoder import Decoder, FeatureDecoder, LinearDecoder
from inverters.encoder import VGGEncoder
from inverters.errors import CheckpointError, InverterError, unknown_name
from inverters.files import make_folder, write_whole
from inverters.layers import layer_table
from inverters.weights import weights_label

SCHEMA_VERSION = 1
MODEL_FILE, CARD_FILE = "model.safetensors", "config.json"
CHECKPOINTS_VARIABLE = "INVERTERS_CHECKPOINTS"
DECODERS: dict[str, type[Decoder]] = {  # by objective
    "pixel": FeatureDecoder,
    "linear": LinearDecoder,
    "perceptual": FeatureDecoder,
}


class DecoderCard(BaseModel):
    """What is known about a published decoder: the contents of its `config.json`.

    `fingerprint` is `VGGEncoder.fingerprint(layer)`; `objective` what the decoder was made for, and `decoder` what its
    class is called with; `initial` the folder of the decoder whose weights training began with; `metrics` are means
    over the validation images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    encoder: str
    weights: str
    fingerprint: str
    layer: str
    objective: str = "pixel"
    decoder: dict[str, Any]
    initial: str | None = None
    loss: dict[str, float]
    data: dict[str, Any]
    steps: int
    seed: int
    versions: dict[str, str]
    metrics: dict[str, float]


def folder_name(layer: str, objective: str) -> str:
    """`relu4_2` for the decoder that is taken unless another is asked for, `relu4_2-linear` for others."""
    return layer if objective == "pixel" else f"{layer}-{objective}"


def publish_decoder(decoder: Decoder, card: DecoderCard, root: Path) -> Path:
    """Writes `decoder` into its folder under `root/<encoder>-<weights>/`, weights in half precision.

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
    write_whole(folder / MODEL_FILE, save(state))
    write_whole(folder / CARD_FILE, card.model_dump_json(indent=2) + "\n")
    return folder


def find_checkpoints(explicit: Path | None = None) -> Path:
    """The folder of published decoders: `explicit`, else `$INVERTERS_CHECKPOINTS`, else the copy that is shipped.

    Raises:
        CheckpointError: a folder was named that does not exist.
    """
    named = os.environ.get(CHECKPOINTS_VARIABLE)
    if folder := explicit or (Path(named) if named else None):
        if not folder.is_dir():
            source = "" if explicit else f", which ${CHECKPOINTS_VARIABLE} names"
            raise CheckpointError(f"no folder of decoders at {folder}{source}")
        return folder
    package = Path(__file__).parent
    inside_wheel = package / "checkpoints"
    return inside_wheel if inside_wheel.is_dir() else package.parent / "checkpoints"


def decoders_at_hand(
    root: Path, encoder: str = "vgg19", weights: str = "original", objective: str = "pixel"
) -> dict[str, DecoderCard]:
    """The cards of the decoders published under `root` for this encoder and objective, by layer, shallowest first.

    Raises:
        CheckpointError: a card is damaged.
        UnknownNameError: there is no such encoder or objective.
    """
    if objective not in DECODERS:
        raise unknown_name("objective", objective, DECODERS)
    folder = root / f"{encoder}-{weights_label(weights)}"
    folders = {layer: folder / folder_name(layer, objective) for layer in layer_table(encoder)}
    return {layer: read_card(place) for layer, place in folders.items() if (place / CARD_FILE).is_file()}


def read_card(folder: Path) -> DecoderCard:
    """The card of the decoder in `folder`.

    Raises:
        CheckpointError: it is missing, damaged, or of another schema version.
    """
    path = folder / CARD_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and (found := values.get("schema_version")) != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} has schema version {found!r}, but this version of inverters reads {SCHEMA_VERSION}"
            )
        return DecoderCard.model_validate(values)
    except FileNotFoundError:
        raise CheckpointError(f"no decoder at {folder}: {CARD_FILE} is missing") from None
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise CheckpointError(f"{path} does not describe a decoder: {mistakes}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def load_decoder(folder: Path, encoder: VGGEncoder) -> Decoder:
    """The decoder published in `folder`, checked to belong to `encoder` and to what the folder is named for.

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
        decoder = DECODERS[card.objective](card.layer, card.encoder, **card.decoder)
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
