import contextlib
import csv
import json
import logging
import os
import re
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from conftest import Change, Outcome, command, photographs, written
from PIL import Image
from safetensors.torch import load_file
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from inverters.data.images import load_image
from inverters.decoders.card import read_card
from inverters.decoders.published import folder_name, load_decoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import DataError, InverterError, OutputError, TrainingError
from inverters.inversion.loading import load_inverter
from inverters.metrics import peak_signal_noise_ratio
from inverters.training.config import TrainConfig
from inverters.training.config_file import load_config
from inverters.training.module import InversionModule
from inverters.training.train import train
from inverters.training.trained import LARGEST_COST

CONFIGS = Path(__file__).parents[2] / "configs"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


@contextlib.contextmanager
def failing_at(step: int) -> Iterator[list[Tensor]]:
    """Training stops after `step` steps; yields the batches that were seen."""
    seen: list[Tensor] = []

    def training_step(self: InversionModule, images: Tensor, batch_index: int) -> Tensor:
        if self.global_step == step:
            raise RuntimeError("power cut")
        seen.append(images)
        return original(self, images, batch_index)

    original = InversionModule.training_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InversionModule, "training_step", training_step)
        yield seen


def loaded(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, through dictionaries and lists."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}.{number}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


# --- resuming ---


@pytest.mark.parametrize(("workers", "streaming", "validate_every"), [(0, False, 4), (1, False, 3), (2, True, 3)])
def test_a_resumed_run_ends_like_one_that_was_never_interrupted(
    tmp_path: Path,
    config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    streaming: bool,
    validate_every: int,
) -> None:
    """Also where the checkpoint is of a step that was validated: the results of that are not lost."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)  # 10 s at the end of every stream
    data = {"workers": workers, "streaming": streaming, "shuffle_buffer": 3}
    run = config(data=data, trainer={"validate_every": validate_every})
    with failing_at(99) as all_batches:
        whole = train(run, tmp_path / "whole")
    with failing_at(6), pytest.raises(RuntimeError, match="power cut"):
        train(run, tmp_path / "cut")
    assert loaded(tmp_path / "cut" / "state" / "last.ckpt")["global_step"] == 4
    with failing_at(99) as batches:
        resumed = train(run, tmp_path / "cut", resume=True)

    assert len(all_batches) == 8
    assert_equal(all_batches[4:], batches)
    one, other = (loaded(tmp_path / name / "state" / "last.ckpt") for name in ("whole", "cut"))
    assert one["global_step"] == other["global_step"] == 8
    for part in ("state_dict", "current_model_state", "optimizer_states", "callbacks", "config", "decoders"):
        assert_equal(one[part], other[part], part)
    assert list(one["callbacks"]["BestDecoders"]["psnr"]) == [0, 4, 8] if validate_every == 4 else [0, 3, 6]
    assert not torch.equal(
        *(one[part]["decoders.relu1_1.body.0.weight"] for part in ("state_dict", "current_model_state"))
    )
    assert len(whole) == len(resumed) == 2
    for first, second in zip(whole, resumed, strict=True):
        assert_equal(load_file(first / "model.safetensors"), load_file(second / "model.safetensors"))
        assert read_card(first) == read_card(second)
    assert [made.history for made in whole.values()] == [made.history for made in resumed.values()]


@pytest.mark.parametrize("validate_every", [3, 4])
def test_a_run_cut_off_before_publishing_is_published(
    tmp_path: Path, config: Callable[..., TrainConfig], validate_every: int
) -> None:
    """The last checkpoint is of the last step: what is left is to validate it, if it was not, and to publish."""
    run = config(trainer={"validate_every": validate_every})
    before = [(load_file(path / "model.safetensors"), read_card(path)) for path in train(run, tmp_path)]
    for path in (tmp_path / "checkpoints").rglob("*.*"):
        path.unlink()
    after = [(load_file(path / "model.safetensors"), read_card(path)) for path in train(run, tmp_path, resume=True)]
    assert len(before) == 2
    assert_equal([state for state, _ in before], [state for state, _ in after])
    assert [card for _, card in before] == [card for _, card in after]


def test_what_cannot_be_resumed(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    run = config(trainer={"steps": 2, "checkpoint_every": 1, "validate_every": 2})
    with pytest.raises(TrainingError, match=rf"nothing to resume: there is no {tmp_path}/a/state/last\.ckpt"):
        train(run, tmp_path / "a", resume=True)
    train(run, tmp_path / "a")
    with pytest.raises(TrainingError, match=rf"{tmp_path}/a already holds a run: continue it with --resume, or"):
        train(run, tmp_path / "a")
    other = config(
        trainer={"steps": 1, "checkpoint_every": 2, "validate_every": 1},
        data={"workers": 1, "batch_size": 3},
        layers=["relu1_1"],
    )
    with pytest.raises(TrainingError) as error:
        train(other, tmp_path / "a", resume=True)
    assert str(error.value) == (
        f"the run in {tmp_path}/a cannot be resumed with another configuration: layers (was ['relu1_1', 'relu2_1'], is "
        "['relu1_1']), data.batch_size (was 2, is 3), trainer.steps (was 2, is 1)"
    )
    last = tmp_path / "a" / "state" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=rf"cannot resume from {last}: [^\n]+$"):
        train(run, tmp_path / "a", resume=True)


def test_perceptual_decoders_stand_beside_the_others(
    tmp_path: Path, config: Callable[..., TrainConfig], invert: Callable[..., Outcome]
) -> None:
    checkpoints = tmp_path / "out" / "checkpoints"
    trainer = {"steps": 4, "checkpoint_every": 2, "precision": "32-true"}
    train(config(trainer=trainer), tmp_path / "out")
    perceptual = {"objective": "perceptual", "loss": {"perceptual": 0.5, "adversarial": 0.01}}
    folders = train(config(trainer=trainer, **perceptual), tmp_path / "perceptual")
    assert [folder.name for folder in folders] == ["relu1_1-perceptual", "relu2_1-perceptual"]
    for folder in folders:
        folder.rename(checkpoints / "vgg19-random" / folder.name)
    both = [
        load_inverter(weights="random", checkpoints=checkpoints, objective=objective).decoders
        for objective in ("pixel", "perceptual")
    ]
    assert list(both[0]) == list(both[1]) == ["relu1_1", "relu2_1"]
    assert not torch.equal(both[0]["relu2_1"].body[0].weight, both[1]["relu2_1"].body[0].weight)

    image = next((tmp_path / "train").iterdir())
    options = ("--weights", "random", "--checkpoints", checkpoints, "--output-dir", tmp_path / "images")
    for objective in ("pixel", "perceptual"):
        assert invert("predict", image, *options, "--objective", objective, "--overwrite").status == 0
        inverter = load_inverter(weights="random", checkpoints=checkpoints, objective=objective)
        expected = inverter.reconstruct(load_image(image)[None])["relu2_1"][0]
        shown = load_image(tmp_path / "images" / image.stem / f"{folder_name('relu2_1', objective)}.png")
        assert (shown - expected.cpu()).abs().max() <= 0.5 / 255 + 1e-6
    unknown = invert("predict", image, *options, "--objective", "pixels")
    assert (unknown.status, unknown.err) == (
        1,
        "error: unknown objective 'pixels': did you mean 'pixel'? Valid: pixel, perceptual, linear\n",
    )


def test_curves_go_where_the_configuration_says(
    tmp_path: Path, config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"steps": 2, "validate_every": 2}
    train(config(trainer=short | {"loggers": "csv"}), tmp_path / "csv")
    assert [path.name for path in (tmp_path / "csv" / "logs").iterdir()] == ["metrics.csv"]
    header = (tmp_path / "csv" / "logs" / "metrics.csv").read_text().splitlines()[0].split(",")
    per_layer = {f"{key}/relu1_1" for key in ("loss", "gradient_norm", "psnr", "lr-AdamW")}
    assert per_layer | {"train/samples_per_sec"} <= set(header)
    train(config(trainer=short | {"loggers": []}), tmp_path / "none")
    assert not (tmp_path / "none" / "logs").exists()

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrainingError, match=r"^the logger 'mlflow' needs a server: name it in \$MLFLOW_TRACKING_URI$"):
        train(config(trainer={"loggers": ["mlflow"]}), tmp_path / "mlflow")
    monkeypatch.setattr("pytorch_lightning.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(TrainingError, match=r"^the logger 'wandb' is not installed: pip install 'inverters\[wandb\]'$"):
        train(config(trainer={"loggers": ["wandb"]}), tmp_path / "wandb")


def test_curves_go_to_servers(
    tmp_path: Path, config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/server")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    train(config(trainer={"steps": 3, "validate_every": 3, "loggers": ["wandb", "mlflow"]}), tmp_path / "run")
    mlflow.set_tracking_uri(f"file://{tmp_path}/server")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.run_name == "run"
    assert run.data.metrics["psnr/relu2_1"] == pytest.approx(
        read_card(tmp_path / "run" / "checkpoints" / "vgg19-random" / "relu2_1").metrics["psnr"], abs=1e-3
    )
    assert list((tmp_path / "run" / "logs" / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_more_devices_than_there_are(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(InverterError, match=r"^cannot run on 8 devices of accelerator 'gpu': [^\n]+$"):
        train(config(trainer={"accelerator": "gpu", "devices": 8}), tmp_path)


def test_an_output_folder_that_cannot_be(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/run"):
        train(config(), tmp_path / "file" / "run")
    for resume, message in ((False, r"^cannot create [^\n]*: File name too long$"), (True, "^nothing to resume: ")):
        with pytest.raises(InverterError, match=message):
            train(config(), tmp_path / ("x" * 300), resume)


# --- independence, published weights ---


def test_a_decoder_does_not_depend_on_those_beside_it(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    weights = []
    for layers in (["relu3_2"], ["relu1_2", "relu3_2"]):
        name = "+".join(layers)
        *_, folder = train(config(layers=layers, trainer={"steps": 4}), tmp_path / name)
        assert folder.name == "relu3_2"
        weights.append(load_file(folder / "model.safetensors"))
    assert_equal(*weights)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_published_psnr_is_that_of_the_published_weights(
    tmp_path: Path, config: Callable[..., TrainConfig], precision: str
) -> None:
    """Whatever the precision of training, the PSNR is that of what `invert predict` computes."""
    run = config(trainer={"steps": 5, "precision": precision}, optimizer={"learning_rate": 0.01})
    encoder = VGGEncoder(run.layers, weights="random")
    trained = train(run, tmp_path)
    logged = metrics_of(tmp_path / "logs" / "metrics.csv")
    for folder, made in trained.items():
        card, decoder = read_card(folder), load_decoder(folder, encoder)
        scores = []
        for path in sorted((tmp_path / "validation").iterdir()):
            pixels = np.array(Image.open(path))
            padded = np.pad(pixels, ((0, 24), (0, 16), (0, 0)), mode="edge")
            with torch.no_grad():
                features = encoder(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255, [card.layer])[
                    card.layer
                ]
                preds = decoder(features)[0, :, :40, :48].permute(1, 2, 0).numpy()
            scores.append(skimage_psnr(pixels, np.uint8(np.round(preds.clip(0, 1) * 255))))
        assert card.metrics["psnr"] == pytest.approx(np.mean(scores), abs=2e-3)
        history = {row["step"]: float(row[f"psnr/{card.layer}"]) for row in logged if row[f"psnr/{card.layer}"]}
        assert list(history) == ["0", "2", "5"]  # before the first step, after three, and at the end
        assert list(made.history) == [0, 3, 5]
        assert list(history.values()) == pytest.approx(list(made.history.values()), abs=1e-3)
        assert card.steps == made.step == max(made.history, key=lambda step: made.history[step])
        assert card.metrics["psnr"] == pytest.approx(made.psnr, abs=1e-3)
        assert made.psnr == pytest.approx(max(made.history.values()), abs=LARGEST_COST)


def test_linear_decoders_are_measured_as_they_are_published(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    """`decoder`, `loss` and `optimizer` are ignored, also where decoders would start from."""
    run = config(objective="linear", trainer={"steps": 2}, decoder={"initial": "nowhere"})
    trained = train(run, tmp_path)
    inverter = load_inverter("all", weights="random", checkpoints=tmp_path / "checkpoints", objective="linear")
    images = [load_image(path)[None] for path in sorted((tmp_path / "validation").iterdir())]
    for folder, made in trained.items():
        layer = made.decoder.layer.name
        psnr = [peak_signal_noise_ratio(inverter.reconstruct(image)[layer].cpu(), image).item() for image in images]
        assert made.psnr == pytest.approx(np.mean(psnr), abs=1e-5)
        card = read_card(folder)
        assert (card.initial, card.steps, card.metrics["psnr"]) == (None, 2, round(made.psnr, 3))
        assert made.history == {}


def test_training_learns(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    run = config(trainer={"steps": 60, "validate_every": 5}, optimizer={"learning_rate": 3e-4})
    train(run, tmp_path)
    history = [float(row["psnr/mean"]) for row in metrics_of(tmp_path / "logs" / "metrics.csv") if row["psnr/mean"]]
    assert history[-1] > history[0] + 1
    assert loaded(tmp_path / "state" / "last.ckpt")["global_step"] == 60


def test_checkpoints_hold_no_encoder(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    train(config(trainer={"steps": 2, "checkpoint_every": 2}), tmp_path)
    state = loaded(tmp_path / "state" / "last.ckpt")
    keys = {*state["state_dict"], *state["current_model_state"]}
    assert keys
    assert all(key.startswith("decoders.") for key in keys)
    assert (tmp_path / "state" / "last.ckpt").stat().st_size < 1e6


# --- divergence ---


def test_a_loss_that_explodes_stops_the_run(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    run = config(optimizer={"learning_rate": 1e10, "warmup_steps": 0}, trainer={"checkpoint_every": 1})
    with pytest.raises(
        TrainingError, match=r"^the weights of relu1_1, relu2_1 are no longer finite at step \d\b[^\n]+$"
    ):
        train(run, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    assert_finite(tmp_path / "state" / "last.ckpt")


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_last_good_checkpoint_survives(
    tmp_path: Path, config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """At step 4 relu2_1's loss, or only its gradient, is not a number."""

    def broken(self: InversionModule, layer: str, images: Tensor, features: Tensor) -> Tensor:
        loss = original(self, layer, images, features)
        if layer == "relu2_1" and self.global_step == 3:
            return loss * torch.nan if what == "loss" else loss + (loss * 0).sqrt()
        return loss

    original = InversionModule._loss
    monkeypatch.setattr(InversionModule, "_loss", broken)
    run = config(trainer={"checkpoint_every": 1})
    with pytest.raises(TrainingError, match=r"^the weights of relu2_1 are no longer finite at step 4\b"):
        train(run, tmp_path)
    assert_finite(tmp_path / "state" / "last.ckpt")
    assert loaded(tmp_path / "state" / "last.ckpt")["global_step"] == 3
    monkeypatch.setattr(InversionModule, "_loss", original)
    assert len(train(run, tmp_path, resume=True)) == 2


def assert_finite(path: Path) -> None:
    state = loaded(path)
    values = [*state["state_dict"].values(), *state["current_model_state"].values()]
    assert len(values) > 10
    assert all(value.isfinite().all() for value in values)


# --- what a user sees ---


def metrics_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_logs(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    train(config(), tmp_path)
    expected = {f"{kind}/{layer}" for kind in ("loss", "psnr", "gradient_norm") for layer in ("relu1_1", "relu2_1")}
    columns = set(metrics_of(tmp_path / "logs" / "metrics.csv")[0])
    assert columns >= expected | {"step", "psnr/mean", "lr-AdamW/relu1_1"}
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= expected
    assert set(events.Tags()["images"]) == {"reconstructions/0", "reconstructions/1"}
    strips = events.Images("reconstructions/0")
    assert [(strip.width, strip.height) for strip in strips] == [(3 * 48, 40)] * 4
    assert [strip.step for strip in strips] == [0, 3, 6, 8]


def test_a_resumed_run_keeps_its_earlier_logs(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    with failing_at(6), pytest.raises(RuntimeError):
        train(config(), tmp_path)
    train(config(), tmp_path, resume=True)
    assert [row["step"] for row in metrics_of(tmp_path / "logs" / "metrics.csv") if row["psnr/mean"]] == ["0", "2", "5"]
    later = metrics_of(tmp_path / "logs" / "from-step-4" / "metrics.csv")
    assert [row["step"] for row in later if row["psnr/mean"]] == ["5", "8"]


def test_unreadable_images_are_mentioned_once(
    tmp_path: Path, config: Callable[..., TrainConfig], caplog: pytest.LogCaptureFixture
) -> None:
    run = config(data={"workers": 1}, trainer={"validate_every": 5})
    for name in ("train/0.png", "train/3.png", "validation/1.png"):
        (tmp_path / name).write_bytes(b"damaged")
    with caplog.at_level(logging.INFO):
        train(run, tmp_path)
    warnings = [record.getMessage() for record in caplog.records if "could not be read" in record.getMessage()]
    assert warnings == ["warning: images that could not be read and were skipped: 3"]
    caplog.clear()
    for name in ("0", "3"):
        (tmp_path / "train" / f"{name}.png").unlink()
    photographs(tmp_path / "validation", 2)
    with caplog.at_level(logging.INFO):
        train(run, tmp_path / "good")
    assert not [record for record in caplog.records if "could not be read" in record.getMessage()]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_no_readable_image_is_one_line(
    tmp_path: Path, settings: Callable[..., Change], invert: Callable[..., Any], workers: int, streaming: bool
) -> None:
    path = written(tmp_path / "run.yaml", settings(data={"workers": workers, "streaming": streaming}))
    for image in (tmp_path / "train").iterdir():
        image.write_bytes(b"damaged")
    outcome = invert("train", path, "--output-dir", tmp_path / "out")
    assert outcome.status == 1
    assert outcome.err == f"error: none of the 5 images in {tmp_path}/train can be read\n"


def test_images_that_vanish_during_training_are_one_line(
    tmp_path: Path, config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def training_step(self: InversionModule, images: Tensor, batch_index: int) -> Tensor:
        for path in (tmp_path / "train").iterdir():
            path.unlink()
        return original(self, images, batch_index)

    original = InversionModule.training_step
    monkeypatch.setattr(InversionModule, "training_step", training_step)
    with pytest.raises(DataError, match=rf"^none of the 5 images in {tmp_path}/train can be read$"):
        train(config(data={"workers": 1}, trainer={"steps": 50}), tmp_path)


def test_where_there_is_no_terminal_progress_is_plain_lines(tmp_path: Path, settings: Callable[..., Change]) -> None:
    path = written(tmp_path / "run.yaml", settings(data={"workers": 1}, trainer={"steps": 4}))
    without_srun = {**os.environ, "PATH": ""}  # where there is one, Lightning hints at it
    train = command(path, tmp_path / "out")
    done = subprocess.run(train, capture_output=True, text=True, check=True, env=without_srun)
    folders = [tmp_path / "out" / "checkpoints" / "vgg19-random" / layer for layer in ("relu1_1", "relu2_1")]
    title, *table, first, second = done.stdout.splitlines()
    assert (title.strip(), [first, second]) == ("Validation PSNR in dB", [str(folder) for folder in folders])
    assert [line.split()[1] for line in table if re.match("[┃│]", line)] == ["layer", "relu1_1", "relu2_1"]
    number = r"\d+\.\d+"
    patterns = [
        r"2 images per step on 1 devices; learning rates: relu1_1 0\.016  relu2_1 0\.011",
        rf"step 0  validation PSNR in dB: relu1_1 {number}  relu2_1 {number}  mean {number}",
        rf"step 3  validation PSNR in dB: relu1_1 {number}  relu2_1 {number}  mean {number}",
        rf"step 4/4  {number} images/s  0 min left  loss: relu1_1 {number}  relu2_1 {number}",
        rf"step 4  validation PSNR in dB: relu1_1 {number}  relu2_1 {number}  mean {number}",
        rf"8-bit weights cost, in dB: relu1_1 -?{number}  relu2_1 -?{number}",
    ]
    assert re.fullmatch("\n".join(patterns) + "\n", done.stderr), done.stderr


@pytest.mark.parametrize("objective", ["pixel", "linear"])
def test_quiet(tmp_path: Path, settings: Callable[..., Change], invert: Callable[..., Outcome], objective: str) -> None:
    path = written(tmp_path / "run.yaml", settings(objective=objective, trainer={"steps": 2}))
    (tmp_path / "train" / "0.png").write_bytes(b"damaged")
    assert invert("train", path, "-o", tmp_path / "out", "--quiet") == (0, "", "")
    failed = invert("train", path, "-o", tmp_path / "none", "--quiet", "--set", "encoder.weights=orginal")
    assert (failed.status, failed.out) == (1, "")
    assert failed.err.startswith("error: unknown weights of vgg19 'orginal': did you mean 'original'?")
    assert failed.err.count("\n") == 1


def test_the_table_of_linear_decoders_has_no_steps(
    tmp_path: Path, settings: Callable[..., Change], invert: Callable[..., Outcome]
) -> None:
    path = written(tmp_path / "run.yaml", settings(objective="linear", layers=["relu1_1"], trainer={"steps": 2}))
    _, head, *_ = invert("train", path, "-o", tmp_path / "out").out.splitlines()[1:]
    assert [cell.strip() for cell in head.strip("┃").split("┃")] == ["layer", "published", "from step"]


@pytest.mark.slow
def test_on_a_terminal_progress_is_a_bar(tmp_path: Path, settings: Callable[..., Change]) -> None:
    path = written(tmp_path / "run.yaml", settings(trainer={"steps": 4}))
    master, slave = os.openpty()
    termios.tcsetwinsize(master, (24, 120))
    with subprocess.Popen(command(path, tmp_path / "out"), stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a pseudo-terminal
            while part := os.read(master, 4096):
                shown += part
    os.close(master)
    assert process.returncode == 0
    assert b"4/4" in shown
    assert b"it/s" in shown
    assert b"Training" in shown
    assert b"Epoch" not in shown
    assert [step in shown for step in (b"step 0  validation", b"step 3  validation", b"step 4  val")] == [True] * 3
    assert b"images/s" not in shown
    assert b"Warning" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["kill", "terminal"])
def test_ctrl_c_stops_and_resume_goes_on(tmp_path: Path, settings: Callable[..., Change], group: bool) -> None:
    """By `kill -INT`, and as a terminal sends it: to the workers too."""
    values = settings(data={"workers": 1}, trainer={"steps": 2000, "checkpoint_every": 5, "validate_every": 2000})
    path, last = written(tmp_path / "run.yaml", values), tmp_path / "out" / "state" / "last.ckpt"
    process = subprocess.Popen(
        command(path, tmp_path / "out"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert last.exists()
    time.sleep(0.5)
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 4, err
    done = loaded(last)["global_step"]
    assert 0 < done < 2000
    with failing_at(done + 2), pytest.raises(RuntimeError, match="power cut"):
        train(load_config(path), tmp_path / "out", resume=True)


def test_ctrl_c_is_no_other_exit(
    tmp_path: Path, config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: InversionModule, images: Tensor, batch_index: int) -> Tensor:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(InversionModule, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config(), tmp_path)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning has it ignored


# --- shipped configurations ---


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_trains(tmp_path: Path, settings: Callable[..., Change], path: Path) -> None:
    data = settings()["data"]
    overrides = [f"data.{key}={data[key]}" for key in ("train", "validation", "workers")]
    overrides += [
        "data.crop_size=32",
        "data.batch_size=1",
        "data.resize=null",
        "data.shuffle_buffer=4",
        "decoder.initial=null",
        "optimizer.algorithm=adamw",  # Muon computes in bfloat16, which takes minutes on CPUs that lack it
    ]
    run = load_config(path, [*overrides, "encoder.weights=random", "trainer.steps=2", "trainer.accelerator=cpu"])
    folders = train(run, tmp_path / "out")
    assert [folder.name.partition("-")[0] for folder in folders] == run.layers
    if run.encoder.name == "vgg19":  # which ships
        assert all((folder / "model.safetensors").stat().st_size < 16e6 for folder in folders)


@pytest.mark.slow
def test_quickstart_trains_on_what_is_installed(tmp_path: Path) -> None:
    """The real thing; three minutes on two idle cores are allowed."""
    folders = train(load_config(CONFIGS / "quickstart.yaml"), tmp_path)
    scores = [json.loads((folder / "config.json").read_text())["metrics"]["psnr"] for folder in folders]
    assert len(scores) == 3
    assert scores[0] > 25
    assert scores[0] > scores[1] > scores[2] > 15
