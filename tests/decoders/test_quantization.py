"""Weights in 8 bits: how exact they are, what is stored, and that any decoder can be."""

from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import remove_checksum
from safetensors.torch import load_file, save_file
from torch import Tensor

from inverters.decoders.base import Decoder
from inverters.decoders.card import DecoderCard, Storage
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.decoders.published import MODEL_FILE, as_published, load_decoder, publish_decoder
from inverters.decoders.quantization import dequantize, quantize
from inverters.decoders.through import ThroughDecoder
from inverters.encoders.vgg import VGGEncoder
from inverters.errors import CheckpointError

LAYER = "relu2_1"


def random(*shape: int) -> Tensor:
    """Weights of channels with very different sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = 10.0 ** -torch.arange(shape[0])
    return torch.randn(shape, generator=generator) * sizes.view(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize("shape", [(4, 5, 3, 3), (4, 7), (3, 6, 1, 1), (2, 4, 5)])
def test_weights_are_rounded_by_less_than_a_step_of_their_channel(shape: tuple[int, ...]) -> None:
    weight, bias = random(*shape), random(shape[0])
    stored = quantize({"weight": weight, "bias": bias})
    assert stored.keys() == {"weight", "weight.scale", "bias"}
    assert stored["bias"] is bias
    assert (stored["weight"].dtype, stored["weight"].shape) == (torch.int8, shape)
    assert stored["weight.scale"].shape == shape[:1]
    restored = dequantize(stored)
    assert restored.keys() == {"weight", "bias"}
    steps = (restored["weight"] - weight).flatten(1) / (weight.flatten(1).abs().amax(1, keepdim=True) / 127)
    assert steps.abs().max() <= 1.01
    assert steps.square().mean() < 0.17  # 1/12 for the nearest integers


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_sum_of_a_kernel_is_rounded_by_half_a_step(kernel: int) -> None:
    weight = random(3, 8, kernel, kernel)
    stored = quantize({"weight": weight})
    errors = (dequantize(stored)["weight"] - weight).sum((2, 3)) / stored["weight.scale"].float()[:, None]
    assert errors.abs().max() <= 0.51


def test_scales_are_as_good_as_those_of_pytorch() -> None:
    """Without kernels, whose sums matter, weights are rounded as PyTorch rounds them, but for the scale's rounding."""
    weight = random(3, 4000)
    scales = weight.abs().amax(1) / 127
    reference = torch.fake_quantize_per_channel_affine(weight, scales, torch.zeros(3, dtype=torch.int32), 0, -127, 127)
    rounded = dequantize(quantize({"": weight}))[""]
    error, expected = ((other - weight).square().sum(1) for other in (rounded, reference))
    torch.testing.assert_close(error, expected, rtol=0.05, atol=0)


def test_zeros_stay_zero() -> None:
    assert not dequantize(quantize({"": torch.zeros(2, 3, 3, 3)}))[""].any()


@pytest.mark.parametrize("between", [torch.float32, torch.float16])
def test_quantising_again_changes_nothing(between: torch.dtype) -> None:
    """Nor does half precision in between, in which decoders that training starts from are validated."""
    once = quantize({"weight": random(3, 5, 3, 3)})
    twice = quantize({"weight": dequantize(once)["weight"].to(between)})
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_integers_need_scales() -> None:
    stored = quantize({"weight": random(4, 5)})
    with pytest.raises(ValueError, match="weight holds integers without a scale for each output channel"):
        dequantize({"weight": stored["weight"]})
    with pytest.raises(ValueError, match="weight holds integers without a scale"):
        dequantize(stored | {"weight.scale": torch.ones(5)})


# Published decoders


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder([LAYER], weights="random")


def made(architecture: str, encoder: VGGEncoder) -> Decoder:
    torch.manual_seed(0)
    layer = encoder.layers[LAYER]
    if architecture == "linear":
        return LinearDecoder(layer)
    decoder = ConvDecoder(layer, [(24, 1)], log_compress=True)
    decoder.set_statistics(torch.rand(layer.channels), torch.rand(layer.channels) + 0.5)
    if architecture == "through":
        return ThroughDecoder(layer, ConvDecoder(encoder.layers["relu1_2"], [(24, 1)]), width=24, blocks=1)
    return decoder if architecture == "conv" else CorrectedDecoder(decoder, 2, width=24, depth=2)


def encoded(encoder: VGGEncoder, images: Tensor) -> Tensor:
    return encoder(images, [LAYER])[LAYER]


def published(decoder: Decoder, encoder: VGGEncoder, root: Path, storage: Storage) -> Path:
    card = DecoderCard(
        encoder=encoder.name,
        weights=encoder.weights,
        fingerprint=encoder.fingerprint(LAYER),
        layer=LAYER,
        storage=storage,
        loss={},
        data={},
        steps=0,
        seed=0,
        versions={},
        metrics={},
        architecture=decoder.architecture,
        decoder=decoder.arguments,
    )
    return publish_decoder(decoder, card, root)


@pytest.mark.parametrize("architecture", ["conv", "linear", "corrected", "through"])
def test_a_decoder_is_published_in_8_bits_and_loaded(tmp_path: Path, encoder: VGGEncoder, architecture: str) -> None:
    decoder = made(architecture, encoder)
    half = published(decoder, encoder, tmp_path / "half", "float16") / MODEL_FILE
    folder = published(decoder, encoder, tmp_path, "int8")
    sizes = [(path / MODEL_FILE).stat().st_size for path in (half.parent, folder)]
    assert sizes[1] < 0.65 * sizes[0]  # statistics and names take as much as before

    loaded, expected = load_decoder(folder, encoder), as_published(decoder, "int8")
    assert type(loaded) is type(decoder)
    features = torch.rand(2, 128, 6, 4, generator=torch.Generator().manual_seed(1))
    encode = partial(encoded, encoder)
    assert torch.equal(loaded(features, encode), expected(features, encode))
    assert torch.equal(loaded.std, decoder.std)
    torch.testing.assert_close(loaded(features, encode), decoder(features, encode), rtol=0, atol=0.02)

    again = published(loaded, encoder, tmp_path / "again", "int8")
    one, other = load_file(folder / MODEL_FILE), load_file(again / MODEL_FILE)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("card", "file"), [("int8", "float16"), ("float16", "int8")])
def test_weights_that_are_not_stored_as_the_card_says(
    tmp_path: Path, encoder: VGGEncoder, card: Storage, file: Storage
) -> None:
    decoder = made("conv", encoder)
    folder = published(decoder, encoder, tmp_path, card)
    other = published(decoder, encoder, tmp_path / "other", file)
    (other / MODEL_FILE).replace(folder / MODEL_FILE)
    remove_checksum(folder)
    with pytest.raises(CheckpointError) as error:
        load_decoder(folder, encoder)
    path = folder / MODEL_FILE
    assert str(error.value) == f"{path} is not the decoder of its card: its weights are not stored as {card}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body.1.weight.scale": None}, "body.1.weight holds integers without a scale for each output channel"),
        (
            {"body.1.weight.scale": torch.ones(3)},
            "body.1.weight holds integers without a scale for each output channel",
        ),
        ({"body.1.weight": None}, 'Unexpected key(s) in state_dict: "body.1.weight.scale"'),
    ],
)
def test_a_file_whose_tensors_do_not_fit(
    tmp_path: Path, encoder: VGGEncoder, change: dict[str, Tensor | None], reason: str
) -> None:
    path = published(made("conv", encoder), encoder, tmp_path, "int8") / MODEL_FILE
    save_file({key: value for key, value in (load_file(path) | change).items() if value is not None}, path)
    remove_checksum(path.parent)
    with pytest.raises(CheckpointError) as error:
        load_decoder(path.parent, encoder)
    assert str(error.value).startswith(f"{path} is not the decoder of its card: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
