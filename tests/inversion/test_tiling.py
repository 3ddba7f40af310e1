"""Tiles: they cover an image, and an image inverted in tiles is the image inverted whole."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from inverters.decoders.base import Decoder
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
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
@pytest.mark.parametrize("halo", [0, 1, 5, 40, 100])
def test_what_is_decoded_of_a_tile_is_the_tile_with_its_halo(stride: int, halo: int) -> None:
    for tile in split(256, 288, 64, 96):
        near = tile.near(halo, stride)
        for side in (0, 1):
            inner, outer = tile.pixels[side], tile.surroundings[side]
            positions, pixels = near.surroundings[side], near.pixels[side]
            first = outer.start + positions.start * stride
            last = outer.start + positions.stop * stride
            assert (first + pixels.start, first + pixels.stop) == (inner.start, inner.stop)
            assert outer.start <= first <= max(outer.start, inner.start - halo)
            assert min(outer.stop, inner.stop + halo) <= last <= outer.stop
            assert inner.start - first < halo + stride and last - inner.stop < halo + stride


def decoders() -> Iterator[Decoder]:
    for layer, stages in {
        "relu1_1": [(4, 1)],
        "conv2_2": [(4, 0), (4, 1)],
        "relu3_2": [(8, 2), (4, 1)],
        "pool4": [(8, 2), (4, 0), (4, 1), (2, 1), (2, 0)],
        "pool5": [(8, 1)],
    }.items():
        yield ConvDecoder(vgg_layers("vgg19")[layer], stages, log_compress=layer == "pool4")
    yield LinearDecoder(vgg_layers("vgg19")["relu3_1"], kernel_size=5)


@pytest.mark.parametrize("layer", ["conv1_1", "relu2_2", "pool3", "relu4_2", "relu5_2"])
def test_features_depend_on_nothing_beyond_the_layers_halo(layer: str) -> None:
    torch.manual_seed(0)
    encoder = VGGEncoder([layer], weights="random")
    stride, halo = encoder.layers[layer].spatial_stride, encoder.layers[layer].halo
    assert halo is not None
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0, 2 / (9 * module.in_channels))
    size = -(-(2 * halo + 3 * stride) // 32) * 32
    images = torch.rand(1, 3, size, size, requires_grad=True)
    position = size // stride // 2
    features = encoder(images, [layer])[layer]
    (gradient,) = torch.autograd.grad(features[..., position, position].sum(), images)
    seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    assert seen.min() >= position * stride - halo
    assert seen.max() < (position + 1) * stride + halo
    # Max pooling passes the gradient to one of two pixels, so the very edge need not be reached.
    assert seen.max() - seen.min() > halo


@pytest.mark.parametrize("tile", [64, 96])
def test_an_image_in_tiles_is_the_image_as_a_whole(tile: int) -> None:
    torch.manual_seed(0)
    made = {decoder.layer.name: decoder for decoder in decoders()}
    inverter = Inverter(VGGEncoder(made, weights="random"), made, torch.device("cpu"))
    images = torch.rand(1, 3, 150, 201)
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
    with pytest.raises(InverterError, match=rf"^tile must be a positive multiple of 32, not {tile}$"):
        inverter.reconstruct(torch.rand(1, 3, 64, 64), tile)


@pytest.mark.slow
def test_the_shipped_decoders_do_not_show_tiles() -> None:
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 48, 64), (768, 1024), mode="bicubic").clamp(0, 1)
    inverter = load_inverter()
    whole, tiled = inverter.reconstruct(images), inverter.reconstruct(images, 512)
    assert all((tiled[layer] - preds).abs().max() <= 1 / 255 for layer, preds in whole.items())


def test_a_large_image_is_inverted_in_tiles_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverters.inversion.inverter.MAX_WHOLE", 64 * 64)
    monkeypatch.setattr("inverters.inversion.inverter.TILE", 32)
    inverter = Inverter(VGGEncoder(["relu1_1"], weights="random"), {}, torch.device("cpu"))
    for width, expected in ((64, 1), (65, 6)):
        seen: list[tuple[int, int]] = []
        inverter.reconstruct(torch.rand(1, 3, 64, width), progress=lambda *counts: seen.append(counts))  # noqa: B023
        assert seen[-1] == (expected, expected)
        assert len(seen) == expected


def test_a_thin_image_is_inverted_in_tiles_if_padding_makes_it_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverters.inversion.inverter.MAX_WHOLE", 64 * 64)
    monkeypatch.setattr("inverters.inversion.inverter.TILE", 64)
    inverter = Inverter(VGGEncoder(["relu1_1"], weights="random"), {}, torch.device("cpu"))
    seen: list[tuple[int, int]] = []
    inverter.reconstruct(torch.rand(1, 3, 1, 256), progress=lambda *counts: seen.append(counts))  # 32×256 when padded
    assert seen[-1] == (4, 4)
