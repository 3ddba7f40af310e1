import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inverters.decoders.base import SubPixel
from inverters.decoders.card import DecoderCard
from inverters.decoders.convolutional import DEFAULT_STAGES, ConvDecoder
from inverters.decoders.published import publish_decoder
from inverters.encoders.layers import Layer
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import VGG_NAMES, vgg_layers
from inverters.errors import InverterError

LIMIT = 16_000_000  # bytes of a published file
STRIDES = (1, 2, 4, 8, 16, 32)


def vgg19(name: str) -> Layer:
    return vgg_layers("vgg19")[name]


def layer_of(stride: int) -> Layer:
    """The deepest layer of that stride, which has the most channels."""
    return [layer for layer in vgg_layers("vgg19").values() if layer.stride == stride][-1]


def random_features(decoder: ConvDecoder, *shape: int) -> Tensor:
    return torch.randn(1, decoder.layer.channels, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("encoder", ["vgg19", "vgg16_bn"])
def test_every_layer_can_be_decoded(encoder: str) -> None:
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    layers = vgg_layers(encoder)
    features = VGGEncoder(layers, encoder, "random")(images, layers)
    for name, layer in layers.items():
        decoder = ConvDecoder(layer, [(4, 1)])
        assert decoder.layer == layer
        assert decoder(features[name]).shape == images.shape


@pytest.mark.parametrize("stride", STRIDES)
def test_any_number_of_stages(stride: int) -> None:
    for count in range(1, stride.bit_length() + 1):
        decoder = ConvDecoder(layer_of(stride), stages=[(4, 1), (6, 0), (4, 2), (3, 0), (2, 1), (2, 0)][:count])
        assert decoder(random_features(decoder, 2, 3)).shape == (1, 3, 2 * stride, 3 * stride)


@pytest.mark.parametrize("stride", STRIDES)
def test_too_many_stages(stride: int) -> None:
    most = stride.bit_length()
    with pytest.raises(InverterError) as error:
        ConvDecoder(layer_of(stride), stages=[(4, 0)] * (most + 1))
    assert str(error.value) == (
        f"a decoder of {layer_of(stride).name} cannot have {most + 1} stages: its stride {stride} allows at most {most}"
    )


@pytest.mark.parametrize(("stride", "stages"), [(2, 1), (4, 1), (8, 2), (16, 3)])
def test_there_is_no_checkerboard_at_the_start(stride: int, stages: int) -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(layer_of(stride), stages=[(4, 1)] * stages)
    pixels = decoder(random_features(decoder, 4, 5))
    cell = stride >> (stages - 1)
    cells = pixels.unflatten(2, (-1, cell)).unflatten(4, (-1, cell)).transpose(3, 4)  # 1×3×rows×columns×cell×cell
    assert torch.equal(cells, cells[..., :1, :1].expand_as(cells))
    assert cells[..., 0, 0].std() > 0.01  # while the cells differ


@pytest.mark.parametrize("stride", [8, 32])
def test_large_cells_have_no_visible_borders(stride: int) -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(layer_of(stride), stages=[(4, 1)])
    differences = decoder(random_features(decoder, 4, 5)).diff(dim=3).abs()
    across_borders = differences[..., stride - 1 :: stride]
    assert across_borders.mean() < 2.1 * differences.mean()  # `stride` times as large without smoothing


def test_sub_pixels_are_independent_afterwards() -> None:
    torch.manual_seed(0)
    layer = SubPixel(4, 3, 2)
    x = torch.randn(1, 4, 3, 3)
    assert layer(x).shape == (1, 3, 6, 6)
    layer(x)[0, 1, 2, 3].backward()
    gradient = layer[0].weight.grad
    assert gradient is not None
    assert gradient.flatten(1).any(1).nonzero().flatten().tolist() == [1 * 4 + 0 * 2 + 1]  # channel 1, row 0, column 1


def test_features_are_standardised_per_channel() -> None:
    torch.manual_seed(0)
    plain, scaled = ConvDecoder(vgg19("relu2_1"), stages=[(4, 1)]), ConvDecoder(vgg19("relu2_1"), stages=[(4, 1)])
    scaled.load_state_dict(plain.state_dict())
    mean, std = 500 * torch.rand(128), 1 + 300 * torch.rand(128)
    scaled.set_statistics(mean, std)
    features = random_features(plain, 6, 6)
    expected = plain(features)
    torch.testing.assert_close(scaled(features * std.view(-1, 1, 1) + mean.view(-1, 1, 1)), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.01


def test_compressed_features_keep_their_sign_and_lose_their_tails() -> None:
    torch.manual_seed(0)
    plain = ConvDecoder(vgg19("relu2_1"), stages=[(4, 1)])
    compressed = ConvDecoder(vgg19("relu2_1"), stages=[(4, 1)], log_compress=True)
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(plain.parameters()), compressed.parameters())
    features = 100 * random_features(plain, 6, 6) - 50
    values = features.numpy()
    logarithm = torch.from_numpy(np.sign(values) * np.log(1 + np.abs(values)))
    torch.testing.assert_close(compressed(features), plain(logarithm))
    assert compressed.arguments == {"stages": [(4, 1)], "log_compress": True}


def test_statistics_are_stored_and_not_trained() -> None:
    decoder = ConvDecoder(vgg19("relu1_1"), stages=[(4, 0)])
    decoder.set_statistics(torch.full((64,), 2.0), torch.full((64,), 3.0))
    state = decoder.state_dict()
    assert state["mean"].shape == state["std"].shape == (1, 64, 1, 1)
    assert (state["mean"] == 2).all()
    assert (state["std"] == 3).all()
    assert not {"mean", "std"} & {name for name, _ in decoder.named_parameters()}


@pytest.mark.parametrize("scale", [0.0, 1e-3, 300.0])
def test_a_channel_that_never_changes_stays_finite(scale: float) -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(vgg19("relu1_1"), stages=[(4, 1)])
    std = torch.full((64,), scale)
    std[:32] = 0
    mean = torch.full((64,), scale)
    mean[:16] = 0
    decoder.set_statistics(mean, std)
    pixels = decoder(mean.view(1, 64, 1, 1).expand(1, 64, 8, 8) + std.view(1, 64, 1, 1))
    assert pixels.isfinite().all()
    assert pixels.abs().max() < 100
    pixels.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


def test_an_untrained_decoder_answers_about_grey() -> None:
    torch.manual_seed(0)
    pixels = ConvDecoder(vgg19("relu3_2"))(torch.zeros(1, 256, 4, 4))
    assert (pixels - 0.5).abs().max() < 0.2


def test_the_output_is_not_clamped() -> None:
    """Gradients survive outside [0, 1]."""
    decoder = ConvDecoder(vgg19("relu1_1"), stages=[(4, 0)])
    with torch.no_grad():
        decoder.body[-1][0].bias.fill_(3)
    pixels = decoder(torch.zeros(1, 64, 4, 4))
    assert pixels.min() > 2
    pixels.sum().backward()
    assert decoder.body[-1][0].bias.grad.abs().min() > 0


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("encoder", VGG_NAMES)
def test_a_published_decoder_is_below_16_megabytes(stride: int, encoder: str) -> None:
    for layer in vgg_layers(encoder).values():
        if layer.stride == stride:
            with torch.device("meta"):
                decoder = ConvDecoder(layer)
            parameters = sum(parameter.numel() for parameter in decoder.parameters())
            buffers = sum(buffer.numel() for buffer in decoder.buffers())
            assert 2 * parameters + 4 * buffers + 20_000 < LIMIT


def test_the_largest_published_file(tmp_path: Path) -> None:
    card = DecoderCard(
        encoder="vgg19", weights="random", fingerprint="", layer="pool5", decoder={}, loss={}, data={}, steps=0, seed=0,
        versions={}, metrics={},
    )  # fmt: skip
    folder = publish_decoder(ConvDecoder(vgg19("pool5")), card, tmp_path)
    assert 10_000_000 < (folder / "model.safetensors").stat().st_size < LIMIT


def test_there_are_default_stages_for_every_stride() -> None:
    assert {layer.stride for encoder in VGG_NAMES for layer in vgg_layers(encoder).values()} == set(DEFAULT_STAGES)
    for stride, stages in DEFAULT_STAGES.items():
        assert 1 <= len(stages) <= stride.bit_length()


def test_the_keys_of_published_files_stay() -> None:
    """Published decoders are loaded strictly: renaming a module makes them useless."""
    state = ConvDecoder(vgg19("relu3_1"), stages=[(4, 1), (6, 0)]).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "mean": (1, 256, 1, 1),
        "std": (1, 256, 1, 1),
        "body.0.weight": (4, 256, 3, 3),
        "body.0.bias": (4,),
        "body.1.conv1.weight": (4, 4, 3, 3),
        "body.1.conv1.bias": (4,),
        "body.1.conv2.weight": (4, 4, 3, 3),
        "body.1.conv2.bias": (4,),
        "body.3.weight": (6, 4, 3, 3),
        "body.3.bias": (6,),
        "body.4.0.weight": (12, 6, 3, 3),
        "body.4.0.bias": (12,),
    }


def test_a_decoder_learns() -> None:
    """Three steps of gradient descent bring its answer closer to the image."""
    torch.manual_seed(0)
    images = nn.functional.interpolate(torch.rand(2, 3, 4, 4), size=32, mode="bilinear")
    features = VGGEncoder(["relu2_1"], weights="random")(images, ["relu2_1"])["relu2_1"]
    decoder = ConvDecoder(vgg19("relu2_1"), stages=[(8, 1)])
    decoder.set_statistics(features.mean((0, 2, 3)), features.std((0, 2, 3)))
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-4)
    losses = []
    for _ in range(4):
        loss = nn.functional.mse_loss(decoder(features), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(after < before for before, after in itertools.pairwise(losses))
