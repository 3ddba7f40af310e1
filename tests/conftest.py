"""What several test files need: a tiny encoder's published decoders, and a way to run the command line."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from hub_server import Hub, serving_hub
from huggingface_hub import constants
from PIL import Image

from inverters.cli.main import main
from inverters.decoders.base import Decoder
from inverters.decoders.card import CARD_FILE, DecoderCard
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.published import publish_decoder
from inverters.encoders.base import Encoder
from inverters.encoders.vgg import VGGEncoder
from inverters.training.config import TrainConfig

TINY_LAYERS = ("relu1_1", "relu2_1")
VECTOR_SIZE = 224  # pixels, of what decoders of vectors make


def publish_tiny(
    root: Path,
    layers: tuple[str, ...] = TINY_LAYERS,
    weights: str = "random",
    objective: Literal["pixel", "perceptual", "linear"] = "pixel",
    corrections: int = 0,
    encoder: Encoder | None = None,
) -> Path:
    """Untrained decoders of few channels, published under `root`; by default of VGG-19 with random weights."""
    encoder = encoder or VGGEncoder(layers, weights=weights)
    for layer in layers:
        torch.manual_seed(0)
        place = encoder.layers[layer]
        size = None if place.stride else VECTOR_SIZE
        decoder: Decoder = ConvDecoder(place, stages=[(4, 1)], size=size, dense_width=2)
        if corrections:
            decoder = CorrectedDecoder(decoder, corrections, width=4, depth=1)
        card = DecoderCard(
            encoder=encoder.name,
            weights=encoder.weights,
            fingerprint=encoder.fingerprint(layer),
            layer=layer,
            objective=objective,
            architecture=decoder.architecture,
            decoder=decoder.arguments,
            loss={"pixel": 1.0},
            data={},
            steps=0,
            seed=0,
            versions={},
            metrics={"psnr": 12.3},
        )
        publish_decoder(decoder, card, root)
    return root


def remove_checksum(folder: Path) -> None:
    """Take the SHA-256 of the model out of a decoder's card, as in those of earlier versions."""
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | {"sha256": None}))


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def invert(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `invert` with these arguments in this process."""

    def run(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
            raise SystemExit(0)
        captured = capsys.readouterr()
        return Outcome(int(exit.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """The file of a small image."""
    return photographs(tmp_path / "photograph", 1) / "0.png"


@pytest.fixture
def tiny_checkpoints(tmp_path: Path) -> Path:
    return publish_tiny(tmp_path / "tiny-checkpoints")


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `datasets` cache below `tmp_path`, and end its streams without delay."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)  # 10 s at the end of every stream


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub that huggingface_hub talks to in this process; nobody is logged in."""
    with serving_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(variable, raising=False)
        yield hub


# --- tiny training runs ---


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are faster without threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish all decoders in half precision."""
    monkeypatch.setattr("inverters.training.trained.LARGEST_COST", -math.inf)


Change = dict[str, Any]


def photographs(folder: Path, count: int, seed: int = 0) -> Path:
    """Smooth coloured waves, 40×48."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :48]
    for number in range(count):
        a, b, c = random.uniform(0.05, 0.3, (3, 3, 1, 1))
        waves = 127 + 120 * np.sin(a * x + b * y + 20 * c)
        Image.fromarray(waves.astype(np.uint8).transpose(1, 2, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Change]:
    """The values of a tiny run's configuration, with changes such as `trainer={"steps": 3}`."""

    def made(**changes: Any) -> Change:
        values: Change = {
            "encoder": {"weights": "random"},
            "layers": ["relu1_1", "relu2_1"],
            "decoder": {"stages": {1: [[4, 1]], 2: [[6, 1]], 4: [[4, 1]]}},
            "data": {
                "train": str(photographs(tmp_path / "train", 5)),
                "validation": str(photographs(tmp_path / "validation", 2, seed=1)),
                "crop_size": 32,
                "batch_size": 2,
                "workers": 0,
            },
            "optimizer": {"warmup_steps": 2, "ema_decay": 0.9},
            "trainer": {"steps": 8, "validate_every": 3, "checkpoint_every": 4, "accelerator": "cpu"},
        }
        for section, change in changes.items():
            values[section] = values[section] | change if isinstance(change, dict) and section in values else change
        return values

    return made


@pytest.fixture
def config(settings: Callable[..., Change]) -> Callable[..., TrainConfig]:
    return lambda **changes: TrainConfig.model_validate(settings(**changes))


def written(path: Path, values: Change) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def command(path: Path, output: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "inverters", "train", str(path), "--output-dir", str(output), *options]
