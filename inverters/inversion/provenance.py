"""How a reconstruction was made: recorded beside it, shown on the strip, and part of its file's name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

LISTS = ("layers", "edits")
REDUNDANT = {"networks": {"encoder", "weights", "layers", "objective"}}  # differs wherever one of these differs


@dataclass(frozen=True)
class Provenance:
    """Everything beside the image that decides the pixels of its reconstructions.

    Attributes:
        encoder, weights: the network, and the label of its weights.
        networks: `weights_digest` of the encoder and the decoders.
        layers: the layers that were inverted.
        size: pixels to which the shorter side of a larger image was shrunk; None for the full size.
        method: a name from `METHODS`; after `optimize`, a preset other than `gatys` takes the place of `lbfgs`.
        objective: of the decoders; None where the method has none.
        init: what an optimisation started from: `noise`, `grey` or `decoder`. This and the following are None where
            nothing was optimised.
        preset: the name of its settings in `PRESETS`.
        iterations: how many steps it was given.
        seed: of the noise, or of random edits; None where there are neither.
        corrections: the number that decoders apply at most; None for all, or where the method has no decoder.
        edits: what changed the features before they were decoded, as `parse_edit` takes them.
    """

    encoder: str
    weights: str
    networks: str
    layers: tuple[str, ...]
    size: int | None
    method: str = "decoder"
    objective: str | None = None
    init: str | None = None
    preset: str | None = None
    iterations: int | None = None
    seed: int | None = None
    corrections: int | None = None
    edits: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The method in a few letters, such as `decoder`, `perceptual`, `lbfgs-grey`, `edited` or `mix-0.25`."""
        name = f"{self.method}-grey" if self.init == "grey" else self.method
        if not self.edits:
            return name
        weights = [edit.rpartition(":")[2] for edit in self.edits if edit.startswith("mix=")]
        edited = "-".join(["mix", *weights]) if weights else "edited"
        return edited if name == "decoder" else f"{name}-{edited}"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Provenance":
        """The provenance among `values`, as JSON has it; raises KeyError or TypeError where a part is missing."""
        lists = {name: tuple(values[name]) for name in LISTS}
        return cls(**{field.name: values[field.name] for field in fields(cls)} | lists)

    def describe_network(self) -> list[str]:
        """What all methods of one picture share, for people: `["vgg19", "original weights", "up to 512 pixels"]`."""
        return [self.encoder, f"{self.weights} weights", f"up to {self.size} pixels" if self.size else "full size"]

    def describe_method(self) -> str:
        """The method for people: `pixel decoder`, `lbfgs from noise (200 iterations, seed 0)`."""
        limit = "" if self.corrections is None else f" with at most {self.corrections} corrections"
        if self.init is None:
            seed = "" if self.seed is None else f" (seed {self.seed})"
            edits = f", features edited by {', '.join(self.edits)}{seed}" if self.edits else ""
            return f"{self.objective} decoder{limit}{edits}"
        start = f"the {self.objective} decoder{limit}" if self.init == "decoder" else self.init
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.method.rpartition('+')[2]} from {start} ({self.iterations} iterations{seed})"


def reconstruction_name(layer: str, provenance: Provenance) -> str:
    """The name of a reconstruction among others of its image: `relu4_2`, `relu4_2-perceptual`, `relu3_2-lbfgs-grey`.

    That of the default decoder is the layer's.
    """
    return layer if provenance.label == "decoder" else f"{layer}-{provenance.label}"


def differences(old: Iterable[Provenance], new: Iterable[Provenance]) -> list[str]:
    """What differs between two sets of results, for people, such as `size (512, now 256)`."""
    before = {provenance.label: provenance for provenance in old}
    after = {provenance.label: provenance for provenance in new}
    if before.keys() != after.keys():
        return [_change("method", ", ".join(before), ", ".join(after))]
    changed: dict[str, str] = {}
    for label, provenance in after.items():
        for field in fields(Provenance):
            values = (getattr(before[label], field.name), getattr(provenance, field.name))
            if values[0] != values[1]:
                changed.setdefault(field.name, _change(field.name, *values))
    return [text for key, text in changed.items() if not REDUNDANT.get(key, set()) & changed.keys()]


def _change(key: str, old: Any, new: Any) -> str:
    if key == "networks":
        return "the values of the weights"
    if key in LISTS:
        old, new = ",".join(old), ",".join(new)
    nothing = {"size": "full", "corrections": "all"}.get(key, "none")
    return f"{key} ({nothing if old is None else old}, now {nothing if new is None else new})"
