"""The methods, each from features alone."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from inverters.data.images import resize_shorter_side, round_to_8_bits
from inverters.decoders.convolutional import ConvDecoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import InverterError, UnknownNameError
from inverters.inversion import methods
from inverters.inversion.inverter import Inverter
from inverters.inversion.method_names import METHODS, decoder_objective
from inverters.inversion.methods import (
    MAX_OPTIMIZED,
    Decode,
    Method,
    Optimize,
    Reconstruction,
    create_method,
)
from inverters.metrics import feature_error, peak_signal_noise_ratio

LAYER, SIZE = "relu1_2", (20, 33)


@pytest.fixture(scope="module")
def inverter() -> Inverter:
    encoder = VGGEncoder([LAYER])
    torch.manual_seed(0)
    return Inverter(encoder, {LAYER: ConvDecoder(encoder.layers[LAYER], [(4, 1)])}, torch.device("cpu"))


@pytest.fixture(scope="module")
def image() -> Tensor:
    coarse = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(7))
    return round_to_8_bits(F.interpolate(coarse, SIZE, mode="bicubic"))


def run(method: Method, image: Tensor, inverter: Inverter) -> Reconstruction:
    features = inverter.encode(image, [LAYER], exact=method.exact)[LAYER]
    size = (image.shape[2], image.shape[3])
    return method(features, inverter.encoder, inverter.encoder.layers[LAYER], size)


def test_the_method_of_each_name(inverter: Inverter) -> None:
    inverters = dict.fromkeys(("pixel", "perceptual", "linear"), inverter)
    made = {name: create_method(name, inverters, iterations=7, seed=3) for name in METHODS}
    for name in ("decoder", "perceptual", "linear"):
        assert made[name] == Decode(inverter)
        assert made[f"{name}+lbfgs"] == Optimize(iterations=7, seed=3, init=Decode(inverter))
        assert decoder_objective(name) == decoder_objective(f"{name}+lbfgs") == ("pixel" if name == "decoder" else name)
    assert made["lbfgs"] == create_method("lbfgs", {}, iterations=7, seed=3) == Optimize(iterations=7, seed=3)
    assert decoder_objective("lbfgs") is None
    assert [name for name, method in made.items() if not method.exact] == ["decoder", "perceptual", "linear"]


def test_an_unknown_method() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'lbfg': did you mean 'lbfgs'"):
        create_method("lbfg", {})


def test_a_decoder_reconstructs_as_its_inverter_does(inverter: Inverter, image: Tensor) -> None:
    result = run(Decode(inverter), image, inverter)
    assert torch.equal(result.images, inverter.reconstruct(image)[LAYER])
    assert result[1:] == (0, (), False)


@torch.no_grad()  # as callers may have it
def test_optimisation_of_any_size_from_noise_and_from_a_decoder(inverter: Inverter, image: Tensor) -> None:
    noise = run(Optimize(iterations=10), image, inverter)
    decoder = run(Optimize(iterations=10, init=Decode(inverter)), image, inverter)
    start = inverter.reconstruct(image)[LAYER]
    for result in (noise, decoder):
        assert result.images.shape == image.shape
        assert result.encoder_passes >= 11
        assert result.notes == ()
        assert not result.interrupted
        assert peak_signal_noise_ratio(result.images, image) > peak_signal_noise_ratio(start, image) + 3

    def error(preds: Tensor) -> float:
        features = (inverter.encode(batch, [LAYER], exact=True)[LAYER] for batch in (round_to_8_bits(preds), image))
        return feature_error(*features).item()

    assert error(decoder.images) < error(start)


def test_a_decoder_is_the_start(inverter: Inverter, image: Tensor) -> None:
    seen: list[float] = []
    for init in (Decode(inverter), "grey"):
        run(Optimize(iterations=1, init=init, progress=lambda *state: seen.append(state[2])), image, inverter)
    start = inverter.reconstruct(image)[LAYER]
    padded = F.pad(start, (0, 31, 0, 12), mode="replicate")
    with torch.no_grad():
        found = inverter.encoder(padded, [LAYER])[LAYER]
    target = inverter.encode(image, [LAYER], exact=True)[LAYER]
    assert seen[0] == pytest.approx(feature_error(found, target).item() ** 2, rel=1e-3)
    assert seen[2] != pytest.approx(seen[0], rel=0.1)  # grey


def test_an_image_too_large_is_refused_with_the_size_that_fits(
    inverter: Inverter, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "MAX_OPTIMIZED", 19 * 32)
    with pytest.raises(InverterError) as error:
        run(Optimize(iterations=1), image, inverter)
    assert str(error.value) == (
        "an image of 33×20 pixels is too large for optimisation: shrink its shorter side to 18 with --size"
    )
    fits = resize_shorter_side(image[0], 18)[None]
    assert run(Optimize(iterations=1), fits, inverter).images.shape == fits.shape


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (1415, 1415), (1000, 2001), (4003, 1999)])
def test_the_size_that_fits_does_fit(inverter: Inverter, height: int, width: int) -> None:
    with pytest.raises(InverterError) as error:
        Optimize()(torch.empty(0), inverter.encoder, inverter.encoder.layers[LAYER], (height, width))
    fits = int(str(error.value).split()[-3])
    shrunk = [round(side * fits / min(height, width)) for side in (height, width)]
    assert shrunk[0] * shrunk[1] <= MAX_OPTIMIZED
    assert shrunk[0] * shrunk[1] > 0.99 * MAX_OPTIMIZED
