"""`invert cards --data`: quantiles of the feature error for cards that lack them."""

from collections.abc import Iterator
from pathlib import Path

from inverters.data.crops import WholeImages
from inverters.data.sources import open_images
from inverters.decoders.card import write_card
from inverters.decoders.names import OBJECTIVES
from inverters.decoders.published import available_decoders, encoder_folder, folder_name
from inverters.errors import DataError
from inverters.inversion.error_quantiles import error_quantiles
from inverters.inversion.loading import load_inverter


def add_quantiles(
    root: Path, encoder: str, weights: str | None, data: str, split: str = "validation", column: str = "image"
) -> Iterator[Path]:
    """Measure decoders whose cards have no quantiles of the feature error, and complete these cards.

    Args:
        root: a folder of published decoders.
        encoder, weights: see `create_encoder`.
        data, split, column: the photographs, see `open_images`; shrunk as the validation images of each decoder were.

    Yields:
        The folder of each decoder whose card has been rewritten.

    Raises:
        DataError: the data cannot be opened, or none of the images can be read.
        CheckpointError: a decoder is damaged.
        OutputError: a card cannot be written.
    """
    rows = open_images([data], split, column)
    for objective in OBJECTIVES:
        available = available_decoders(root, encoder, weights, objective)
        cards = {layer: card for layer, card in available.items() if card.error_quantiles is None}
        for resize in dict.fromkeys(card.data.get("resize") for card in cards.values()):
            layers = [layer for layer, card in cards.items() if card.data.get("resize") == resize]
            inverter = load_inverter(layers, encoder, weights, root, objective=objective)
            crop = (inverter.input_size, inverter.encoder.input_crop) if inverter.input_size else None
            images = WholeImages(rows, None, resize, crop)
            if not any(len(images[index]) for index in range(len(images))):
                raise DataError(f"none of the {len(images)} images in {data} can be read")
            found = error_quantiles(inverter, (images[index] for index in range(len(images))))
            for layer, quantiles in found.items():
                folder = root / encoder_folder(encoder, weights) / folder_name(layer, objective)
                write_card(cards[layer].model_copy(update={"error_quantiles": quantiles}), folder)
                yield folder
