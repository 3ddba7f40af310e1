"""Decoders are stored in 8 bits, unless that costs 0.02 dB."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import photographs
from torch import nn

from inverters.data.images import load_image
from inverters.decoders.card import read_card
from inverters.decoders.linear import fit_linear_decoders
from inverters.decoders.published import as_published, load_decoder
from inverters.encoders.vgg import VGGEncoder
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.metrics import peak_signal_noise_ratio
from inverters.training import trained as storing
from inverters.training.config import TrainConfig
from inverters.training.train import train
from inverters.training.trained import TrainedDecoder, choose_storage, mean_psnr

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
Configured = Callable[..., TrainConfig]


def measured(root: Path, layer: str, objective: str) -> float:
    """The mean PSNR of the published decoder, as a user would measure it."""
    images = [load_image(path)[None] for path in sorted((root / "validation").iterdir())]
    checkpoints = root / "out" / "checkpoints"
    inverter = load_inverter(layer, weights="random", checkpoints=checkpoints, device="cpu", objective=objective)
    return fmean(peak_signal_noise_ratio(inverter.reconstruct(image)[layer], image).item() for image in images)


def measured_quantiles(root: Path, layer: str, objective: str) -> list[float]:
    """Quantiles of the feature error of the published decoder, by numpy."""
    checkpoints = root / "out" / "checkpoints"
    inverter = load_inverter(layer, weights="random", checkpoints=checkpoints, device="cpu", objective=objective)
    errors = []
    for path in sorted((root / "validation").iterdir()):
        image = load_image(path)[None]
        shown = inverter.reconstruct(image)[layer].mul(255).round().div(255)
        features, target = (inverter.encode(some)[layer] for some in (shown, image))
        errors.append(((features - target).norm() / target.norm()).item())
    return list(np.quantile(errors, np.linspace(0, 1, 21)))


def test_a_decoder_that_8_bits_would_spoil_keeps_half_precision(tmp_path: Path) -> None:
    """One of relu1_1's standardised features is so small that its weights are far larger than all others."""
    encoder = VGGEncoder(["relu1_1", "relu2_1"], weights="random")
    images = [load_image(path)[None] for path in sorted(photographs(tmp_path / "images", 3).iterdir())]
    padded = [nn.functional.pad(image, (0, 16, 0, 24), mode="replicate") for image in images]
    decoders = fit_linear_decoders(encoder, ["relu1_1", "relu2_1"], padded, ridge=0.1)
    decoders["relu1_1"].std[0, 0] *= 1e5
    decoders["relu1_1"].body[0].weight.data[:, 0] *= 1e5
    psnr = mean_psnr(Inverter(encoder, decoders, torch.device("cpu")), images)
    trained = [TrainedDecoder(as_published(decoder), psnr[layer], 4, {}) for layer, decoder in decoders.items()]
    spoiled, fine = choose_storage(trained, encoder, images, torch.device("cpu"))
    assert spoiled is trained[0]
    assert (spoiled.storage, fine.storage) == ("float16", "int8")
    rounded = {"relu1_1": as_published(decoders["relu1_1"], "int8"), "relu2_1": fine.decoder}
    in_8_bits = mean_psnr(Inverter(encoder, rounded, torch.device("cpu")), images)
    assert in_8_bits["relu1_1"] < spoiled.psnr - 0.02
    assert in_8_bits["relu2_1"] == fine.psnr > psnr["relu2_1"] - 0.02


@pytest.mark.parametrize("objective", ["pixel", "linear"])
@pytest.mark.parametrize("precise", [False, True])
def test_what_is_published_is_what_was_measured(
    tmp_path: Path, config: Configured, monkeypatch: pytest.MonkeyPatch, precise: bool, objective: str
) -> None:
    if precise:
        monkeypatch.setattr(storing, "LARGEST_COST", -1.0)
    folders = train(
        config(objective=objective, trainer={"steps": 4}, optimizer={"learning_rate": 3e-4}), tmp_path / "out"
    )
    for folder, made in folders.items():
        card = read_card(folder)
        layer, encoder = card.layer, VGGEncoder([card.layer], weights="random")
        assert card.storage == made.storage == ("float16" if precise else "int8")
        psnr = measured(tmp_path, layer, objective)
        assert made.psnr == pytest.approx(psnr, abs=1e-4)
        assert card.metrics["psnr"] == pytest.approx(psnr, abs=1e-3)
        if objective == "pixel":
            before = made.history[made.step]
            assert made.psnr == before if precise else 0 < abs(made.psnr - before) < 0.02
        assert card.error_quantiles == made.error_quantiles
        assert card.error_quantiles == pytest.approx(measured_quantiles(tmp_path, layer, objective), rel=1e-3)
        loaded, kept = load_decoder(folder, encoder).state_dict(), made.decoder.state_dict()
        assert all(torch.equal(loaded[key], kept[key]) for key in kept)


def test_an_exact_reconstruction_counts_as_100_db_in_the_mean() -> None:
    images = torch.full((2, 3, 8, 8), 0.4)
    preds = images + torch.tensor([0.0, 0.2])[:, None, None, None]
    inverter = SimpleNamespace(device="cpu", layers=["relu1_1"], reconstruct=lambda _: {"relu1_1": preds})
    expected = (100 - 20 * math.log10(0.2)) / 2
    assert mean_psnr(inverter, [images])["relu1_1"] == pytest.approx(expected, abs=1e-3)  # type: ignore[arg-type]
