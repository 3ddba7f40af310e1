"""Decoders on the Hugging Face Hub: `hf://OWNER/NAME[@REVISION]` as a folder of published decoders.

Cards are downloaded when the folder is found, and weights when a decoder is loaded, into the cache of huggingface_hub.
There, `models--OWNER--NAME/snapshots/<commit>/` looks like the repository at that commit.
"""

import hashlib
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import HTTPError as ConnectionFailure  # type: ignore[attr-defined]  # of its HTTP library
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from inverters.decoders.card import CARD_FILE
from inverters.decoders.names import HUB
from inverters.decoders.published import MODEL_FILE
from inverters.errors import CheckpointError, first_line

LIBRARY = "inverters"  # what the Hub counts downloads by
LOGIN = "log in by `hf auth login`, or set $HF_TOKEN"
ADDRESS = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([^@\s]+))?/?")  # a Path has one slash
TOKEN = re.compile(r"hf_\w+")


def parse_address(address: str) -> tuple[str, str | None]:
    """The repository `OWNER/NAME` and the revision of an address `hf://OWNER/NAME[@REVISION]`.

    Raises:
        CheckpointError: it is no such address.
    """
    if not (match := ADDRESS.fullmatch(address)):
        raise CheckpointError(f"{hide_token(address)} is no address of decoders: write {HUB}//OWNER/NAME[@REVISION]")
    return match[1], match[2]


def download_cards(address: str) -> Path:
    """Download the cards of all decoders at an address, and return the folder, named by the hash of its commit.

    Without a network, the cache is used as it is.

    Raises:
        CheckpointError: there is no such address, its repository holds no decoders, or the Hub cannot be reached and
            the cache does not have it.
    """
    repository, revision = parse_address(address)
    pattern = f"*/*/{CARD_FILE}"
    with explained(shown := _shown(repository, revision)):
        folder = snapshot_download(repository, revision=revision, allow_patterns=pattern, library_name=LIBRARY)
    if not any(Path(folder).glob(pattern)):
        raise CheckpointError(f"{shown} holds no decoders of inverters")
    return Path(folder)


def is_downloaded(root: Path) -> bool:
    """Whether this folder of decoders is a repository of the Hub in the cache, which is not to be written to."""
    return root.resolve().parents[2:3] == (Path(constants.HF_HUB_CACHE).expanduser().resolve(),)


def download_weights(folder: Path) -> None:
    """Download the weights of the decoder in `folder` and check their hash, if a repository of the Hub holds it.

    Raises:
        CheckpointError: they cannot be downloaded, or are not those that the repository lists.
    """
    snapshot = folder.parents[1]
    if not is_downloaded(snapshot):
        return
    repository = snapshot.parents[1].name.removeprefix("models--").replace("--", "/", 1)
    name, commit = f"{folder.parent.name}/{folder.name}/{MODEL_FILE}", snapshot.name
    with explained(f"{name} of {_shown(repository, commit)}"):
        listed = HfApi(library_name=LIBRARY).get_paths_info(repository, name, revision=commit)
        if not listed:
            raise CheckpointError(f"{_shown(repository, commit)} has no file {name}")
        file = Path(hf_hub_download(repository, name, revision=commit, library_name=LIBRARY))
    if not _has_hash(file, listed[0]):
        blob = file.resolve()
        file.unlink()
        blob.unlink(missing_ok=True)
        raise CheckpointError(f"{name} of {_shown(repository, commit)} has not the hash that the Hub lists: try again")


def _has_hash(file: Path, listed: Any) -> bool:
    """Whether a file is the one of a listing: by SHA-256 if it is in large file storage, and else as Git hashes it."""
    data = file.read_bytes()
    if listed.lfs:
        return bool(hashlib.sha256(data).hexdigest() == listed.lfs.sha256)
    return bool(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == listed.blob_id)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into one line each, which names `what` and holds no token.

    Meanwhile its progress bars are shown on a terminal only, and its warnings, which repeat what the error says, never.
    """
    verbosity, hidden = hub_logging.get_verbosity(), are_progress_bars_disabled()
    hub_logging.set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except (HfHubHTTPError, ConnectionFailure, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(hide_token(_explanation(error, what))) from None
    finally:
        hub_logging.set_verbosity(verbosity)
        if not hidden:
            enable_progress_bars()


def _explanation(error: BaseException, what: str) -> str:
    refused = error.__cause__ if isinstance(error, LocalEntryNotFoundError | RuntimeError) else error
    match refused:
        case GatedRepoError():
            return f"access to {what} is restricted: ask for it on its page, then {LOGIN}"
        case RepositoryNotFoundError():
            return f"the Hub has no {what}, or it is private: check the name, or {LOGIN}"
        case RevisionNotFoundError():
            return f"the Hub has no {what}: there is no such revision"
        case HfHubHTTPError():
            return f"the Hub refuses {what}: {_answer(refused)}"
    match error:
        case LocalEntryNotFoundError() | OfflineModeIsEnabled():
            return f"the Hub cannot be reached, and {what} is not in its cache: connect to the network"
        case HFValidationError():
            return f"{what}: {first_line(error)}"
        case ConnectionFailure():
            return f"the connection to the Hub failed at {what}: try again"
    return f"{what}: {first_line(error)}"


def _answer(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if status == 401:
        return f"it does not know the token; {LOGIN}"
    if status == 403:
        return "the token does not allow it"
    return f"{status} {' '.join((error.server_message or error.response.reason_phrase).split())}"


def hide_token(message: str) -> str:
    """The message without what looks like a token of the Hub."""
    return TOKEN.sub("hf_…", message)


def _shown(repository: str, revision: str | None) -> str:
    return f"{HUB}//{repository}" + (f"@{revision}" if revision else "")
