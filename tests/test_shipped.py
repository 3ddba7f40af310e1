"""The shipped decoders, on photographs that nobody trained on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from skimage.data import data_dir
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from inverters.data.images import center_crop, load_image, pad_to_multiple, to_image
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import GATYS_LAYERS, INPUT_MULTIPLE
from inverters.inversion.invert import invert
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter

MEASURED = {  # PSNR in dB
    "relu1_1": 48.82,
    "relu1_2": 45.45,
    "relu2_1": 40.0,
    "relu2_2": 38.36,
    "relu3_1": 33.5,
    "relu3_2": 32.06,
    "relu4_1": 28.54,
    "relu4_2": 27.33,
    "relu5_1": 22.42,
    "relu5_2": 20.64,
}


@pytest.fixture(scope="module")
def image() -> Tensor:
    """scikit-image's cat, 1×3×H×W."""
    return load_image(Path(data_dir) / "chelsea.png")[None]


@pytest.fixture(scope="module")
def reconstructions(image: Tensor) -> dict[str, Tensor]:
    return load_inverter("all", device="cpu").reconstruct(image)


@pytest.fixture(scope="module")
def psnr(image: Tensor, reconstructions: dict[str, Tensor]) -> dict[str, float]:
    """By layer, as scikit-image computes it."""
    target = (image[0] * 255).round().byte().numpy()
    return {
        layer: peak_signal_noise_ratio(target, (preds[0] * 255).round().byte().numpy(), data_range=255)
        for layer, preds in reconstructions.items()
    }


def test_detail_is_lost_with_depth(psnr: dict[str, float]) -> None:
    assert list(psnr) == list(MEASURED)
    assert list(psnr.values()) == sorted(psnr.values(), reverse=True)


@pytest.mark.parametrize("layer", MEASURED)
def test_a_decoder_is_as_good_as_it_was_when_it_was_published(psnr: dict[str, float], layer: str) -> None:
    """Other processors compute in other precisions, of which the shallowest layers feel most."""
    assert np.isclose(psnr[layer], MEASURED[layer], atol=0.5)


def test_the_layers_of_gatys_are_taken_unless_others_are_named() -> None:
    assert tuple(load_inverter(device="cpu").decoders) == GATYS_LAYERS


@pytest.mark.parametrize("layer", ["relu4_2", "relu5_2"])
def test_a_perceptual_decoder_is_closer_in_features_and_farther_in_pixels(
    image: Tensor, reconstructions: dict[str, Tensor], layer: str
) -> None:
    encoder = VGGEncoder([layer])
    target = encoder(pad_to_multiple(image, INPUT_MULTIPLE), [layer])[layer]

    def errors(preds: Tensor) -> tuple[float, float]:
        features = encoder(pad_to_multiple(preds, INPUT_MULTIPLE), [layer])[layer]
        return (features - target).square().mean().item(), (preds - image).square().mean().item()

    perceptual = load_inverter([layer], device="cpu", objective="perceptual")
    in_features, in_pixels = errors(perceptual.reconstruct(image)[layer])
    features_of_the_other, pixels_of_the_other = errors(reconstructions[layer])
    assert in_features < features_of_the_other
    assert in_pixels > pixels_of_the_other


def test_efficientnet_keeps_the_class_up_to_stride_16() -> None:
    measured = {  # PSNR in dB
        "blocks.0.0": 41.3,
        "blocks.1.1": 30.1,
        "blocks.2.1": 24.2,
        "blocks.4.2": 18.4,
        "blocks.6.0": 12.9,
        "global_pool": 11.6,
        "classifier": 11.2,
    }
    result = invert(Path(data_dir) / "coffee.png", "all", encoder="efficientnet-lite0", device="cpu")
    assert list(result.psnr) == list(measured)
    assert np.allclose(list(result.psnr.values()), list(measured.values()), atol=0.5)
    seen = {layer: result.labels[layer][0].name for layer in measured}
    assert [layer for layer, name in seen.items() if name == "espresso"] == list(measured)[:4]


# --- how far to trust a reconstruction ---


def noise() -> Tensor:
    return torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))


def text() -> Tensor:
    page = Image.new("RGB", (96, 96), "white")
    for line in range(7):
        ImageDraw.Draw(page).text((2, 2 + 13 * line), "The quick brown fox", fill="black")
    return to_image(page)


def drawing() -> Tensor:
    page = Image.new("RGB", (96, 96), "white")
    pen = ImageDraw.Draw(page)
    for step in range(9):
        pen.line((4 + 10 * step, 4, 92 - 7 * step, 92), fill="black")
        pen.ellipse((8 + 4 * step, 16 + 3 * step, 40 + 5 * step, 56 + 4 * step), outline="black")
    return to_image(page)


@pytest.fixture(scope="module")
def two_layers() -> Inverter:
    return load_inverter(["relu1_2", "relu3_2"], device="cpu")


@pytest.mark.parametrize("unlike", [noise, text, drawing])
def test_an_image_unlike_photographs_is_flagged(two_layers: Inverter, unlike: Callable[[], Tensor]) -> None:
    errors = invert(unlike(), inverter=two_layers).feature_errors
    assert [error.unusual for error in errors.values()] == [True, True]


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png"])
def test_a_photograph_is_not(two_layers: Inverter, name: str) -> None:
    photograph = center_crop(load_image(Path(data_dir) / name)[None], 128)[0]
    errors = invert(photograph, inverter=two_layers).feature_errors
    assert [error.verdict for error in errors.values()] == ["usual", "usual"]
