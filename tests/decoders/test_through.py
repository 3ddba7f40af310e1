"""Deep layers decoded through shallower ones."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inverters.decoders.base import Decoder
from inverters.decoders.card import DecoderCard, read_card
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.published import load_decoder, publish_decoder
from inverters.decoders.through import ThroughDecoder, find_through, watch_predictions
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
from inverters.errors import CheckpointError, InverterError
from inverters.inversion.inverter import Inverter
from inverters.sharing.model_card import encoder_page

LAYERS = vgg_layers("vgg19")


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder(["relu3_1"], weights="random")


def through(layer: str = "relu2_1", target: str = "relu1_2", log_compress: bool = True) -> ThroughDecoder:
    torch.manual_seed(0)
    inner = ConvDecoder(LAYERS[target], [(6, 1)], log_compress)
    decoder = ThroughDecoder(LAYERS[layer], inner, width=8, blocks=1)
    for some in (decoder, inner):
        some.set_statistics(torch.rand(some.layer.channels), torch.rand(some.layer.channels) + 0.5)
    return decoder


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def encoded(encoder: VGGEncoder, layer: str, images: Tensor) -> Tensor:
    return encoder(images, [layer])[layer]


@pytest.mark.parametrize("log_compress", [False, True])
def test_the_second_half_continues_from_the_features_that_the_target_prepares(log_compress: bool) -> None:
    """Where the translator predicts them exactly, the image is that of the target's decoder."""
    decoder = through(log_compress=log_compress)
    shallow = random(2, 64, 16, 16)
    decoder.translator = torch.nn.Identity()
    decoder.prepare = lambda _: decoder.target.prepare(shallow)  # type: ignore[method-assign]
    assert torch.equal(decoder(random(2, 128, 8, 8)), decoder.target(shallow))
    standardized = (shallow - decoder.target.mean) / decoder.target.std
    expected = standardized.sign() * (1 + standardized.abs()).log() if log_compress else standardized
    torch.testing.assert_close(decoder.target.prepare(shallow), expected)


@pytest.mark.parametrize(("layer", "target"), [("relu2_1", "relu1_2"), ("relu3_1", "relu1_1"), ("relu2_2", "relu2_1")])
def test_sizes(layer: str, target: str) -> None:
    decoder = through(layer, target)
    with watch_predictions(decoder) as predicted:
        images = decoder(random(2, LAYERS[layer].channels, 3, 5))
    step, finer = LAYERS[layer].spatial_stride, LAYERS[target].spatial_stride
    assert images.shape == (2, 3, 3 * step, 5 * step)
    assert [features.shape for features in predicted] == [
        (2, LAYERS[target].channels, 3 * step // finer, 5 * step // finer)
    ]
    decoder(random(2, LAYERS[layer].channels, 3, 5))
    assert len(predicted) == 1


def test_an_untrained_decoder_has_no_checkerboard() -> None:
    """The translator's upsampling starts with equal positions in each cell."""
    decoder = through()
    predicted = decoder.translator(random(1, 128, 4, 4))
    cells = predicted.unflatten(-1, (4, 2)).unflatten(-3, (4, 2))
    assert torch.equal(cells[..., :1, :, :1].expand_as(cells), cells)


def test_no_pixel_depends_on_features_beyond_the_halo() -> None:
    decoder = through().double()
    features = random(1, 128, 40, 40, dtype=torch.double)
    changed = features.clone()
    changed[..., 20, 20] += 10
    moved = (decoder(features) - decoder(changed)).abs().amax((0, 1)) > 0
    rows = moved.any(1).nonzero().flatten()
    assert 40 - int(rows.min()) == int(rows.max()) - 41 == decoder.halo


@pytest.mark.parametrize("corrections", [0, 1])
def test_tiled_equals_whole(encoder: VGGEncoder, corrections: int) -> None:
    base = through()
    decoder: Decoder = CorrectedDecoder(base, 1, width=4, depth=1) if corrections else base
    inverter = Inverter(encoder, {"relu2_1": decoder}, torch.device("cpu"))
    image = random(1, 3, 160, 128)
    whole, tiled = inverter.reconstruct(image)["relu2_1"], inverter.reconstruct(image, tile=32)["relu2_1"]
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("inner", ["conv", "linear", "through"])
@pytest.mark.parametrize("corrections", [0, 2])
def test_it_is_published_with_its_target_and_loaded(
    tmp_path: Path, encoder: VGGEncoder, inner: str, corrections: int
) -> None:
    """Also through a decoder that decodes through a third layer, and with corrections on top."""
    target = {"conv": through().target, "linear": LinearDecoder(LAYERS["relu2_1"]), "through": through()}[inner]
    base = ThroughDecoder(LAYERS["relu3_1"], target, width=8, blocks=0)
    decoder: Decoder = CorrectedDecoder(base, corrections, width=4, depth=1) if corrections else base
    folder = publish_decoder(decoder, card(decoder, encoder), tmp_path)
    described: dict[str, Any] = read_card(folder).decoder
    described = described["base"]["arguments"] if corrections else described
    assert described["target"]["layer"]["name"] == target.layer.name
    assert described["target"]["architecture"] == target.architecture
    loaded = load_decoder(folder, encoder)
    found = find_through(loaded)
    assert found is not None
    assert (found is loaded) == (not corrections)
    assert (found.target.layer, found.arguments) == (target.layer, base.arguments)
    assert (loaded.halo, loaded.width) == (decoder.halo, decoder.width)
    features, encode = random(1, 256, 8, 8), partial(encoded, encoder, "relu3_1")
    torch.testing.assert_close(loaded(features, encode), decoder(features, encode), rtol=0, atol=2e-3)
    assert f"target {target.architecture} of {target.layer.name} (" in encoder_page(tmp_path, "vgg19", "random", "cat")


def card(decoder: Decoder, encoder: VGGEncoder) -> DecoderCard:
    layer = decoder.layer.name
    return DecoderCard(
        encoder=encoder.name,
        weights=encoder.weights,
        fingerprint=encoder.fingerprint(layer),
        layer=layer,
        architecture=decoder.architecture,
        decoder=decoder.arguments,
        loss={},
        data={},
        steps=0,
        seed=0,
        versions={},
        metrics={},
    )


def test_what_cannot_be_decoded_through() -> None:
    with pytest.raises(InverterError, match="relu1_1 cannot be decoded through relu2_1, since its stride 1 is no mult"):
        ThroughDecoder(LAYERS["relu1_1"], ConvDecoder(LAYERS["relu2_1"]))
    with pytest.raises(InverterError, match="a decoder with corrections cannot be decoded through: take its base"):
        ThroughDecoder(LAYERS["relu2_1"], CorrectedDecoder(ConvDecoder(LAYERS["relu1_1"]), 1))


@pytest.mark.parametrize(
    "target",
    [
        {"architecture": "conv", "arguments": {}},
        {"architecture": "conv", "arguments": {}, "layer": {"name": "relu1_2", "depth": 2}},
        {"architecture": "vonc", "arguments": {}, "layer": LAYERS["relu1_2"].__dict__},
    ],
)
def test_a_card_whose_target_is_wrong(tmp_path: Path, encoder: VGGEncoder, target: dict[str, Any]) -> None:
    decoder = through()
    made = card(decoder, encoder).model_copy(update={"decoder": {"target": target}})
    folder = publish_decoder(decoder, made, tmp_path)
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, encoder)
    assert str(error.value).startswith(f"cannot load {folder}: the arguments ")
    assert "do not fit a through decoder of relu2_1: " in str(error.value)
    assert "\n" not in str(error.value)
