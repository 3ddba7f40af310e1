"""`invert cards`."""

from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.options import Checkpoints, Encoder, Weights
from inverters.encoders.names import DEFAULT_ENCODER


def cards(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Photograph that the decoders reconstruct.")],
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Write the README.md of an encoder's decoders, with tables and pictures."""
    from inverters.sharing.model_card import write_cards

    print(f"wrote {write_cards(image, checkpoints, encoder, weights)}")
