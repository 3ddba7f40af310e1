"""`invert cards`: a page that shows what published decoders are and can do, from their own cards."""

from io import BytesIO
from pathlib import Path

from inverters.data.images import load_image, resize_shorter_side
from inverters.decoders.published import (
    MODEL_FILE,
    DecoderCard,
    available_decoders,
    build_decoder,
    encoder_folder,
    find_checkpoints,
    folder_name,
)
from inverters.encoders.registry import DEFAULT_ENCODER, list_layers
from inverters.errors import CheckpointError
from inverters.files import atomic_write
from inverters.inversion.loading import load_inverter
from inverters.inversion.strip import depth_strip
from inverters.prediction.writers import measure

PAGE = "README.md"
SHORTER_SIDE = 512  # pixels of the photograph that is shown
OBJECTIVES = {
    "pixel": "Trained for a small mean squared error of the pixels.",
    "perceptual": "Trained for small errors of features, at this and the shallower layers, beside those of pixels.",
    "linear": "The best linear map from a neighbourhood of features to pixels, in closed form.",
}
INTRODUCTION = """PSNR is the mean over the validation photographs, as each decoder's `config.json` has it; under the
pictures it is that of the picture. The features of a place are computed from the receptive field, and decoded within
the halo. This page is written by `invert cards`.
"""
HEADER = (
    "| decoder | PSNR | size | parameters | receptive field | halo | arguments | crops seen |",
    "|---|---:|---:|---:|---:|---:|---|---:|",
)


def write_cards(
    image: Path, checkpoints: Path | None = None, encoder: str = DEFAULT_ENCODER, weights: str | None = None
) -> Path:
    """Writes `README.md` into the folder of decoders: a table of them for each objective, and a picture made by them.

    Args:
        image: the photograph of the pictures, which are written as `<encoder>-<weights>/<objective>.jpg`.
        checkpoints: a folder of published decoders; None looks where `find_checkpoints` says.
        encoder, weights: whose decoders; see `VGGEncoder`.

    Returns:
        The page.

    Raises:
        CheckpointError: there are none, or one is damaged.
        ImageError: the image cannot be read.
        WeightsError, UnknownNameError: see `VGGEncoder`.
        OutputError: the folder cannot be written.
    """
    root = find_checkpoints(checkpoints)
    folder = root / encoder_folder(encoder, weights)
    original = resize_shorter_side(load_image(image), SHORTER_SIDE)
    sections = []
    for objective, purpose in OBJECTIVES.items():
        if not (cards := available_decoders(root, encoder, weights, objective)):
            continue
        inverter = load_inverter("all", encoder, weights, root, objective=objective)
        preds, psnr = measure(original, inverter.reconstruct(original[None]))
        picture = BytesIO()
        depth_strip(original, preds, psnr).save(picture, "JPEG", quality=95, subsampling=0)
        atomic_write(folder / f"{objective}.jpg", picture.getvalue())
        rows = [_row(card, folder) for card in cards.values()]
        caption = f"![{image.stem} from each layer]({folder.name}/{objective}.jpg)"
        sections.append("\n".join([f"## {objective}\n", f"{purpose}\n", *HEADER, *rows, "", caption, ""]))
    if not sections:
        raise CheckpointError(f"no decoders under {folder}: train some with `invert train`")
    atomic_write(root / PAGE, "\n".join([f"# Decoders of {folder.name}\n", INTRODUCTION, *sections]))
    return root / PAGE


def _row(card: DecoderCard, folder: Path) -> str:
    name = folder_name(card.layer, card.objective)
    layer = list_layers(card.encoder)[card.layer]
    decoder = build_decoder(card)
    size = (folder / name / MODEL_FILE).stat().st_size / 1e6
    parameters = sum(parameter.numel() for parameter in decoder.parameters()) / 1e6
    arguments = ", ".join(f"{key} {value}" for key, value in card.decoder.items())
    cells = (
        f"`{name}`",
        f"{card.metrics['psnr']:.2f} dB",
        f"{size:.1f} MB",
        f"{parameters:.2f} M",
        f"{layer.receptive_field} px",
        f"{decoder.halo} px",
        arguments,
        _seen(card),
    )
    return f"| {' | '.join(cells)} |"


def _seen(card: DecoderCard) -> str:
    """`41,600 of 64 px`: how many crops of which size the decoder was made from."""
    crops = f"{card.steps * card.data['batch_size']:,} of {card.data['crop_size']} px"
    return f"{crops}, on from `{card.initial}`" if card.initial else crops
