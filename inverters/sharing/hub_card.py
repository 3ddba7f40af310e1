"""The model card of decoders on the Hugging Face Hub: metadata, a picture, tables, and how to use them."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from inverters.decoders.card import CARD_FILE, DecoderCard, read_card
from inverters.decoders.hub import LIBRARY
from inverters.decoders.names import HUB
from inverters.decoders.published import folder_name
from inverters.encoders.names import DEFAULT_ENCODER, default_weights, list_layers
from inverters.sharing.model_card import HEADER, OBJECTIVES, table_row

TAGS = ["feature-inversion", "interpretability", "representation", "feature-visualization"]
DATA_SET = re.compile(r"[\w-]+/[\w.-]+(?<!\.parquet)(?<!\.tar)")  # how the Hub names one
INTRODUCTION = """Decoders of `inverters`: each maps the features of one layer of a frozen network back to pixels, in
one pass. What they cannot reconstruct shows what the layer no longer says about an image.
"""
TABLE = """PSNR is the mean over the validation images. A feature depends on the pixels of its receptive field, and a
decoder spreads it over its own cell and the halo around it.
"""
LIMITS = """- A decoder fits the weights that it was trained on, and no others. `inverters` compares their fingerprints
  when it loads one.
- Where features do not determine the pixels, a decoder trained on the pixels returns the average of the images that
  they allow, which is blurred. A blurred reconstruction shows what this decoder finds in the features. It does not
  prove that nothing else is there.
- What a decoder adds comes from its training images. On images of another kind, such as text, drawings or medical
  scans, it does worse.
- A reconstruction shows what features hold. It is no evidence of what an unknown image looked like.
"""
CITATION = """```bibtex
@software{{inverters,
  title = {{inverters: what each layer of a convolutional network still knows about an image}},
  author = {{{{The inverters authors}}}},
  version = {{{version}}},
  license = {{MIT}},
}}
```

The method is that of A. Dosovitskiy and T. Brox, *Inverting Visual Representations with Convolutional Networks*, CVPR
2016. Depths of a network are compared as by L. A. Gatys, A. S. Ecker and M. Bethge, *Image Style Transfer Using
Convolutional Neural Networks*, CVPR 2016.
"""


def published_cards(root: Path) -> dict[Path, list[DecoderCard]]:
    """The cards of all decoders under `root` by the folder of their encoder, in order of execution and of objectives.

    Those of the default encoder come first. They name no place of this machine: of absolute paths only the last part is
    kept.

    Raises:
        CheckpointError: a card is damaged.
        UnknownNameError: an encoder does not exist.
    """
    found: dict[Path, list[DecoderCard]] = {}
    for path in sorted(root.glob(f"*/*/{CARD_FILE}")):
        found.setdefault(path.parents[1], []).append(_without_places(read_card(path.parent)))
    for cards in found.values():
        order = [*list_layers(cards[0].encoder)]
        cards.sort(key=lambda card: (list(OBJECTIVES).index(card.objective), order.index(card.layer)))
    return dict(sorted(found.items(), key=lambda item: item[1][0].encoder != DEFAULT_ENCODER))


def _without_places(card: DecoderCard) -> DecoderCard:
    data = {key: _shortened(value) for key, value in card.data.items()}
    return card.model_copy(update={"data": data, "initial": _shortened(card.initial)})


def _shortened(value: Any) -> Any:
    """Strings that are absolute paths, also in lists, without their folders."""
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, str) and (value.startswith("~") or PurePath(value).is_absolute()):
        return PurePath(value).name
    if isinstance(value, str) and PureWindowsPath(value).drive:
        return PureWindowsPath(value).name
    return value


def write_hub_card(
    repository: str, published: Mapping[Path, Sequence[DecoderCard]], pictures: Mapping[str, bytes], license: str
) -> str:
    """The README.md of a repository.

    Args:
        repository: `OWNER/NAME`.
        published: from `published_cards`; not empty.
        pictures: JPEGs by path in the repository, such as `vgg19-original/pixel.jpg`.
        license: of the decoders, as the Hub names it.
    """
    cards = [card for some in published.values() for card in some]
    sections = [f"---\n{_metadata(repository, published, license)}\n---\n", f"# {repository.partition('/')[2]}\n"]
    sections.append(INTRODUCTION)
    if pictures:
        sections.append(f"![A photograph reconstructed from each layer]({next(iter(pictures))})\n")
    sections += ["## Use\n", _usage(repository, cards[0]), "## Decoders\n", TABLE]
    for folder, some in published.items():
        sections.append(f"### {folder.name}\n")
        for objective, purpose in OBJECTIVES.items():
            rows = [table_row(card, folder) for card in some if card.objective == objective]
            name = f"{folder.name}/{objective}.jpg"
            if rows:
                sections += [f"{purpose}\n", *HEADER, *rows, ""]
            if name in pictures:
                sections.append(f"![Each layer of {folder.name}, {objective} decoders]({name})\n")
    sections += ["## Training data\n", _training_data(cards), "## Limits\n", LIMITS]
    sections += ["## Citation\n", CITATION.format(version=version(LIBRARY))]
    return "\n".join(sections)


def _metadata(repository: str, published: Mapping[Path, Sequence[DecoderCard]], license: str) -> str:
    cards = [card for some in published.values() for card in some]
    named = {name for card in cards for key in ("train", "validation") for name in _names(card.data, key)}
    results = [_result(folder, card) for folder, some in published.items() for card in some if "psnr" in card.metrics]
    data = ModelCardData(
        library_name=LIBRARY,
        license=license,
        pipeline_tag="image-to-image",
        tags=[*TAGS, *dict.fromkeys(card.encoder.rpartition("/")[2] for card in cards)],
        datasets=sorted(filter(_is_data_set, named)) or None,
        metrics=["psnr"],
        model_name=repository.partition("/")[2] if results else None,
        eval_results=results or None,
    )
    return str(data)


def _result(folder: Path, card: DecoderCard) -> EvalResult:
    images = _names(card.data, "validation")
    return EvalResult(
        task_type="image-to-image",
        task_name="Feature inversion",
        dataset_type=images[0] if images and _is_data_set(images[0]) else "imagefolder",
        dataset_name=", ".join(images) or "validation images",
        metric_type="psnr",
        metric_name=f"PSNR of {folder.name}/{folder_name(card.layer, card.objective)}",
        metric_value=round(card.metrics["psnr"], 3),
    )


def _names(data: Mapping[str, Any], key: str) -> list[str]:
    value = data.get(key) or []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _is_data_set(name: str) -> bool:
    return bool(DATA_SET.fullmatch(name)) and not Path(name).exists()


def _usage(repository: str, card: DecoderCard) -> str:
    options = {} if card.encoder == DEFAULT_ENCODER else {"encoder": card.encoder}
    if card.weights != default_weights(card.encoder):
        options["weights"] = card.weights
    if card.objective != "pixel":
        options["objective"] = card.objective
    options["checkpoints"] = f"{HUB}//{repository}"
    line = " ".join(f"--{key} {value}" for key, value in options.items())
    arguments = ", ".join(f'{key}="{value}"' for key, value in options.items())
    return (
        f"```sh\ninvert predict photo.jpg {line}\n```\n\n"
        f'```python\nimport inverters\n\nresult = inverters.invert("photo.jpg", {arguments})\n'
        'result.strip().save("depth.png")\n```\n'
    )


def _training_data(cards: Sequence[DecoderCard]) -> str:
    lines = {f"- {_listed(card.data, 'train')}; validation: {_listed(card.data, 'validation')}": None for card in cards}
    return "\n".join([*lines, "", f"The `{CARD_FILE}` of each decoder says how it was trained.", ""])


def _listed(data: Mapping[str, Any], key: str) -> str:
    return ", ".join(f"`{name}`" for name in _names(data, key)) or "images that its card does not name"
