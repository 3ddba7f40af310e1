"""`invert layers` and `invert download-weights`."""

from typing import Annotated

import typer

from inverters.cli.options import WHAT, Checkpoints, Encoder, Json, Objective, Quiet, Weights, find_decoders
from inverters.cli.printer import Printer
from inverters.cli.tables import layer_table
from inverters.encoders.names import DEFAULT_ENCODER, VGG_NAMES, check_weights, list_layers, named_weights, show_layers
from inverters.errors import CheckpointError


def layers(
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    depth: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How deep into the modules of a network.",
            show_default="its blocks and what lies between them",
            rich_help_panel=WHAT,
        ),
    ] = None,
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the layers of an encoder and the decoders available for them."""
    table = show_layers(encoder, depth)
    if weights is not None:
        check_weights(encoder, weights)
    from inverters.decoders.card import read_card
    from inverters.decoders.published import decoder_folders, find_checkpoints

    printer = Printer(json, quiet)
    psnr, damaged = {}, False
    root = find_checkpoints(find_decoders(checkpoints, printer))
    for name, folder in decoder_folders(root, encoder, weights, objective).items():
        try:
            psnr[name] = read_card(folder).metrics.get("psnr")
        except CheckpointError as error:
            printer.error(str(error))
            damaged = True
    printer.table(layer_table(table, psnr))
    shown = ("name", "channels", "stride", "receptive_field", "stage")
    rows = [
        {key: getattr(layer, key) for key in shown} | {"decoder": name in psnr, "psnr": psnr.get(name)}
        for name, layer in table.items()
    ]
    named = named_weights(encoder, weights)
    printer.document({"encoder": encoder, "weights": named, "objective": objective, "layers": rows})
    if damaged:
        raise typer.Exit(1)


def download_weights(
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Its weights, by the name or tag of its library.",
            show_default="IMAGENET1K_V1, or the network's own",
            rich_help_panel=WHAT,
        ),
    ] = None,
) -> None:
    """Download an encoder's weights in advance, for machines without a network."""
    layers = list_layers(encoder)
    if weights is None:
        weights = "IMAGENET1K_V1" if encoder in VGG_NAMES else named_weights(encoder, None)
    from inverters.encoders.registry import create_encoder

    create_encoder(encoder, weights, layers)
    print(f"downloaded {weights} of {encoder}")
