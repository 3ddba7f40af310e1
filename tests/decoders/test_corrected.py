"""Learned corrections: what they leave alone, what they improve, how far they see."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inverters.decoders.base import Encode
from inverters.decoders.card import DecoderCard
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.published import load_decoder, publish_decoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import CheckpointError, InverterError
from inverters.inversion.inverter import Inverter


def images(count: int = 2, height: int = 32, width: int = 32) -> Tensor:
    """Smooth random images."""
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def encode(encoder: VGGEncoder, layer: str, batch: Tensor) -> Tensor:
    return encoder(batch, [layer])[layer]


def corrected(layer: str, corrections: int = 2) -> tuple[CorrectedDecoder, Encode, VGGEncoder]:
    torch.manual_seed(0)
    encoder = VGGEncoder([layer], weights="random")
    decoder = CorrectedDecoder(ConvDecoder(encoder.layers[layer], [(8, 1)]), corrections, width=8, depth=2)
    features = encode(encoder, layer, images())
    decoder.set_statistics(features.mean((0, 2, 3)), features.std((0, 2, 3)))
    return decoder, partial(encode, encoder, layer), encoder


def test_without_corrections_it_is_the_base_bit_for_bit() -> None:
    decoder, encoded, _ = corrected("relu2_1")
    decoder.active = 0
    features = encoded(images())
    assert torch.equal(decoder(features), decoder.base(features))
    assert decoder.halo == decoder.base.halo


def test_no_feature_error_is_no_change() -> None:
    decoder, encoded, _ = corrected("relu2_1")
    features = encoded(images())
    assert torch.equal(decoder(features, lambda _: features), decoder.base(features))


def test_corrections_need_the_encoder() -> None:
    decoder, encoded, _ = corrected("relu1_1")
    with pytest.raises(InverterError, match="needs the encoder"):
        decoder(encoded(images()))


def test_at_least_one_correction() -> None:
    decoder, _, _ = corrected("relu1_1")
    with pytest.raises(InverterError, match="from 1 to 64, not 0"):
        CorrectedDecoder(decoder.base, 0)


@pytest.mark.parametrize("layer", ["relu1_1", "relu2_1"])
def test_after_training_the_feature_error_falls_with_each_correction(layer: str) -> None:
    decoder, encoded, _ = corrected(layer)
    decoder.base.requires_grad_(False)
    target = images(8)
    features = encoded(target)
    optimizer = torch.optim.Adam([p for p in decoder.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(60):
        losses = torch.stack([(step - target).square().mean() for step in decoder.steps(features, encoded)[1:]])
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    with torch.no_grad():
        errors = [(encoded(step) - features).norm().item() for step in decoder.steps(features, encoded)]
    assert errors[2] < errors[1] < errors[0]


def test_each_correction_is_trained_by_its_own_loss() -> None:
    decoder, encoded, _ = corrected("relu1_1")
    last = decoder.steps(encoded(images()), encoded)[-1]
    last.square().mean().backward()
    assert decoder.corrections[1].last.weight.grad is not None
    assert decoder.corrections[0].last.weight.grad is None
    assert all(parameter.grad is None for parameter in decoder.base.parameters())


@pytest.mark.parametrize("layer", ["relu1_1", "relu2_1", "relu3_1"])
@pytest.mark.parametrize("active", [0, 1, 2])
def test_tiled_equals_whole(layer: str, active: int) -> None:
    decoder, _, encoder = corrected(layer)
    decoder.active = active
    inverter = Inverter(encoder, {layer: decoder}, torch.device("cpu"))
    image = images(1, 224, 160)
    whole, tiled = inverter.reconstruct(image)[layer], inverter.reconstruct(image, tile=32)[layer]
    assert torch.allclose(whole, tiled, atol=1e-5)


@pytest.mark.parametrize("layer", ["relu1_2", "relu2_1"])
def test_no_pixel_depends_on_features_beyond_the_halo(layer: str) -> None:
    decoder, encoded, _ = corrected(layer, corrections=1)
    decoder.double()
    stride, size = decoder.layer.spatial_stride, 96
    features = torch.rand(1, decoder.layer.channels, size // stride, size // stride, dtype=torch.double)
    changed = features.clone()
    middle = size // stride // 2
    changed[..., middle, middle] += 10

    def differentiable(batch: Tensor) -> Tensor:
        return encoded(batch.float()).double()

    moved = (decoder(features, differentiable) - decoder(changed, differentiable)).abs().amax((0, 1)) > 0
    rows = moved.any(1).nonzero().flatten()
    first, last = middle * stride, (middle + 1) * stride - 1
    assert 0 < first - int(rows.min()) <= decoder.halo
    assert 0 < int(rows.max()) - last <= decoder.halo


def card(decoder: CorrectedDecoder, encoder: VGGEncoder) -> DecoderCard:
    layer = decoder.layer.name
    return DecoderCard(
        encoder=encoder.name,
        weights=encoder.weights,
        fingerprint=encoder.fingerprint(layer),
        layer=layer,
        architecture=decoder.architecture,
        decoder=decoder.arguments,
        loss={"pixel": 1.0},
        data={},
        steps=0,
        seed=0,
        versions={},
        metrics={},
    )


def test_it_is_published_with_its_base(tmp_path: Path) -> None:
    decoder, encoded, encoder = corrected("relu2_1")
    folder = publish_decoder(decoder, card(decoder, encoder), tmp_path)
    loaded = load_decoder(folder, encoder)
    assert isinstance(loaded, CorrectedDecoder)
    assert loaded.arguments == decoder.arguments
    features = encoded(images())
    assert torch.allclose(loaded(features, encoded), decoder(features, encoded), atol=1e-3)  # half precision


def test_corrections_of_corrections_are_refused(tmp_path: Path) -> None:
    decoder, _, encoder = corrected("relu2_1")
    nested = {"base": decoder.description, "corrections": 1}
    made = card(decoder, encoder).model_copy(update={"decoder": nested})
    folder = publish_decoder(decoder, made, tmp_path)
    with pytest.raises(CheckpointError, match="a decoder with corrections cannot be corrected"):
        load_decoder(folder, encoder)
