"""Decoders from the Hugging Face Hub: `--checkpoints hf://OWNER/NAME[@REVISION]`."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Outcome, publish_tiny
from hub_server import TOKEN, Hub, Repository
from huggingface_hub import constants

from inverters import InverterError, load_inverter
from inverters.app.networks import find_networks

Run = Callable[..., Outcome]
ADDRESS = "hf://owner/decoders"
CARDS = {f"vgg19-random/{layer}/config.json" for layer in ("relu1_1", "relu2_1")}
WEIGHTS = "vgg19-random/relu2_1/model.safetensors"


def uploaded(hub: Hub, root: Path, private: bool = False) -> str:
    """Put a folder of decoders on the Hub, and return the hash of its commit."""
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    repository = hub.repositories.setdefault("owner/decoders", Repository(private))
    return repository.commit(files | {"vgg19-random/relu2_1/optimizer.pt": b"never downloaded"})


@pytest.fixture
def layer(invert: Run) -> Callable[..., Outcome]:
    """Lists the layers, which reads cards only."""
    return lambda address=ADDRESS: invert("layers", "--weights", "random", "--checkpoints", address)


def loaded(address: str = ADDRESS) -> torch.Tensor:
    """What the decoder of relu2_1 makes of an image."""
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    inverter = load_inverter("relu2_1", weights="random", checkpoints=address, device="cpu")
    return inverter.reconstruct(images)["relu2_1"]


def test_only_what_the_layers_need_is_downloaded(hub: Hub, tiny_checkpoints: Path) -> None:
    uploaded(hub, tiny_checkpoints)
    assert torch.equal(loaded(), loaded(str(tiny_checkpoints)))
    assert hub.downloads() == CARDS | {WEIGHTS}
    count = len(hub.requests)
    loaded()
    assert hub.requests[count:] == ["GET /api/models/owner/decoders/revision/main"]  # whether there is a newer commit


def test_commands_print_the_commit_that_they_took(
    hub: Hub, invert: Run, tiny_checkpoints: Path, photograph: Path, tmp_path: Path
) -> None:
    commit = uploaded(hub, tiny_checkpoints)
    options = ("--weights", "random", "--layers", "relu2_1", "--size", "32", "-o", tmp_path / "out")
    status, out, err = invert("predict", photograph, *options, "--checkpoints", ADDRESS)
    assert status == 0
    assert err.splitlines()[0] == f"decoders of {ADDRESS}@{commit}"
    assert "hf://" not in out
    assert hub.downloads() == CARDS | {WEIGHTS}


def test_a_revision_stays_while_the_repository_changes(
    hub: Hub, layer: Callable[..., Outcome], tiny_checkpoints: Path, tmp_path: Path
) -> None:
    first = uploaded(hub, tiny_checkpoints)
    uploaded(hub, publish_tiny(tmp_path / "more", ("relu3_1",)))
    assert layer().out.count("12.3 dB") == 3
    old = layer(f"{ADDRESS}@{first}")
    assert old.out.count("12.3 dB") == 2
    assert old.err == f"decoders of {ADDRESS}@{first}\n"


def test_the_environment_may_name_the_hub(
    hub: Hub, invert: Run, tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = uploaded(hub, tiny_checkpoints)
    monkeypatch.setenv("INVERTERS_CHECKPOINTS", ADDRESS)
    status, out, err = invert("layers", "--weights", "random")
    assert (status, out.count("12.3 dB"), err) == (0, 2, f"decoders of {ADDRESS}@{commit}\n")


def test_offline_the_cache_is_enough(
    hub: Hub, layer: Callable[..., Outcome], tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = uploaded(hub, tiny_checkpoints)
    online = loaded()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(loaded(), online)
    assert layer().err == f"decoders of {ADDRESS}@{commit}\n"
    with pytest.raises(InverterError, match=r"relu1_1/model.safetensors of .* is not in its cache") as error:
        load_inverter("relu1_1", weights="random", checkpoints=ADDRESS)
    assert len(str(error.value).splitlines()) == 1


def test_offline_with_an_empty_cache(hub: Hub, layer: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert layer() == (
        1,
        "",
        f"error: the Hub cannot be reached, and {ADDRESS} is not in its cache: connect to the network\n",
    )
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_a_hub_that_does_not_listen(layer: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    status, _, err = layer()
    assert (status, len(err.splitlines())) == (1, 1)
    assert f"the Hub cannot be reached, and {ADDRESS} is not in its cache" in err


def test_an_interrupted_download_goes_on(hub: Hub, tiny_checkpoints: Path) -> None:
    uploaded(hub, tiny_checkpoints)
    hub.cuts = 2
    assert torch.equal(loaded(), loaded(str(tiny_checkpoints)))
    assert hub.cuts == 0


def test_a_download_that_is_always_interrupted(hub: Hub, tiny_checkpoints: Path) -> None:
    uploaded(hub, tiny_checkpoints)
    hub.cuts = 1000
    with pytest.raises(InverterError, match=r"the connection to the Hub failed at .*relu2_1/") as error:
        loaded()
    assert len(str(error.value).splitlines()) == 1
    hub.cuts = 0
    assert torch.equal(loaded(), loaded(str(tiny_checkpoints)))


def test_weights_with_another_hash_are_refused_and_forgotten(hub: Hub, tiny_checkpoints: Path) -> None:
    uploaded(hub, tiny_checkpoints)
    hub.damaged = True
    with pytest.raises(InverterError, match=r"relu2_1/model.safetensors of hf://.* has not the hash"):
        loaded()
    hub.damaged = False
    assert torch.equal(loaded(), loaded(str(tiny_checkpoints)))


def test_weights_that_the_repository_lacks(hub: Hub, tiny_checkpoints: Path) -> None:
    (tiny_checkpoints / WEIGHTS).unlink()
    commit = uploaded(hub, tiny_checkpoints)
    with pytest.raises(InverterError, match=f"^{ADDRESS}@{commit} has no file {WEIGHTS}$"):
        loaded()


def test_a_private_repository(
    hub: Hub, layer: Callable[..., Outcome], tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded(hub, tiny_checkpoints, private=True)
    anonymous = layer()
    assert anonymous == (
        1,
        "",
        f"error: the Hub has no {ADDRESS}, or it is private: check the name, or log in by `hf auth login`, or set "
        "$HF_TOKEN\n",
    )
    monkeypatch.setenv("HF_TOKEN", "hf_ofSomeoneElse")
    stranger = layer()
    assert (stranger.status, len(stranger.err.splitlines())) == (1, 1)
    assert "does not know the token" in stranger.err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    welcome = layer()
    assert welcome.status == 0
    assert "hf_" not in anonymous.err + stranger.err + welcome.err + welcome.out


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://owner/absent", "the Hub has no hf://owner/absent, or it is private"),
        (f"{ADDRESS}@v9", f"the Hub has no {ADDRESS}@v9: there is no such revision"),
        ("hf://owner", "hf://owner is no address of decoders: write hf://OWNER/NAME[@REVISION]"),
        ("hf://a/b/c", "hf://a/b/c is no address of decoders"),
        (f"hf://me:{TOKEN}@owner/decoders", "hf://me:hf_…@owner/decoders is no address of decoders"),
        ("hf://owner/a--b", "hf://owner/a--b"),
        ("hf://owner/other", "hf://owner/other holds no decoders of inverters"),
    ],
)
def test_addresses_without_decoders(
    hub: Hub, layer: Callable[..., Outcome], tiny_checkpoints: Path, address: str, message: str
) -> None:
    uploaded(hub, tiny_checkpoints)
    hub.repositories["owner/other"] = Repository()
    hub.repositories["owner/other"].commit({"config.json": b"{}", "model.safetensors": b"another library's"})
    status, out, err = layer(address)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"error: {message}")
    assert TOKEN not in err


@pytest.mark.parametrize("status", [403, 500])
def test_a_hub_that_fails(
    hub: Hub, layer: Callable[..., Outcome], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.status = status
    result = layer()
    assert (result.status, len(result.err.splitlines())) == (1, 1)
    assert f"the Hub refuses {ADDRESS}: " in result.err


def test_a_folder_called_snapshots_is_no_cache(tiny_checkpoints: Path, tmp_path: Path) -> None:
    root = tmp_path / "snapshots" / "mine"
    shutil.copytree(tiny_checkpoints, root)
    (root / WEIGHTS).unlink()
    with pytest.raises(InverterError, match=r"^no decoder at .*relu2_1: model.safetensors is missing$"):
        loaded(str(root))


def test_pages_of_decoders_are_not_written_into_the_cache(
    hub: Hub, invert: Run, tiny_checkpoints: Path, photograph: Path
) -> None:
    commit = uploaded(hub, tiny_checkpoints)
    status, _, err = invert("cards", photograph, "--weights", "random", "--checkpoints", ADDRESS)
    assert status == 1
    assert err.splitlines()[-1].startswith("error: ")
    assert err.endswith(f"{commit} belongs to the cache of the Hub: copy it, and name the copy with --checkpoints\n")


def test_the_page_runs_no_code_that_a_downloaded_card_names(
    hub: Hub, tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    card = tiny_checkpoints / "vgg19-random" / "relu1_1" / "config.json"
    trap = card.read_text().replace('"vgg19"', '"trap:encoder"')
    for folder in (tiny_checkpoints / "trap-encoder-random" / "relu1_1", tmp_path / "local" / "trap" / "relu1_1"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(trap)
    uploaded(hub, tiny_checkpoints)
    assert [network.encoder for network in find_networks(ADDRESS)] == ["vgg19"]
    assert "trap" not in sys.modules
    with pytest.raises(InverterError):  # it has no such function
        find_networks(tmp_path / "local")
    assert sys.modules.pop("trap")
