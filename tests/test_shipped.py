"""The shipped decoders, with the original weights, on a photograph that nobody trained on."""

from pathlib import Path

import numpy as np
import pytest
from skimage.data import data_dir
from skimage.metrics import peak_signal_noise_ratio

from inverters.images import load_image
from inverters.inverter import load_inverter
from inverters.layers import GATYS_LAYERS

MEASURED = {"relu1_2": 43.5, "relu2_2": 35.5, "relu3_2": 30.7, "relu4_2": 26.7, "relu5_2": 20.66}  # in dB


@pytest.fixture(scope="module")
def psnr() -> dict[str, float]:
    """PSNR in dB by layer of scikit-image's cat, computed by scikit-image."""
    image = load_image(Path(data_dir) / "chelsea.png")
    target = (image * 255).round().byte().numpy()
    return {
        layer: peak_signal_noise_ratio(target, (preds[0] * 255).round().byte().numpy(), data_range=255)
        for layer, preds in load_inverter(device="cpu").reconstruct(image[None]).items()
    }


def test_detail_is_lost_with_depth(psnr: dict[str, float]) -> None:
    assert tuple(psnr) == GATYS_LAYERS
    assert list(psnr.values()) == sorted(psnr.values(), reverse=True)


@pytest.mark.parametrize("layer", GATYS_LAYERS)
def test_a_decoder_is_as_good_as_it_was_when_it_was_published(psnr: dict[str, float], layer: str) -> None:
    """Other processors compute in other precisions, of which the shallowest layer feels most."""
    assert np.isclose(psnr[layer], MEASURED[layer], atol=0.5)
