"""`invert cards`: pages that show published decoders, made from their cards."""

from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from torch import Tensor

from inverters.data.images import load_image
from inverters.decoders.card import CARD_FILE, DecoderCard, read_card
from inverters.decoders.hub import is_downloaded
from inverters.decoders.published import (
    MODEL_FILE,
    add_checksum,
    available_decoders,
    build_decoder,
    encoder_folder,
    find_checkpoints,
    folder_name,
)
from inverters.encoders.names import DEFAULT_ENCODER, list_layers
from inverters.errors import CheckpointError, OutputError
from inverters.files import PACKAGE, atomic_write
from inverters.inversion.invert import invert

PAGE = "README.md"
SHORTER_SIDE = 512  # pixels of the photograph that is shown
OBJECTIVES = {
    "pixel": "Trained on the mean squared error of the pixels.",
    "perceptual": "Trained on the errors of the features of this layer and of shallower ones, and of the pixels.",
    "linear": "The best linear map from a neighbourhood of features to pixels, in closed form.",
}
INTRODUCTION = """In the tables, PSNR is the mean over the validation photographs, from the `config.json` of each
decoder; under the pictures, it is that of the picture. A feature depends on the pixels of its receptive field,
and a decoder spreads it over its own cell and the halo around it. `invert cards` writes this page.
"""
HEADER = (
    "| decoder | PSNR | size | parameters | receptive field | halo | arguments | crops seen |",
    "|---|---:|---:|---:|---:|---:|---|---:|",
)


def write_cards(
    image: Path, checkpoints: Path | str | None = None, encoder: str = DEFAULT_ENCODER, weights: str | None = None
) -> Path:
    """Write the page of an encoder's decoders, with tables and pictures, and the index of all encoders above it.

    Cards without the SHA-256 of their model, as earlier versions wrote them, get it.

    Args:
        image: the photograph that the decoders reconstruct in the pictures.
        checkpoints: a folder of published decoders; None takes that of `find_checkpoints()`.
        encoder, weights: see `create_encoder`.

    Returns:
        The page, `<encoder>-<weights>/README.md`. The pictures are beside it, the index is the `README.md` above it.

    Raises:
        CheckpointError: there are no decoders, or one is damaged.
        ImageError: the image cannot be read.
        WeightsError, UnknownNameError: see `create_encoder`.
        OutputError: the folder cannot be written, or belongs to the installed package or to the cache of the Hub.
    """
    root = own_folder(checkpoints)
    folder = root / encoder_folder(encoder, weights)
    photograph = load_image(image)
    objectives = [objective for objective in OBJECTIVES if available_decoders(root, encoder, weights, objective)]
    if not objectives:
        raise CheckpointError(f"no decoders under {folder}: train some with `invert train`")
    for objective in objectives:
        for layer in available_decoders(root, encoder, weights, objective):
            add_checksum(folder / folder_name(layer, objective))
        atomic_write(folder / f"{objective}.jpg", make_picture(photograph, root, encoder, weights, objective))
    atomic_write(folder / PAGE, encoder_page(root, encoder, weights, image.stem))
    atomic_write(root / PAGE, index_page(root))
    return folder / PAGE


def own_folder(checkpoints: Path | str | None = None) -> Path:
    """The folder of `find_checkpoints()`, whose files are to be replaced.

    Raises:
        CheckpointError: the folder does not exist.
        OutputError: it belongs to the installed package or to the cache of the Hub.
    """
    root = find_checkpoints(checkpoints)
    packaged = root.resolve().is_relative_to(PACKAGE.resolve())
    if packaged or is_downloaded(root):
        owner = "the installed package" if packaged else "the cache of the Hub"
        raise OutputError(f"{root} belongs to {owner}: copy it, and name the copy with --checkpoints")
    return root


def make_picture(photograph: Tensor, root: Path, encoder: str, weights: str | None, objective: str) -> bytes:
    """A JPEG of a photograph, 3×H×W in [0, 1], as all decoders of an encoder and objective reconstruct it.

    Raises:
        CheckpointError, WeightsError, UnknownNameError: see `load_inverter`.
    """
    inversion = invert(
        photograph,
        "all",
        size=SHORTER_SIDE,
        encoder=encoder,
        weights=weights,
        checkpoints=root,
        objective=objective,
    )
    picture = BytesIO()
    inversion.strip().save(picture, "JPEG", quality=95, subsampling=0)
    return picture.getvalue()


def encoder_page(root: Path, encoder: str, weights: str | None, photograph: str) -> str:
    """The page of an encoder's decoders under `root`, whose pictures show `photograph`."""
    folder = root / encoder_folder(encoder, weights)
    sections = [f"# Decoders of {folder.name}\n", INTRODUCTION]
    for objective, purpose in OBJECTIVES.items():
        if cards := available_decoders(root, encoder, weights, objective):
            rows = [table_row(card, folder) for card in cards.values()]
            picture = f"![{photograph} from each layer]({objective}.jpg)\n"
            sections += [f"## {objective}\n", f"{purpose}\n", *HEADER, *rows, "", picture]
    return "\n".join(sections)


def index_page(root: Path) -> str:
    """The page of a folder of decoders: a section for each encoder that has a page."""
    sections = ["# Decoders\n", "A section for each encoder. `invert cards` writes this page.\n"]
    for page in sorted(root.glob(f"*/{PAGE}")):
        folder = page.parent
        counts: Counter[str] = Counter(read_card(path.parent).objective for path in folder.glob(f"*/{CARD_FILE}"))
        objectives = [objective for objective in OBJECTIVES if objective in counts]
        if objectives:
            sections += [
                f"## [{folder.name}]({folder.name}/{PAGE})\n",
                f"Decoders: {', '.join(f'{counts[objective]} {objective}' for objective in objectives)}.\n",
                f"![reconstructions from each layer]({folder.name}/{objectives[0]}.jpg)\n",
            ]
    return "\n".join(sections)


def table_row(card: DecoderCard, folder: Path) -> str:
    """What a card in an encoder's `folder` says, as a row under `HEADER`."""
    name = folder_name(card.layer, card.objective)
    layer = list_layers(card.encoder)[card.layer]
    decoder = build_decoder(card, layer)
    size = (folder / name / MODEL_FILE).stat().st_size / 1e6
    parameters = sum(parameter.numel() for parameter in decoder.parameters()) / 1e6
    cells = (
        f"`{name}`",
        f"{card.metrics['psnr']:.2f} dB" if "psnr" in card.metrics else "",
        f"{size:.1f} MB",
        f"{parameters:.2f} M",
        "whole image" if layer.receptive_field is None else f"{layer.receptive_field} px",
        "whole image" if layer.stride is None else f"{decoder.halo} px",
        _arguments(card.decoder),
        _crops(card),
    )
    return f"| {' | '.join(cells)} |"


def _arguments(arguments: Mapping[str, Any]) -> str:
    """Constructor arguments, such as `base conv (stages [[48, 1]], log_compress False), corrections 2`."""
    return ", ".join(
        f"{key} {_described(value)} ({_arguments(value['arguments'])})"
        if isinstance(value, Mapping) and {"architecture", "arguments"} <= value.keys()
        else f"{key} {value}"
        for key, value in arguments.items()
    )


def _described(decoder: Mapping[str, Any]) -> str:
    """`conv`, or `conv of relu4_2` where it decodes another layer."""
    architecture = str(decoder["architecture"])
    return f"{architecture} of {decoder['layer']['name']}" if "layer" in decoder else architecture


def _crops(card: DecoderCard) -> str:
    """The number and size of the crops that the decoder was trained on, such as `41,600 of 64 px`."""
    if not {"batch_size", "crop_size"} <= card.data.keys():
        return ""
    crops = f"{card.steps * card.data['batch_size']:,} of {card.data['crop_size']} px"
    return f"{crops}, from `{card.initial}`" if card.initial else crops
