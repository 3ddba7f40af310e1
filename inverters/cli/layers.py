"""`invert layers` and `invert download-weights`."""

from dataclasses import asdict
from typing import Annotated

import typer

from inverters.cli.options import WHAT, Checkpoints, Encoder, Json, Objective, Quiet, Weights
from inverters.cli.printer import Printer
from inverters.cli.tables import layer_table
from inverters.encoders.names import DEFAULT_ENCODER, check_weights, default_weights, list_layers


def layers(
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the layers of an encoder and the decoders available for them."""
    table = list_layers(encoder)
    if weights is not None:
        check_weights(encoder, weights)
    from inverters.decoders.published import available_decoders, find_checkpoints

    cards = available_decoders(find_checkpoints(checkpoints), encoder, weights, objective)
    psnr = {name: card.metrics.get("psnr") for name, card in cards.items()}
    printer = Printer(json, quiet)
    printer.table(layer_table(table, psnr))
    rows = [asdict(layer) | {"decoder": name in psnr, "psnr": psnr.get(name)} for name, layer in table.items()]
    printer.document(
        {"encoder": encoder, "weights": weights or default_weights(encoder), "objective": objective, "layers": rows}
    )


def download_weights(
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Annotated[
        str, typer.Option(metavar="NAME", help="Its weights, by torchvision's name.", rich_help_panel=WHAT)
    ] = "IMAGENET1K_V1",
) -> None:
    """Download an encoder's weights in advance, for machines without a network."""
    layers = list_layers(encoder)
    from inverters.encoders.registry import create_encoder

    create_encoder(encoder, weights, layers)
    print(f"downloaded {weights} of {encoder}")
