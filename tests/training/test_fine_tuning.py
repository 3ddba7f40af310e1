"""Starting from published decoders, and publishing the best of each layer."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Change, Outcome, publish_tiny, remove_checksum, written
from safetensors.torch import load_file, save_file
from torch import Tensor

from inverters.decoders.card import read_card
from inverters.decoders.published import MODEL_FILE, load_decoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import CheckpointError, TrainingError
from inverters.training.config import TrainConfig
from inverters.training.module import InversionModule
from inverters.training.train import train

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread", "half_precision")]
HARDLY = {"learning_rate": 1e-12, "warmup_steps": 0}  # changes no weight in half precision
TOO_FAST = {"learning_rate": 0.3, "warmup_steps": 0}
Configured = Callable[..., TrainConfig]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / MODEL_FILE)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def published(tmp_path: Path, config: Configured) -> Path:
    """A folder of decoders with an architecture of their own."""
    decoder = {"stages": {1: [[3, 2]], 2: [[5, 0], [2, 1]]}, "log_compress": True}
    train(config(decoder=decoder, trainer={"steps": 4, "precision": "32-true"}), tmp_path / "first")
    return tmp_path / "first" / "checkpoints"


# --- starting from published decoders ---


def test_training_goes_on_from_published_decoders_and_their_architecture(
    tmp_path: Path, config: Configured, published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = config(decoder={"initial": str(published), "stages": {}}, optimizer=HARDLY)
    with caplog.at_level(logging.INFO):
        trained = train(run, tmp_path / "second")
    for folder, made in trained.items():
        before = published / "vgg19-random" / folder.name
        assert f"{folder.name} starts from {before}" in caplog.messages
        assert equal(weights(before), weights(folder))
        old, new = read_card(before), read_card(folder)
        assert (old.initial, new.initial) == (None, str(published))
        assert old.decoder == new.decoder
        assert made.history[0] == pytest.approx(old.metrics["psnr"], abs=6e-4)
    assert read_card(folder).decoder == {"stages": [[5, 0], [2, 1]], "log_compress": True}


def test_the_shipped_decoders_need_no_architecture(
    tmp_path: Path, config: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where $INVERTERS_CHECKPOINTS names others."""
    monkeypatch.setattr("inverters.files.PACKAGE", tmp_path / "package")
    monkeypatch.setenv("INVERTERS_CHECKPOINTS", str(tmp_path))
    publish_tiny(tmp_path / "package" / "checkpoints")
    folder, _ = train(config(decoder={"initial": "shipped", "stages": {}}, optimizer=HARDLY), tmp_path / "out")
    assert equal(weights(folder), weights(tmp_path / "package" / "checkpoints" / "vgg19-random" / "relu1_1"))
    assert read_card(folder).initial == "shipped"


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        ({"stages": {2: [[5, 0], [2, 2]]}}, "decoder.stages.2 is [(5, 0), (2, 2)], but {} has [(5, 0), (2, 1)]: leave "
         "decoder.stages out, since decoder.initial brings it along"),
        ({"log_compress": False}, "decoder.log_compress is False, but {} has True: leave decoder.log_compress out, "
         "since decoder.initial brings it along"),
    ],
)  # fmt: skip
def test_another_architecture_than_the_configuration_asks_for(
    tmp_path: Path, config: Configured, published: Path, decoder: Change, expected: str
) -> None:
    run = config(decoder={"initial": str(published), "stages": {}} | decoder, layers=["relu2_1"])
    with pytest.raises(TrainingError) as error:
        train(run, tmp_path / "second")
    assert str(error.value) == expected.format(published / "vgg19-random" / "relu2_1")
    same = {"stages": {1: [[3, 2]], 2: [[5, 0], [2, 1]]}, "log_compress": True, "initial": str(published)}
    assert train(config(decoder=same, optimizer=HARDLY, trainer={"steps": 1}), tmp_path / "third")


def test_decoders_that_are_missing_or_of_another_encoder(
    tmp_path: Path, settings: Callable[..., Change], published: Path, invert: Callable[..., Outcome]
) -> None:
    def error(**changes: Any) -> str:
        run = written(tmp_path / "run.yaml", settings(**changes))
        outcome = invert("train", run, "--output-dir", tmp_path / "out")
        assert outcome.status == 1
        return outcome.err

    initial = {"initial": str(published), "stages": {}}
    folder = published / "vgg19-random"
    assert error(decoder=initial, layers=["relu1_1", "relu3_1"]) == (
        f"error: decoder.initial: no decoder of relu3_1 in {folder}. Available: relu1_1, relu2_1\n"
    )
    assert error(decoder=initial | {"initial": "shipped"}).endswith("vgg19-random. Available: none\n")
    assert error(decoder=initial | {"initial": "x" * 300}) == f"error: no folder of decoders at {'x' * 300}\n"
    shutil.copytree(folder, published / "vgg19-random-1")
    line = error(decoder=initial, encoder={"weights": "random-1"})
    assert "weights" in line and "fingerprint" in line and line.count("\n") == 1


def test_a_run_starts_from_the_decoder_of_its_objective_where_there_is_one(
    tmp_path: Path, config: Configured, published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """relu1_1 has a perceptual decoder, relu2_1 only one of objective pixel."""
    perceptual = {"objective": "perceptual", "loss": {"perceptual": 0.1}, "optimizer": HARDLY}
    initial = {"initial": str(published), "stages": {}}
    trainer = {"steps": 2, "precision": "32-true"}
    one, other = train(config(decoder=initial, trainer=trainer, **perceptual), tmp_path / "one")
    assert f"{one.name} {other.name}" == "relu1_1-perceptual relu2_1-perceptual"
    state = weights(one)
    next(iter(state.values())).add_(1)  # so that it is another decoder than that of objective pixel
    save_file(state, one / MODEL_FILE)
    remove_checksum(one)
    one.rename(published / "vgg19-random" / one.name)
    with caplog.at_level(logging.INFO):
        again = train(config(decoder=initial, trainer=trainer, **perceptual), tmp_path / "two")
    folder = published / "vgg19-random"
    assert f"relu1_1 starts from {folder / 'relu1_1-perceptual'}" in caplog.messages
    assert f"relu2_1 starts from {folder / 'relu2_1'}" in caplog.messages
    assert equal(weights(next(iter(again))), state)
    pixel = train(config(decoder=initial, trainer=trainer, optimizer=HARDLY), tmp_path / "three")
    assert equal(weights(next(iter(pixel))), weights(folder / "relu1_1"))


# --- the best of each layer ---


def test_a_fine_tuned_decoder_is_never_worse_than_the_one_it_started_from(
    tmp_path: Path, settings: Callable[..., Change], published: Path, invert: Callable[..., Outcome]
) -> None:
    values = settings(decoder={"initial": str(published), "stages": {}}, optimizer=TOO_FAST)
    outcome = invert("train", written(tmp_path / "run.yaml", values), "--output-dir", tmp_path / "second")
    assert outcome.status == 0, outcome.err
    rows = [line.strip("│ ").split("│") for line in outcome.out.splitlines() if line.startswith("│")]
    assert len(rows) == 2
    for layer, start, end, best, step in ([cell.strip() for cell in row] for row in rows):
        before, after = (root / "vgg19-random" / layer for root in (published, tmp_path / "second" / "checkpoints"))
        assert equal(weights(before), weights(after))
        assert float(end) < float(start) == float(best) == round(read_card(before).metrics["psnr"], 1)
        assert int(step) == 0 == read_card(after).steps
        assert read_card(after).metrics == read_card(before).metrics


def test_each_layer_has_its_own_best_step(tmp_path: Path, config: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    """relu1_1 is spoiled after two steps, while relu2_1 goes on learning."""

    def training_step(self: InversionModule, images: Tensor, batch_index: int) -> Tensor:
        if self.global_step == 2:
            with torch.no_grad():
                for parameter in self.decoders["relu1_1"].parameters():
                    parameter.mul_(3)
        return original(self, images, batch_index)

    original = InversionModule.training_step
    monkeypatch.setattr(InversionModule, "training_step", training_step)
    run = config(trainer={"steps": 6, "validate_every": 2}, optimizer={"learning_rate": 3e-4, "ema_decay": 0})
    trained = train(run, tmp_path / "out")
    shallow, deep = trained.values()
    assert list(shallow.history) == list(deep.history) == [0, 2, 4, 6]
    assert shallow.step <= 2 < deep.step
    for folder, made in trained.items():
        assert made.psnr == made.history[made.step] == max(made.history.values())
        assert read_card(folder).steps == made.step
        published = load_decoder(folder, VGGEncoder([folder.name], weights="random"))
        assert equal(published.state_dict(), made.decoder.state_dict())


# --- more steps ---


def test_a_finished_run_goes_on_with_more_steps(tmp_path: Path, config: Configured) -> None:
    trainer = {"steps": 8, "validate_every": 4, "precision": "32-true"}
    before = train(config(trainer=trainer), tmp_path)
    again = train(config(trainer=trainer), tmp_path, resume=True)
    assert [made.history for made in before.values()] == [made.history for made in again.values()]
    rates = []

    def training_step(self: InversionModule, images: Tensor, batch_index: int) -> Tensor:
        rates.append((self.global_step, self.trainer.optimizers[0].param_groups[0]["lr"]))
        return original(self, images, batch_index)

    original = InversionModule.training_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InversionModule, "training_step", training_step)
        more = train(config(trainer=trainer | {"steps": 12}), tmp_path, resume=True)
        resumed = rates.copy()
        rates.clear()
        train(config(trainer=trainer | {"steps": 12}), tmp_path / "longer")
    assert [step for step, _ in resumed] == [8, 9, 10, 11]
    assert resumed == rates[8:]  # the learning rates are those of the longer run
    for old, new in zip(before.values(), more.values(), strict=True):
        assert list(new.history) == [0, 4, 8, 12]
        assert list(new.history.values())[:3] == list(old.history.values())
        assert new.psnr >= old.psnr
    with pytest.raises(TrainingError, match=r"trainer.steps \(was 12, is 11\)$"):
        train(config(trainer=trainer | {"steps": 11}), tmp_path, resume=True)


def test_a_resumed_run_needs_no_initial_decoders(tmp_path: Path, config: Configured, published: Path) -> None:
    run = config(decoder={"initial": str(published), "stages": {}}, trainer={"steps": 2})
    train(run, tmp_path / "second")
    shutil.rmtree(published)
    longer = config(decoder={"initial": str(published), "stages": {}}, trainer={"steps": 3})
    assert len(train(longer, tmp_path / "second", resume=True)) == 2
    with pytest.raises(CheckpointError):
        train(longer, tmp_path / "third")


def test_a_run_of_an_older_version_is_resumed(tmp_path: Path, config: Configured) -> None:
    """Its state has `compress` for `log_compress`, neither the architecture nor the best decoders, and a scheduler."""
    run = config(decoder={"log_compress": True}, trainer={"precision": "32-true"})
    train(run, tmp_path)
    last = tmp_path / "state" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    state["config"]["decoder"]["compress"] = state["config"]["decoder"].pop("log_compress")
    state["config"]["encoder"]["weights"] = "random"
    del state["decoders"], state["callbacks"]["BestDecoders"]
    state["lr_schedulers"] = [{"last_epoch": 8}]
    torch.save(state, last)
    longer = config(decoder={"log_compress": True}, trainer={"precision": "32-true", "steps": 12})
    made = train(longer, tmp_path, resume=True)
    assert [list(decoder.history) for decoder in made.values()] == [[9, 12]] * 2
    assert read_card(next(iter(made))).decoder["log_compress"]


def test_a_state_whose_configuration_is_no_longer_valid(tmp_path: Path, config: Configured) -> None:
    run = config(trainer={"steps": 1})
    train(run, tmp_path)
    last = tmp_path / "state" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    state["config"]["loss"]["perceptual"] = 0.1
    torch.save(state, last)
    with pytest.raises(TrainingError) as error:
        train(run, tmp_path, resume=True)
    assert str(error.value) == (
        f"cannot resume from {last}: its configuration: loss.perceptual: must be 0 for objective pixel; set objective: "
        "perceptual to train with it (got 0.1)"
    )
