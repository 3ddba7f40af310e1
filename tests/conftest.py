"""What several test files need: a tiny encoder's published decoders, and a way to run the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from inverters.checkpoint import DecoderCard, publish_decoder
from inverters.cli import main
from inverters.decoder import FeatureDecoder
from inverters.encoder import VGGEncoder

TINY_LAYERS = ("relu1_1", "relu2_1")


def publish_tiny(root: Path, layers: tuple[str, ...] = TINY_LAYERS, weights: str = "random") -> Path:
    """Untrained decoders of few channels for an encoder with random weights, published under `root`."""
    encoder = VGGEncoder(layers, weights=weights)
    for layer in layers:
        torch.manual_seed(0)
        decoder = FeatureDecoder(layer, stages=[(4, 1)])
        card = DecoderCard(
            encoder="vgg19",
            weights=weights,
            fingerprint=encoder.fingerprint(layer),
            layer=layer,
            decoder={"stages": decoder.stages},
            loss={"pixel": 1.0},
            data={},
            steps=0,
            seed=0,
            versions={},
            metrics={"psnr": 12.3},
        )
        publish_decoder(decoder, card, root)
    return root


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
def tiny_checkpoints(tmp_path: Path) -> Path:
    return publish_tiny(tmp_path / "tiny-checkpoints")
