"""Decoders of layers that VGG does not have: other strides, and vectors."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.decoders.base import Decoder, by_stride
from inverters.decoders.convolutional import DEFAULT_STAGES, ConvDecoder, default_stages
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.linear import LinearDecoder, fit_linear_decoders
from inverters.decoders.published import create_decoder
from inverters.decoders.through import ThroughDecoder
from inverters.encoders.layers import Layer
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.errors import InverterError

VECTOR = Layer("pooled", channels=6, stride=None, receptive_field=None, stage="6 values")


def grid(stride: int) -> Layer:
    return Layer("grid", channels=5, stride=stride, receptive_field=None, stage="all")


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 6, 7, 8, 12, 14, 16, 28, 32, 64])
def test_every_stride_has_a_decoder(stride: int) -> None:
    decoder = ConvDecoder(grid(stride), [(4, 0)] * len(default_stages(grid(stride))))
    assert decoder(torch.randn(1, 5, 2, 3)).shape == (1, 3, 2 * stride, 3 * stride)
    linear = LinearDecoder(grid(stride))
    assert linear(torch.randn(1, 5, 2, 3)).shape == (1, 3, 2 * stride, 3 * stride)


def test_the_stages_of_other_strides_are_those_of_the_nearest() -> None:
    assert default_stages(grid(14)) == DEFAULT_STAGES[16][:2]  # 14 can be halved once
    assert default_stages(grid(7)) == DEFAULT_STAGES[8][:1]
    assert default_stages(grid(64)) == DEFAULT_STAGES[32]
    assert default_stages(VECTOR) == DEFAULT_STAGES[32]
    assert by_stride({2: "a", 8: "b"}, 3) == "a"
    with pytest.raises(InverterError, match="a decoder of grid cannot have 3 stages: its stride 14 allows at most 2"):
        ConvDecoder(grid(14), [(4, 0)] * 3)


@pytest.mark.parametrize(("size", "side"), [(224, 7), (64, 2), (50, 2)])
@pytest.mark.parametrize("stages", [1, 3, 6])
def test_a_vector_becomes_an_image(size: int, side: int, stages: int) -> None:
    decoder = ConvDecoder(VECTOR, [(4, 0)] * stages, log_compress=True, size=size, dense_width=3)
    assert decoder(torch.randn(2, 6, 1, 1)).shape == (2, 3, size, size)
    dense = decoder.body[1][0]
    assert dense.weight.shape == (3 * side**2, 6, 1, 1)
    again = create_decoder(VECTOR, **decoder.description)
    again.load_state_dict(decoder.state_dict())
    vector = torch.randn(1, 6, 1, 1)
    assert torch.equal(again(vector), decoder(vector))


def test_the_dense_layer_lays_a_vector_out_on_a_grid() -> None:
    decoder = ConvDecoder(VECTOR, [(4, 0)], size=64, dense_width=3)
    vector = torch.randn(1, 6, 1, 1)
    dense = decoder.body[0]
    expected = (dense[0].weight.flatten(1) @ vector.flatten() + dense[0].bias).view(3, 2, 2)
    torch.testing.assert_close(dense(vector)[0], F.leaky_relu(expected, 0.2))


@pytest.mark.parametrize("size", [None, 0])
@pytest.mark.parametrize("architecture", [ConvDecoder, LinearDecoder])
def test_a_vector_needs_a_size(architecture: type[Decoder], size: int | None) -> None:
    with pytest.raises(
        InverterError, match=f"pooled is a vector: its decoder needs a positive size of its images, not {size}"
    ):
        architecture(VECTOR, size=size)  # type: ignore[call-arg]


def test_a_vector_has_no_corrections() -> None:
    with pytest.raises(InverterError, match="pooled is a vector: corrections need features that form a grid"):
        CorrectedDecoder(ConvDecoder(VECTOR, [(4, 0)], size=32), 1)
    base = ConvDecoder(grid(14), [(4, 0)])
    assert (CorrectedDecoder(base, 1).width, CorrectedDecoder(base, 1).depth) == (256, 3)


def test_a_vector_is_not_decoded_through_another_layer() -> None:
    with pytest.raises(InverterError, match="pooled cannot be decoded through grid: one is a vector"):
        ThroughDecoder(VECTOR, ConvDecoder(grid(8), [(4, 0)]))


class Means(nn.Module):
    """The mean colour of each quarter of an image, as a vector; and a grid of stride 7."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, stride=8)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.patches(x))


def test_the_linear_decoder_of_a_vector_is_the_regression_of_small_images() -> None:
    torch.manual_seed(0)
    encoder = NetworkEncoder(Means(), Preprocessing((0.0,) * 3, (1.0,) * 3, size=16))
    images = torch.rand(40, 3, 16, 16)
    fitted = fit_linear_decoders(encoder, ["pool"], images.split(8), ridge=1e-9, size=16)["pool"]
    vectors = encoder(images, ["pool"])["pool"].flatten(1)
    design = torch.cat([vectors, torch.ones(40, 1)], dim=1).double()
    target = F.avg_pool2d(images, 8).flatten(1).double()
    expected = (design @ torch.linalg.lstsq(design, target).solution).view(-1, 3, 2, 2).float()
    found = fitted(vectors[..., None, None])
    torch.testing.assert_close(found, F.interpolate(expected, scale_factor=8, mode="bilinear"), rtol=1e-3, atol=1e-3)
    assert fitted.arguments == {"kernel_size": 1, "size": 16}
    with pytest.raises(InverterError, match="size must be a multiple of 8, not 20"):
        LinearDecoder(VECTOR, size=20)


def test_features_that_are_not_finite_are_refused() -> None:
    encoder = NetworkEncoder(Means(), Preprocessing((0.0,) * 3, (1.0,) * 3, size=16), name="mine")
    with torch.no_grad():
        encoder.module.patches.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(InverterError) as error:
        fit_linear_decoders(encoder, ["pool"], [torch.rand(1, 3, 16, 16)], size=16)
    assert str(error.value) == (
        "mine gives features at pool that are not finite: check its weights and its preprocessing"
    )
