"""`invert layers` and `invert download-weights`."""

from inverters.cli.options import Checkpoints, Encoder, Objective, Weights, output
from inverters.cli.tables import layer_rows
from inverters.encoders.vgg_layers import DEFAULT_ENCODER


def layers(
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
) -> None:
    """List the layers of an encoder, and which have a decoder."""
    from inverters.decoders.published import available_decoders, find_checkpoints
    from inverters.encoders.registry import check_weights, default_weights, list_layers

    table = list_layers(encoder)
    check_weights(encoder, weights or default_weights(encoder))
    cards = available_decoders(find_checkpoints(checkpoints), encoder, weights, objective)
    output.print(layer_rows(table, {name: card.metrics.get("psnr") for name, card in cards.items()}))


def download_weights(encoder: Encoder = DEFAULT_ENCODER, weights: Weights = "IMAGENET1K_V1") -> None:
    """Download an encoder's weights beforehand, for machines without a network."""
    from inverters.encoders.registry import create_encoder, list_layers

    create_encoder(encoder, weights, list_layers(encoder))
    print(f"downloaded {weights} of {encoder}")
