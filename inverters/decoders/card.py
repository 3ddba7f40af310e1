"""`DecoderCard`: the description of a published decoder, and how it is read and written."""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from inverters.errors import CheckpointError, first_line, shorten
from inverters.files import atomic_write, read_file

SCHEMA_VERSION = 2
CARD_FILE = "config.json"
LARGEST_CARD = 1_000_000  # bytes
SHOWN_MISTAKES = 5
Storage = Literal["float16", "int8"]


def _ascending(quantiles: tuple[float, ...]) -> tuple[float, ...]:
    if list(quantiles) != sorted(quantiles):
        raise ValueError("Quantiles should ascend")
    return quantiles


Error = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Quantiles = Annotated[tuple[Error, ...], Field(min_length=2, max_length=1001), AfterValidator(_ascending)]


class DecoderCard(BaseModel):
    """The description of a published decoder: the contents of its `config.json`.

    Attributes:
        fingerprint: `Encoder.fingerprint(layer)`.
        objective: one of `OBJECTIVES`.
        architecture: one of `ARCHITECTURES`.
        decoder: the arguments of the architecture, without the layer.
        initial: the folder of the decoders that training started from.
        storage: of the weights; see `quantize` for int8.
        sha256: of `model.safetensors`; None in cards of earlier versions.
        loss: the weights of its terms.
        metrics: means over the validation images.
        error_quantiles: of the feature error over the validation images, evenly spaced from the smallest to the
            largest; None in cards of earlier versions.
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
    sha256: str | None = None
    loss: dict[str, float]
    data: dict[str, Any]
    steps: int
    seed: int
    versions: dict[str, str]
    metrics: dict[str, float]
    error_quantiles: Quantiles | None = None


def _upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a card of schema version 1, where the objective implied the architecture, to version 2."""
    architecture = "linear" if values.get("objective") == "linear" else "conv"
    values = {**values, "schema_version": SCHEMA_VERSION, "architecture": architecture}
    if isinstance(arguments := values.get("decoder"), dict) and "compress" in arguments:
        values["decoder"] = {"log_compress" if key == "compress" else key: value for key, value in arguments.items()}
    return values


def read_card(folder: Path) -> DecoderCard:
    """Read the card of the decoder in `folder`.

    Raises:
        CheckpointError: it is missing, damaged, or of an unknown schema version.
    """
    path = folder / CARD_FILE
    try:
        values = json.loads(read_file(path, LARGEST_CARD).decode())
        if isinstance(values, dict):
            version = values.get("schema_version")
            if version == 1:
                values = _upgrade(values)
            elif version != SCHEMA_VERSION:
                raise CheckpointError(
                    f"{path} has schema version {shorten(repr(version))}, but this version of inverters reads 1 to "
                    f"{SCHEMA_VERSION}"
                )
        return DecoderCard.model_validate(values)
    except FileNotFoundError:
        raise CheckpointError(f"no decoder at {folder}: {CARD_FILE} is missing") from None
    except ValidationError as error:
        mistakes = [f"{shorten('.'.join(map(str, item['loc'])))}: {item['msg']}" for item in error.errors()]
        raise CheckpointError(f"{path} does not describe a decoder: {'; '.join(mistakes[:SHOWN_MISTAKES])}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {shorten(first_line(error), 200)}") from None


def write_card(card: DecoderCard, folder: Path) -> None:
    """Write the card of the decoder in `folder`.

    Raises:
        OutputError: it cannot be written.
    """
    atomic_write(folder / CARD_FILE, card.model_dump_json(indent=2) + "\n")
