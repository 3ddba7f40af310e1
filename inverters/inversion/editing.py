"""`EditRunner`: decodes edited features, as `MethodRunner` decodes those of the image."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from torch import Tensor

from inverters.errors import InverterError
from inverters.inversion import edits
from inverters.inversion.edit_names import RANDOM, Edit, sweep
from inverters.inversion.inverter import MAX_WHOLE
from inverters.inversion.runner import MethodRunner, Progress


@dataclass(frozen=True)
class EditRunner(MethodRunner):
    """Decodes edited features of several layers of an image.

    Attributes:
        edits: applied one after the other; a `mix` among them has one weight.
        seed: of the random ones.
    """

    edits: tuple[Edit, ...] = ()
    seed: int = 0

    def _decode(self, image: Tensor, tile: int | None, progress: Progress | None) -> dict[str, Tensor]:  # noqa: ARG002
        height, width = image.shape[-2:]
        if height * width > MAX_WHOLE:
            fits = int(min(height, width) * (MAX_WHOLE / (height * width)) ** 0.5 - 0.5)  # the longer side gets rounded
            raise InverterError(
                f"an image of {width}×{height} pixels is too large for edits: shrink its shorter side to {fits} with "
                "--size"
            )
        features = self.inverter.encode(image[None])
        edited = edits.apply(features, self.edits, self.inverter, (height, width), self.seed)
        return {layer: images[0].cpu() for layer, images in self.inverter.decode(edited, (height, width)).items()}


def edit_runners(plain: MethodRunner, edits: Sequence[Edit], seed: int = 0) -> list[EditRunner]:
    """A runner for each picture that edits make: one, or one for each weight of a `mix` over a range.

    Args:
        plain: decodes the features without edits.
        edits: applied one after the other.
        seed: of the random ones.

    Raises:
        InverterError: several have a range of weights.
    """
    used = seed if any(edit.name in RANDOM for edit in edits) else None
    same = {field.name: getattr(plain, field.name) for field in fields(plain)}
    return [
        EditRunner(
            **same | {"provenance": replace(plain.provenance, edits=tuple(map(str, some)), seed=used)},
            edits=some,
            seed=seed,
        )
        for some in sweep(edits)
    ]
