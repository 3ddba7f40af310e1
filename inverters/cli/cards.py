"""`invert cards`."""

from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.options import WHAT, Checkpoints, Encoder, ImageColumn, Split, Weights
from inverters.encoders.names import DEFAULT_ENCODER


def cards(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Photograph that the decoders reconstruct.")],
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    checkpoints: Checkpoints = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|HUB-ID",
            help="Photographs by which cards that lack them get quantiles of the feature error.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    split: Split = "validation",
    image_column: ImageColumn = "image",
) -> None:
    """Write the README.md of an encoder's decoders, with tables and pictures."""
    from inverters.sharing.model_card import own_folder, write_cards

    if data is not None:
        from inverters.sharing.card_quantiles import add_quantiles

        for folder in add_quantiles(own_folder(checkpoints), encoder, weights, data, split, image_column):
            print(f"measured {folder}")
    print(f"wrote {write_cards(image, checkpoints, encoder, weights)}")
