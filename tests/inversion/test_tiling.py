"""Tiles: what an image is made of, and that an image inverted in tiles is the image inverted as a whole."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from inverters.decoders.convolutional import ConvDecoder, Decoder, LinearDecoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import InverterError
from inverters.inversion.inverter import Inverter
from inverters.inversion.loading import load_inverter
from inverters.inversion.tiling import split

SHAPES = [(32, 32, 32), (96, 64, 32), (256, 288, 64), (64, 512, 512), (64, 96, 1024), (160, 160, 128)]


@pytest.mark.parametrize(("height", "width", "side"), SHAPES)
@pytest.mark.parametrize("margin", [0, 32, 96])
def test_tiles_cover_every_pixel_once(height: int, width: int, side: int, margin: int) -> None:
    count = torch.zeros(height, width)
    for tile in split(height, width, side, margin):
        count[tile.pixels] += 1
        for inner, outer, length in zip(tile.pixels, tile.surroundings, (height, width), strict=True):
            assert outer == slice(max(0, inner.start - margin), min(length, inner.stop + margin))
            assert inner.stop - inner.start <= side
    assert (count == 1).all()


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("reach", [0, 1, 5, 40, 100])
def test_what_is_decoded_of_a_tile_reaches_as_far_as_the_decoder_or_the_surroundings(stride: int, reach: int) -> None:
    for tile in split(256, 288, 64, 96):
        near = tile.near(reach, stride)
        for side in (0, 1):
            inner, outer = tile.pixels[side], tile.surroundings[side]
            places, pixels = near.surroundings[side], near.pixels[side]
            first = outer.start + places.start * stride
            last = outer.start + places.stop * stride
            assert (first + pixels.start, first + pixels.stop) == (inner.start, inner.stop)
            assert outer.start <= first <= max(outer.start, inner.start - reach)
            assert min(outer.stop, inner.stop + reach) <= last <= outer.stop
            assert inner.start - first < reach + stride and last - inner.stop < reach + stride


def decoders() -> Iterator[Decoder]:
    for layer, stages in {
        "relu1_1": [(4, 1)],
        "conv2_2": [(4, 0), (4, 1)],
        "relu3_2": [(8, 2), (4, 1)],
        "pool4": [(8, 2), (4, 0), (4, 1), (2, 1), (2, 0)],
        "pool5": [(8, 1)],
    }.items():
        yield ConvDecoder(layer, stages=stages, compress=layer == "pool4")
    yield LinearDecoder("relu3_1", kernel_size=5)


@pytest.mark.parametrize("decoder", list(decoders()), ids=lambda decoder: decoder.layer.name)
def test_a_pixel_depends_on_nothing_beyond_the_reach(decoder: Decoder) -> None:
    """By the gradient of one place's pixels: nothing outside, and something at the very edge."""
    torch.manual_seed(0)
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.01, 0.02)  # no path cancels out
    stride, reach = decoder.layer.stride, decoder.reach
    places = 2 * (reach // stride + 2) + 1
    features = torch.rand(1, decoder.layer.channels, 1, places).expand(-1, -1, places, -1).clone().requires_grad_()
    middle = places // 2 * stride
    pixels: Tensor = decoder(features)[..., middle : middle + stride, middle : middle + stride]
    (gradient,) = torch.autograd.grad(pixels.sum(), features)
    seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten() * stride
    assert seen.min() == middle - -(-reach // stride) * stride
    assert seen.max() == middle + -(-reach // stride) * stride


@pytest.mark.parametrize("layer", ["conv1_1", "relu2_2", "pool3", "relu4_2", "relu5_2"])
def test_features_depend_on_nothing_beyond_the_layers_reach(layer: str) -> None:
    torch.manual_seed(0)
    encoder = VGGEncoder([layer], weights="random")
    (found,) = encoder.taps
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0, 2 / (9 * module.in_channels))
    size = -(-(2 * found.reach + 3 * found.stride) // 32) * 32
    images = torch.rand(1, 3, size, size, requires_grad=True)
    place = size // found.stride // 2
    features = encoder(images)[layer]
    (gradient,) = torch.autograd.grad(features[..., place, place].sum(), images)
    seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    assert seen.min() >= place * found.stride - found.reach
    assert seen.max() < (place + 1) * found.stride + found.reach
    # Max pooling passes the gradient to one of two pixels, so the very edge need not be reached.
    assert seen.max() - seen.min() > found.receptive_field / 2


@pytest.mark.parametrize("tile", [64, 96])
def test_an_image_in_tiles_is_the_image_as_a_whole(tile: int) -> None:
    torch.manual_seed(0)
    made = {decoder.layer.name: decoder for decoder in decoders()}
    inverter = Inverter(VGGEncoder(made, weights="random"), made, torch.device("cpu"))
    images = torch.rand(2, 3, 150, 201)
    whole = inverter.reconstruct(images)
    seen: list[tuple[int, int]] = []
    tiled = inverter.reconstruct(images, tile, lambda done, total: seen.append((done, total)))
    for layer, preds in whole.items():
        assert preds.shape == images.shape
        assert (tiled[layer] - preds).abs().max() < 1 / 255
    total = -(-160 // tile) * -(-224 // tile)
    assert seen == [(number, total) for number in range(1, total + 1)]


@pytest.mark.parametrize("tile", [0, -32, 100])
def test_no_such_tile(tile: int) -> None:
    inverter = Inverter(VGGEncoder(["relu1_1"], weights="random"), {}, torch.device("cpu"))
    with pytest.raises(InverterError, match=rf"^a tile's side must be a multiple of 32, not {tile}$"):
        inverter.reconstruct(torch.rand(1, 3, 64, 64), tile)


@pytest.mark.slow
def test_the_shipped_decoders_do_not_show_tiles() -> None:
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 48, 64), (768, 1024), mode="bicubic").clamp(0, 1)
    inverter = load_inverter()
    whole, tiled = inverter.reconstruct(images), inverter.reconstruct(images, 512)
    assert all((tiled[layer] - preds).abs().max() <= 1 / 255 for layer, preds in whole.items())


def test_a_large_image_is_inverted_in_tiles_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverters.inversion.inverter.LARGEST_WHOLE", 64 * 64)
    monkeypatch.setattr("inverters.inversion.inverter.TILE", 32)
    inverter = Inverter(VGGEncoder(["relu1_1"], weights="random"), {}, torch.device("cpu"))
    for width, expected in ((64, 1), (65, 6)):
        seen: list[tuple[int, int]] = []
        inverter.reconstruct(torch.rand(1, 3, 64, width), progress=lambda *counts: seen.append(counts))  # noqa: B023
        assert seen[-1] == (expected, expected)
        assert len(seen) == expected
