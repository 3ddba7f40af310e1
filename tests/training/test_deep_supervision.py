"""Training decoders of deep layers through shallower ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Change, Outcome, written

from inverters.data.images import load_image
from inverters.decoders.card import read_card
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.published import load_decoder
from inverters.decoders.through import ThroughDecoder, find_through
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import CheckpointError
from inverters.training.config import TrainConfig
from inverters.training.initial import find_initial, load_initial, new_decoders
from inverters.training.module import SMALLEST_LOSS, InversionModule
from inverters.training.train import train

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
Configured = Callable[..., TrainConfig]
THROUGH = {"through": "relu1_2", "through_size": [6, 1], "stages": {1: [[4, 1]]}}
GENTLE = {"learning_rate": 5e-5, "warmup_steps": 0, "ema_decay": 0.0}


def through(decoder: torch.nn.Module) -> ThroughDecoder:
    found = find_through(decoder)
    assert found is not None
    return found


def built(config: TrainConfig) -> InversionModule:
    encoder = VGGEncoder(config.encoder_layers, weights="random")
    module = InversionModule(config, encoder, new_decoders(config, encoder))
    module.fit_statistics([images()])
    return module


def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_loss_compares_the_predicted_features_too(config: Configured) -> None:
    run = config(layers=["relu2_1"], decoder=THROUGH, loss={"through": 0.5})
    module = built(run)
    decoder, x = through(module.decoders["relu2_1"]), images()
    features = module.encoder(x, ["relu1_2", "relu2_1"])
    for layer, some in (("relu1_2", decoder.target), ("relu2_1", decoder)):
        torch.testing.assert_close(some.mean.flatten(), features[layer].mean((0, 2, 3)))
        torch.testing.assert_close(
            some.std.flatten(), features[layer].std((0, 2, 3), correction=0), atol=1e-5, rtol=1e-3
        )
    standardized = (features["relu1_2"] - decoder.target.mean) / decoder.target.std
    predicted = decoder.translator((features["relu2_1"] - decoder.mean) / decoder.std)
    pixels = (decoder(features["relu2_1"]) - x).square().mean()
    expected = pixels + 0.5 * (predicted - standardized).square().mean()
    torch.testing.assert_close(module.training_step(x, 0), expected)
    module.training_step(x, 0).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_corrections_are_trained_with_it(config: Configured) -> None:
    """The base has its own loss, with that of the predicted features."""
    decoder = THROUGH | {"corrections": 1, "correction_sizes": {2: [4, 1]}}
    values = [
        built(config(layers=["relu2_1"], decoder=decoder, loss={"through": weight})).training_step(images(), 0)
        for weight in (0.0, 0.5)
    ]
    alone = [
        built(config(layers=["relu2_1"], decoder=THROUGH, loss={"through": weight})).training_step(images(), 0)
        for weight in (0.0, 0.5)
    ]
    logarithms = [(loss + SMALLEST_LOSS).log() for loss in alone]
    torch.testing.assert_close(values[1] - values[0], logarithms[1] - logarithms[0])


def test_training_learns_to_predict_the_features(tmp_path: Path, config: Configured) -> None:
    run = config(
        layers=["relu2_1"],
        decoder=THROUGH,
        loss={"through": 1.0},
        optimizer={"learning_rate": 3e-4, "warmup_steps": 5, "ema_decay": 0.0},
        trainer={"steps": 60, "validate_every": 60},
    )
    ((folder, made),) = train(run, tmp_path / "out").items()
    assert made.history[60] > made.history[0] + 1
    card = read_card(folder)
    assert (card.architecture, card.decoder["target"]["layer"]["name"]) == ("through", "relu1_2")
    assert card.loss["through"] == 1.0
    encoder = VGGEncoder(["relu2_1"], weights="random")
    decoder = through(load_decoder(folder, encoder))
    image = load_image(tmp_path / "validation" / "0.png")[None, :, :32, :32]
    features = encoder(image, ["relu1_2", "relu2_1"])
    target = decoder.target.prepare(features["relu1_2"])
    predicted = decoder.translator(decoder.prepare(features["relu2_1"]))
    assert (predicted - target).square().mean() < 0.8 * target.square().mean()


@pytest.fixture
def published(tmp_path: Path, config: Configured) -> Path:
    """relu1_2's decoder, with corrections."""
    decoder = {"stages": {1: [[5, 1]]}, "log_compress": True, "corrections": 1, "correction_sizes": {1: [4, 1]}}
    train(config(layers=["relu1_2"], decoder=decoder, trainer={"steps": 2}), tmp_path / "first")
    return tmp_path / "first" / "checkpoints"


def test_the_second_half_starts_from_a_published_decoder(tmp_path: Path, config: Configured, published: Path) -> None:
    """Without its corrections. Both halves are trained, and their training goes on from the published result."""
    encoder = VGGEncoder(["relu2_1"], weights="random")
    decoder = THROUGH | {"initial": str(published), "stages": {}, "corrections": 1, "correction_sizes": {2: [4, 1]}}
    run = config(layers=["relu2_1"], decoder=decoder, optimizer=GENTLE, trainer={"steps": 2})
    (initial,) = (load_initial(layer, path, run, encoder) for layer, path in find_initial(run, encoder).items())
    source = load_decoder(published / "vgg19-random" / "relu1_2", encoder)
    assert isinstance(source, CorrectedDecoder)
    state = through(initial).target.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in source.base.state_dict().items())
    assert all(parameter.requires_grad for parameter in initial.parameters())
    module = InversionModule(run, encoder, {"relu2_1": initial})
    module.fit_statistics([images()])
    assert torch.equal(through(initial).target.mean, source.base.mean)
    assert through(initial).mean.any()

    (folder,) = train(run, tmp_path / "second")
    assert isinstance(load_decoder(folder, encoder), CorrectedDecoder)
    onward = {"initial": str(tmp_path / "second" / "checkpoints"), "stages": {}}
    for corrections in (0, 2):
        again = config(layers=["relu2_1"], decoder=onward | {"corrections": corrections}, optimizer=GENTLE)
        (more,) = (load_initial(layer, path, again, encoder) for layer, path in find_initial(again, encoder).items())
        assert isinstance(more, CorrectedDecoder)
        assert not any(parameter.requires_grad for parameter in through(more).parameters())
        InversionModule(again, encoder, {"relu2_1": more}).training_step(images(), 0).backward()


def test_a_run_is_resumed_and_trained_on(tmp_path: Path, config: Configured) -> None:
    changes: Change = {"layers": ["relu2_1"], "decoder": THROUGH, "optimizer": GENTLE}
    train(config(**changes, trainer={"steps": 2}), tmp_path / "out")
    ((folder, made),) = train(config(**changes, trainer={"steps": 3}), tmp_path / "out", resume=True).items()
    assert list(made.history) == [0, 2, 3]
    initial = {"initial": str(tmp_path / "out" / "checkpoints"), "stages": {}}
    ((onward, _),) = train(config(**changes | {"decoder": initial}, trainer={"steps": 1}), tmp_path / "more").items()
    assert read_card(onward).decoder == read_card(folder).decoder
    assert read_card(onward).loss["through"] == 0.02


def test_other_decoders_have_no_such_loss(tmp_path: Path, config: Configured) -> None:
    (folder,) = train(config(layers=["relu1_1"], trainer={"steps": 1}), tmp_path / "out")
    assert "through" not in read_card(folder).loss


def test_no_decoder_of_the_layer_in_between(config: Configured, published: Path) -> None:
    run = config(layers=["relu3_1"], decoder={"through": "relu2_1", "initial": str(published)})
    with pytest.raises(CheckpointError, match=r"decoder.initial: no decoder of relu2_1 in .* Available: relu1_2$"):
        find_initial(run, VGGEncoder(["relu3_1"], weights="random"))


@pytest.mark.parametrize(
    ("decoder", "layers", "line"),
    [
        ({"through": "relu4_3x"}, ["relu5_2"], "unknown layer of vgg19 'relu4_3x': did you mean 'relu4_3'?"),
        ({"through": "relu2_1"}, ["relu1_2", "relu3_1"], "relu1_2 is not deeper, or its stride 1 is no multiple of 2"),
        ({"through": "relu2_1"}, ["relu2_1"], "relu2_1 is not deeper, or its stride 2 is no multiple of 2"),
        ({"through_size": [0, 1]}, ["relu2_1"], "Input should be greater than 0"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    settings: Callable[..., Change],
    invert: Callable[..., Outcome],
    decoder: Change,
    layers: list[str],
    line: str,
) -> None:
    path = written(tmp_path / "run.yaml", settings(layers=layers, decoder=decoder))
    outcome = invert("train", path, "--output-dir", tmp_path / "out")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert f"{path}: decoder.{next(iter(decoder))}" in outcome.err
    assert line in outcome.err


def test_the_default_size(config: Configured) -> None:
    run = config(layers=["relu5_2"], decoder={"through": "relu4_2", "stages": {8: [[4, 1]]}})
    (decoder,) = new_decoders(run, VGGEncoder(run.encoder_layers, weights="random")).values()
    assert (through(decoder).width, through(decoder).blocks) == (320, 4)
    assert isinstance(through(decoder).target, ConvDecoder)
    assert through(decoder).target.stages == [(4, 1)]
