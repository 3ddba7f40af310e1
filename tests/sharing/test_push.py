"""`invert push`: decoders and their model card on a Hub."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from conftest import Outcome, publish_tiny
from hub_server import TOKEN, Hub, Repository
from huggingface_hub import ModelCard, ModelCardData
from PIL import Image
from safetensors.torch import load_file

from inverters.decoders.card import read_card
from inverters.sharing import hub_card
from inverters.sharing.hub_card import published_cards, write_hub_card

Run = Callable[..., Outcome]
NAME = "owner/decoders"


@pytest.fixture
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture
def decoders(tiny_checkpoints: Path) -> Path:
    """With a picture, so that none has to be made."""
    Image.new("RGB", (30, 20)).save(tiny_checkpoints / "vgg19-random" / "pixel.jpg")
    return tiny_checkpoints


def newest(hub: Hub) -> dict[str, bytes]:
    commits = hub.repositories[NAME].commits
    return commits[[*commits][-1]]


def test_what_was_pushed_is_found_again(logged_in: Hub, invert: Run, decoders: Path) -> None:
    status, out, err = invert("push", NAME, "--checkpoints", decoders)
    assert (status, err) == (0, "")
    assert (match := re.fullmatch(rf"pushed 2 decoders to (hf://{NAME}@[0-9a-f]{{40}})\n", out))
    folders = [f"vgg19-random/{layer}" for layer in ("relu1_1", "relu2_1")]
    files = [f"{folder}/{name}" for folder in folders for name in ("config.json", "model.safetensors")]
    assert set(newest(logged_in)) == {"README.md", "vgg19-random/pixel.jpg", *files}
    for name in files:
        if name.endswith(".safetensors"):
            assert newest(logged_in)[name] == (decoders / name).read_bytes()
    assert len(logged_in.repositories[NAME].commits) == 1
    assert invert("layers", "--weights", "random", "--checkpoints", match[1]).out.count("12.3 dB") == 2


def test_the_model_card(logged_in: Hub, invert: Run, decoders: Path) -> None:
    path = decoders / "vgg19-random" / "relu2_1" / "config.json"
    data = {"train": ["timm/imagenet-12k", "/home/me/photographs"], "validation": "timm/mini"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": data, "metrics": {"psnr": 23.4567}}))
    assert invert("push", NAME, "--checkpoints", decoders, "--license", "apache-2.0").status == 0
    page = newest(logged_in)["README.md"].decode()
    card = ModelCard(page)
    assert isinstance(card.data, ModelCardData)
    assert card.data.library_name == "inverters"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["timm/imagenet-12k", "timm/mini"]
    assert {"feature-inversion", "vgg19"} <= set(card.data.tags)
    found = {result.metric_name: (result.metric_value, result.dataset_name) for result in card.data.eval_results}
    assert found == {
        "PSNR of vgg19-random/relu1_1": (12.3, "validation images"),
        "PSNR of vgg19-random/relu2_1": (23.457, "timm/mini"),
    }
    assert "| `relu2_1` | 23.46 dB |" in card.text
    assert re.findall(r"^## (.*)$", card.text, re.M) == ["Use", "Decoders", "Training data", "Limits", "Citation"]
    assert f"invert predict photo.jpg --weights random --checkpoints hf://{NAME}\n" in card.text
    assert set(re.findall(r"!\[.*\]\((.*)\)", card.text)) == {"vgg19-random/pixel.jpg"}
    sent = b"".join(data for name, data in newest(logged_in).items() if not name.endswith((".jpg", ".safetensors")))
    assert b"photographs" in sent and b"/home/me" not in sent
    assert TOKEN.encode() not in sent


def test_a_card_without_metrics_and_data(tiny_checkpoints: Path) -> None:
    path = tiny_checkpoints / "vgg19-random" / "relu1_1" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {}}))
    (tiny_checkpoints / "vgg19-random" / "relu2_1" / "config.json").unlink()
    card = ModelCard(write_hub_card(NAME, published_cards(tiny_checkpoints), {}, "mit"))
    assert card.data.to_dict().keys() == {"library_name", "license", "pipeline_tag", "tags", "metrics"}


@pytest.mark.parametrize(
    ("place", "shown"),
    [("/home/me/photos", "photos"), ("~/photos", "photos"), ("C:\\me\\photos", "photos"), ("a/b", "a/b"), (3, 3)],
)
def test_places_of_this_machine_stay_here(place: object, shown: object) -> None:
    assert hub_card._shortened([place]) == [shown]


def test_the_shipped_decoders_have_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).parents[2] / "checkpoints"
    page = write_hub_card(NAME, published_cards(root), {"vgg19-original/pixel.jpg": b""}, "mit")
    card = ModelCard(page)
    assert len(card.data.eval_results) == len(list(root.glob("*/*/config.json")))
    assert f'inverters.invert("photo.jpg", checkpoints="hf://{NAME}")' in card.text
    rows = [line for line in card.text.splitlines() if line.startswith("| `relu")]
    assert rows[0].startswith("| `relu1_1` |") and rows[-1].startswith("| `relu5_2-linear` |")


def test_pictures_that_are_missing_are_made(logged_in: Hub, invert: Run, tmp_path: Path) -> None:
    root = publish_tiny(tmp_path / "decoders", ("relu1_1",))
    assert invert("push", NAME, "--checkpoints", root, "--quiet") == (0, "", "")
    assert Image.open(BytesIO(newest(logged_in)["vgg19-random/pixel.jpg"])).width > 400
    assert not (root / "vgg19-random" / "pixel.jpg").exists()


def test_a_private_repository_is_created(logged_in: Hub, invert: Run, decoders: Path) -> None:
    result = invert("push", NAME, "--checkpoints", decoders, "--private", "--json")
    assert result.status == 0
    assert json.loads(result.out)["decoders"] == 2
    assert logged_in.repositories[NAME].private
    logged_in.repositories[NAME].private = False
    again = invert("push", NAME, "--checkpoints", decoders, "--private")
    assert (again.status, again.err) == (
        1,
        f"error: hf://{NAME} exists and is public: make it private on its page, or choose another name\n",
    )


def test_pushing_again_adds_to_the_repository(logged_in: Hub, invert: Run, decoders: Path, tmp_path: Path) -> None:
    assert invert("push", NAME, "--checkpoints", decoders).status == 0
    more = publish_tiny(tmp_path / "more", ("relu3_1",))
    Image.new("RGB", (30, 20)).save(more / "vgg19-random" / "pixel.jpg")
    assert invert("push", NAME, "--checkpoints", more).status == 0
    assert {name.split("/")[1] for name in newest(logged_in) if name.endswith("config.json")} == {
        "relu1_1",
        "relu2_1",
        "relu3_1",
    }


@pytest.mark.parametrize("name", ["absent", "a/b/c", "owner/", f"owner/{TOKEN}/"])
def test_names_that_are_none(logged_in: Hub, invert: Run, decoders: Path, name: str) -> None:
    status, _, err = invert("push", name, "--checkpoints", decoders)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "is no name of a repository: write OWNER/NAME" in err
    assert TOKEN not in err and not logged_in.requests


def test_nobody_is_logged_in(hub: Hub, invert: Run, decoders: Path) -> None:
    status, _, err = invert("push", NAME, "--checkpoints", decoders)
    assert status == 1
    assert err == (
        "error: pushing needs a token of the Hugging Face Hub: log in by `hf auth login`, or set $HF_TOKEN\n"
    )
    assert not hub.requests


def test_a_token_that_is_none(hub: Hub, invert: Run, decoders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrongOne")
    status, _, err = invert("push", NAME, "--checkpoints", decoders)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "does not know the token" in err and "hf_" not in err
    assert not hub.repositories


def test_the_repository_of_someone_else(logged_in: Hub, invert: Run, decoders: Path) -> None:
    status, _, err = invert("push", "someone/decoders", "--checkpoints", decoders)
    assert (status, err) == (1, "error: the Hub refuses hf://someone/decoders: the token does not allow it\n")
    assert not logged_in.repositories


def test_a_repository_that_holds_something_else(logged_in: Hub, invert: Run, decoders: Path) -> None:
    logged_in.repositories[NAME] = Repository()
    logged_in.repositories[NAME].commit({".gitattributes": b"", "README.md": b"", "config.json": b"{}"})
    status, _, err = invert("push", NAME, "--checkpoints", decoders)
    assert status == 1
    assert err == f"error: hf://{NAME} holds config.json and no decoders of inverters: choose another name\n"


def test_an_upload_that_fails_leaves_the_repository(logged_in: Hub, invert: Run, decoders: Path) -> None:
    logged_in.refuses = True
    status, _, err = invert("push", NAME, "--checkpoints", decoders)
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"error: the Hub refuses hf://{NAME}: 400") and TOKEN not in err
    assert not logged_in.repositories[NAME].commits


def test_a_damaged_decoder_is_not_sent(logged_in: Hub, invert: Run, decoders: Path) -> None:
    (decoders / "vgg19-random" / "relu2_1" / "model.safetensors").write_bytes(b"damaged")
    status, _, err = invert("push", NAME, "--checkpoints", decoders)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "relu2_1/model.safetensors is not the decoder of its card" in err
    assert not logged_in.requests


def test_a_folder_without_decoders(logged_in: Hub, invert: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    status, _, err = invert("push", NAME, "--checkpoints", tmp_path / "empty")
    assert (status, err) == (1, f"error: no decoders under {tmp_path / 'empty'}: train some with `invert train`\n")
    assert not logged_in.requests


@pytest.mark.slow
def test_as_a_user_does_it(hub: Hub, decoders: Path, photograph: Path, tmp_path: Path) -> None:
    """In processes of their own, with huggingface_hub as it finds the variables."""
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | variables

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "inverters", *map(str, arguments)]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)

    pushed = run("push", NAME, "--checkpoints", decoders, "--private", HF_TOKEN=TOKEN)
    assert (pushed.returncode, pushed.stderr) == (0, "")
    predict = ("predict", photograph, "--weights=random", f"--checkpoints=hf://{NAME}", "-o", tmp_path / "out")
    anonymous = run(*predict)
    assert (anonymous.returncode, len(anonymous.stderr.splitlines())) == (1, 1)
    inverted = run(*predict, HF_TOKEN=TOKEN)
    assert inverted.returncode == 0, inverted.stderr
    assert TOKEN not in pushed.stdout + anonymous.stderr + inverted.stdout + inverted.stderr
    assert (tmp_path / "out" / photograph.stem / "relu2_1.png").exists()
    (cached,) = (tmp_path / "home").rglob("snapshots/*/vgg19-random/relu2_1/model.safetensors")
    assert load_file(cached).keys() == load_file(decoders / "vgg19-random" / "relu2_1" / "model.safetensors").keys()
    assert read_card(cached.parent) == read_card(decoders / "vgg19-random" / "relu2_1")
