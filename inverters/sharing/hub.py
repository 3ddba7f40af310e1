"""`push`: published decoders with a model card to a repository of the Hugging Face Hub."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, ModelInfo, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from skimage.data import data_dir

from inverters.data.images import load_image
from inverters.decoders.card import CARD_FILE, DecoderCard
from inverters.decoders.hub import LIBRARY, LOGIN, explained, hide_token
from inverters.decoders.names import HUB
from inverters.decoders.published import MODEL_FILE, find_checkpoints, folder_name, read_decoder
from inverters.encoders.names import check_weights, list_layers
from inverters.errors import CheckpointError, InverterError, OutputError
from inverters.sharing.hub_card import published_cards, write_hub_card
from inverters.sharing.model_card import PAGE, make_picture

PHOTOGRAPH = Path(data_dir) / "astronaut.png"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push(
    repository: str, checkpoints: Path | str | None = None, private: bool = False, license: str = "mit"
) -> tuple[str, int]:
    """Upload all decoders of a folder with a model card, in one commit, and create the repository if there is none.

    Each decoder is loaded before anything is sent. What is in the repository already stays, unless it has the same
    name. The pictures of the card are those beside the decoders, as `invert cards` writes them, or are made.

    Args:
        repository: `OWNER/NAME`.
        checkpoints: a folder of published decoders; None takes that of `find_checkpoints()`.
        private: create a repository that only its owner sees.
        license: of the decoders, as the Hub names it.

    Returns:
        The address of the decoders, `hf://OWNER/NAME@<commit>`, and their number.

    Raises:
        CheckpointError: there are no decoders, one is damaged, or the Hub refuses them.
        OutputError: nobody is logged in, or the repository holds something else, or is public although `private`.
        InverterError: see `load_inverter`.
    """
    if not REPOSITORY.fullmatch(repository):
        raise OutputError(f"{hide_token(repository)} is no name of a repository: write OWNER/NAME")
    root = find_checkpoints(checkpoints)
    published = published_cards(root)
    if not published:
        raise CheckpointError(f"no decoders under {root}: train some with `invert train`")
    for folder, cards in published.items():
        for card in cards:
            read_decoder(folder / folder_name(card.layer, card.objective), card, list_layers(card.encoder)[card.layer])
    if get_token() is None:
        raise OutputError(f"pushing needs a token of the Hugging Face Hub: {LOGIN}")
    api, address = HfApi(library_name=LIBRARY), f"{HUB}//{repository}"
    with explained(address):
        found = _find(api, repository)
    _require_ours(found, address, private)
    pictures = _pictures(root, published)
    page = write_hub_card(repository, published, pictures, license)
    files: dict[str, bytes | Path] = {PAGE: page.encode(), **pictures}
    for folder, cards in published.items():
        for card in cards:
            name = folder_name(card.layer, card.objective)
            model = folder / name / MODEL_FILE
            checked = card.model_copy(update={"sha256": hashlib.sha256(model.read_bytes()).hexdigest()})
            files[f"{folder.name}/{name}/{CARD_FILE}"] = f"{checked.model_dump_json(indent=2)}\n".encode()
            files[f"{folder.name}/{name}/{MODEL_FILE}"] = model
    count = sum(map(len, published.values()))
    with explained(address):
        if found is None:
            api.create_repo(repository, private=private)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(path, data) for path, data in files.items()],
            commit_message=f"Upload {count} decoders by inverters",
        )
    return f"{address}@{commit.oid}", count


def _find(api: HfApi, repository: str) -> ModelInfo | None:
    try:
        return api.model_info(repository)
    except RepositoryNotFoundError:
        return None


def _require_ours(found: ModelInfo | None, address: str, private: bool) -> None:
    """Raise OutputError where pushing would overwrite the page of something else, or publish what is to be private."""
    if found is None:
        return
    files = [file.rfilename for file in found.siblings or ()]
    others = [name for name in files if name not in (".gitattributes", PAGE)]
    if others and not any(fnmatch(name, f"*/*/{CARD_FILE}") for name in files):
        raise OutputError(f"{address} holds {others[0]} and no decoders of inverters: choose another name")
    if private and found.private is False:
        raise OutputError(f"{address} exists and is public: make it private on its page, or choose another name")


def _pictures(root: Path, published: Mapping[Path, Sequence[DecoderCard]]) -> dict[str, bytes]:
    """JPEGs by path in the repository; none where the weights of an encoder cannot be loaded by name."""
    pictures: dict[str, bytes] = {}
    for folder, cards in published.items():
        for objective in dict.fromkeys(card.objective for card in cards):
            name = f"{folder.name}/{objective}.jpg"
            if (folder / f"{objective}.jpg").is_file():
                pictures[name] = (folder / f"{objective}.jpg").read_bytes()
            elif _can_be_loaded(cards[0]):
                photograph = load_image(PHOTOGRAPH)
                pictures[name] = make_picture(photograph, root, cards[0].encoder, cards[0].weights, objective)
    return pictures


def _can_be_loaded(card: DecoderCard) -> bool:
    try:
        check_weights(card.encoder, card.weights)
    except InverterError:
        return False
    return True
