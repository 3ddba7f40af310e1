"""Training corrections of published decoders, or of new ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Change, Outcome, written

from inverters.decoders.card import read_card
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.published import load_decoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import TrainingError
from inverters.training.config import TrainConfig
from inverters.training.train import train

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
Configured = Callable[..., TrainConfig]
SIZES = {"corrections": 2, "correction_sizes": {1: [4, 2], 2: [4, 1]}}
GENTLE = {"learning_rate": 5e-5, "warmup_steps": 0, "ema_decay": 0.0}


@pytest.fixture
def bases(tmp_path: Path, config: Configured) -> Path:
    train(config(trainer={"steps": 4, "precision": "32-true"}), tmp_path / "bases")
    return tmp_path / "bases" / "checkpoints"


def loaded(folder: Path) -> CorrectedDecoder:
    card = read_card(folder)
    decoder = load_decoder(folder, VGGEncoder([card.layer], weights="random"))
    assert isinstance(decoder, CorrectedDecoder)
    return decoder


def test_published_decoders_become_bases_that_do_not_change(tmp_path: Path, config: Configured, bases: Path) -> None:
    run = config(decoder={"initial": str(bases), "stages": {}, **SIZES}, optimizer=GENTLE)
    for folder in train(run, tmp_path / "corrected"):
        decoder = loaded(folder)
        base = load_decoder(bases / "vgg19-random" / folder.name, VGGEncoder([decoder.layer.name], weights="random"))
        assert (len(decoder.corrections), decoder.width) == (2, 4)
        assert decoder.depth == {1: 2, 2: 1}[decoder.layer.spatial_stride]
        state = decoder.base.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in base.state_dict().items())


def test_corrections_are_trained_with_new_decoders(tmp_path: Path, config: Configured) -> None:
    made = train(config(decoder={"stages": {1: [[3, 1]], 2: [[3, 1]]}, **SIZES}, optimizer=GENTLE), tmp_path / "out")
    for folder in made:
        base = loaded(folder).base
        assert isinstance(base, ConvDecoder)
        assert base.stages == [(3, 1)]


def test_new_corrections_take_the_place_of_published_ones(tmp_path: Path, config: Configured, bases: Path) -> None:
    first = config(decoder={"initial": str(bases), "stages": {}, **SIZES}, optimizer=GENTLE)
    train(first, tmp_path / "first")
    initial = {"initial": str(tmp_path / "first" / "checkpoints"), "stages": {}}
    second = train(config(decoder={**initial, "corrections": 1}, optimizer=GENTLE), tmp_path / "second")
    assert {len(loaded(folder).corrections) for folder in second} == {1}
    assert {loaded(folder).width for folder in second} == {32, 64}  # the default sizes
    onward = train(config(decoder=initial, optimizer=GENTLE), tmp_path / "third")
    assert {len(loaded(folder).corrections) for folder in onward} == {2}


def test_linear_decoders_are_bases_only(
    tmp_path: Path, config: Configured, settings: Callable[..., Change], invert: Callable[..., Outcome]
) -> None:
    train(config(objective="linear", linear={"kernel_size": 1}), tmp_path / "linear")
    initial = {"initial": str(tmp_path / "linear" / "checkpoints"), "initial_objective": "linear", "stages": {}}
    path = written(tmp_path / "run.yaml", settings(decoder=initial))
    outcome = invert("train", path, "--output-dir", tmp_path / "out")
    assert outcome.status == 1
    assert "holds a linear decoder, which is fitted and not trained: set decoder.corrections" in outcome.err


def test_corrections_improve_linear_decoders(tmp_path: Path, config: Configured) -> None:
    linear = train(config(objective="linear", layers=["relu1_1"]), tmp_path / "linear")
    run = config(
        layers=["relu1_1"],
        decoder={"initial": str(tmp_path / "linear" / "checkpoints"), "initial_objective": "linear", "stages": {}}
        | SIZES,
        optimizer={"learning_rate": 3e-4, "warmup_steps": 10, "ema_decay": 0.0},
        trainer={"steps": 60, "validate_every": 60},
    )
    ((before, (folder, after)),) = zip(linear.values(), train(run, tmp_path / "corrected").items(), strict=True)
    assert loaded(folder).base.architecture == "linear"
    assert after.psnr == after.history[60] > before.psnr + 3


def test_an_architecture_that_the_base_does_not_have(tmp_path: Path, config: Configured, bases: Path) -> None:
    run = config(decoder={"initial": str(bases), "stages": {1: [[7, 0]]}, **SIZES})
    with pytest.raises(TrainingError, match=r"decoder.stages.1 is \[\(7, 0\)\], but .* leave decoder.stages out"):
        train(run, tmp_path / "out")


def test_a_run_with_corrections_is_resumed(tmp_path: Path, config: Configured, bases: Path) -> None:
    decoder = {"initial": str(bases), "stages": {}, **SIZES}
    train(config(decoder=decoder, optimizer=GENTLE, trainer={"steps": 2}), tmp_path / "parts")
    parts = train(config(decoder=decoder, optimizer=GENTLE, trainer={"steps": 4}), tmp_path / "parts", resume=True)
    assert {loaded(folder).architecture for folder in parts} == {"corrected"}
    assert [made.history.keys() for made in parts.values()] == [{0, 2, 3, 4}, {0, 2, 3, 4}]
