"""The networks that the page offers: encoders with published decoders."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from inverters.data.images import center_crop
from inverters.decoders.card import CARD_FILE, read_card
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.hub import is_downloaded
from inverters.decoders.published import available_decoders, find_checkpoints, shipped_checkpoints
from inverters.encoders.names import (
    DEFAULT_ENCODER,
    check_weights,
    default_weights,
    find_layers,
    input_crop,
    input_size,
    require_encoder,
)
from inverters.encoders.network_names import is_own
from inverters.errors import CheckpointError, UnknownNameError, WeightsError
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter

OBJECTIVES = {"closest": "pixel", "sharpest": "perceptual"}  # by the name that the page shows


@dataclass(frozen=True)
class Network:
    """An encoder whose decoders lie under `root`.

    Attributes:
        root: a folder of published decoders.
        encoder, weights: its name, and the label of its weights.
        decoders: by objective the layers that have a decoder, in order of execution.
        corrected: whether any of the decoders has corrections.
        crop: where images of one size can be decoded only, that side in pixels, and the part of the shorter side of an
            image that it covers.
    """

    root: Path
    encoder: str
    weights: str
    decoders: dict[str, tuple[str, ...]]
    corrected: bool
    crop: tuple[int, float] | None

    @property
    def label(self) -> str:
        """How the page lists it: `vgg19`, or `vgg19 (random)` for other weights than the encoder's default."""
        return self.encoder if self.weights == default_weights(self.encoder) else f"{self.encoder} ({self.weights})"

    def options(self) -> dict[str, str | int]:
        """What tells `invert predict` to take this network; the folder's place on the server stays untold."""
        found: dict[str, str | int] = {}
        if self.encoder != DEFAULT_ENCODER:
            found["encoder"] = self.encoder
        if self.weights != default_weights(self.encoder):
            found["weights"] = self.weights
        if self.root != shipped_checkpoints():
            found["checkpoints"] = "DIR"
        return found

    def objectives(self, objective: str) -> dict[str, str]:
        """For each layer the objective of its decoder: `objective`, or `pixel` where it has no such decoder."""
        names = find_layers(
            {name for kind in ("pixel", objective) for name in self.decoders.get(kind, ())}, self.encoder
        )
        chosen = self.decoders.get(objective, ())
        return {layer.name: objective if layer.name in chosen else "pixel" for layer in names}

    def fit(self, image: Tensor) -> Tensor:
        """The part of an image, 3×H×W, that is reconstructed."""
        return center_crop(image[None], *self.crop)[0] if self.crop else image

    def load(self, objective: str, corrections: int | None, device: str) -> Inverter:
        """Load the decoders of `objectives(objective)`; `corrections` and `device` are those of `load_inverter`.

        Raises:
            CheckpointError, WeightsError: see `load_inverter`.
        """
        objectives = self.objectives(objective)
        loaded = {
            kind: load_inverter(
                [layer for layer, some in objectives.items() if some == kind],
                self.encoder,
                self.weights,
                self.root,
                device,
                kind,
                corrections,
            )
            for kind in dict.fromkeys(objectives.values())
        }
        deepest = loaded[objectives[list(objectives)[-1]]]
        decoders = {layer: loaded[kind].decoders[layer] for layer, kind in objectives.items()}
        return Inverter(deepest.encoder, decoders, deepest.device)


def find_networks(checkpoints: Path | str | None = None, encoder: str | None = None) -> list[Network]:
    """The networks that have decoders, the one to start with first.

    Args:
        checkpoints: a folder of published decoders; None takes that of `find_checkpoints()`.
        encoder: the network to start with; None takes the default one, if it has decoders.

    Raises:
        UnknownNameError: there is no such encoder.
        CheckpointError: it has no decoders, or a card is damaged.
    """
    root = find_checkpoints(checkpoints)
    if encoder is not None:
        require_encoder(encoder)
    names = _published(root, encoder)
    names.sort(key=lambda name: (name[0] != (encoder or DEFAULT_ENCODER), name[1] != default_weights(name[0])))
    if not names or encoder not in (None, names[0][0]):
        raise CheckpointError(
            f"no decoders {f'of {encoder} ' if encoder else ''}under {root}. Train some with `invert train`, or name "
            "another folder with --checkpoints"
        )
    return [_network(root, *name) for name in names]


def _published(root: Path, named: str | None) -> list[tuple[str, str]]:
    """The encoders and weights that decoders under `root` belong to, without those that cannot be loaded by name.

    Cards from the Hub do not say which code runs: a `MODULE:FUNCTION` has to be the encoder that the user `named`.
    """
    found: dict[tuple[str, str], None] = {}
    downloaded = is_downloaded(root)
    for card_file in sorted(root.rglob(CARD_FILE)):
        card = read_card(card_file.parent)
        if downloaded and is_own(card.encoder) and card.encoder != named:
            continue
        try:
            check_weights(card.encoder, card.weights)
        except (UnknownNameError, WeightsError):
            continue
        found[card.encoder, card.weights] = None
    return [*found]


def _network(root: Path, encoder: str, weights: str) -> Network:
    cards = {kind: available_decoders(root, encoder, weights, kind) for kind in OBJECTIVES.values()}
    decoders = {kind: tuple(some) for kind, some in cards.items() if some}
    every = [card for some in cards.values() for card in some.values()]
    corrected = any(card.architecture == CorrectedDecoder.architecture for card in every)
    side = input_size(encoder) or next(filter(None, (card.decoder.get("size") for card in every)), None)
    return Network(root, encoder, weights, decoders, corrected, (side, input_crop(encoder)) if side else None)
