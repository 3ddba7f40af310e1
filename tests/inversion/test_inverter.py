"""`Inverter`: encode, decode, reconstruct, and what it says about other input."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from inverters.decoders.base import Decoder, Encode
from inverters.decoders.convolutional import ConvDecoder
from inverters.decoders.linear import LinearDecoder
from inverters.encoders.layers import Layer
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
from inverters.errors import InverterError, UnknownNameError
from inverters.inversion import inverter as module
from inverters.inversion.inverter import Inverter

LAYERS = ("relu1_1", "relu2_1")
CPU = torch.device("cpu")


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def tiny_decoder(layer: str, stages: list[tuple[int, int]] | None = None) -> ConvDecoder:
    torch.manual_seed(len(layer))
    return ConvDecoder(vgg_layers("vgg19")[layer], stages or [(4, 1)]).eval()


def tiny_inverter(*layers: str) -> Inverter:
    """Reconstructs images from each of `layers`, badly."""
    return Inverter(VGGEncoder(layers, weights="random"), {layer: tiny_decoder(layer) for layer in layers}, CPU)


@pytest.fixture(scope="module")
def inverter() -> Inverter:
    return tiny_inverter(*LAYERS)


@pytest.fixture(scope="module")
def all_kinds() -> Inverter:
    """Decoders of every architecture, at strides from 1 to 32."""
    decoders: dict[str, Decoder] = {layer: tiny_decoder(layer) for layer in ("relu1_1", "relu2_1", "pool5")}
    table = vgg_layers("vgg19")
    torch.manual_seed(0)
    decoders["relu3_1"] = LinearDecoder(table["relu3_1"])
    decoders["relu4_1"] = ConvDecoder(table["relu4_1"], [(8, 1), (4, 1)], log_compress=True)
    decoders["conv5_1"] = ConvDecoder(table["conv5_1"], [(8, 0), (4, 1), (4, 0)])
    return Inverter(VGGEncoder(decoders, weights="random"), decoders, CPU)


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# Reconstructions


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (17, 45), (32, 64), (31, 5)])
def test_any_size(inverter: Inverter, height: int, width: int) -> None:
    batch = images(2, 3, height, width)
    results = inverter.reconstruct(batch)
    assert list(results) == list(LAYERS)
    for preds in results.values():
        assert preds.shape == batch.shape
        assert preds.dtype == torch.float32
        assert not preds.requires_grad
        assert preds.min() >= 0
        assert preds.max() <= 1


@torch.no_grad()
def test_a_reconstruction_is_the_decoders_answer_to_the_padded_image(inverter: Inverter) -> None:
    batch = images(2, 3, 40, 33)
    padded = nn.functional.pad(batch, (0, 31, 0, 24), mode="replicate")
    features = VGGEncoder(LAYERS, weights="random")(padded, LAYERS)
    for layer, preds in inverter.reconstruct(batch).items():
        expected = tiny_decoder(layer)(features[layer])[..., :40, :33].clamp(0, 1)
        torch.testing.assert_close(preds, expected, rtol=0, atol=0.02)  # bfloat16 where the processor has it
        assert expected.std() > 0.02


def test_results_are_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConvDecoder, "forward", lambda _, features, encode: features[:, :3] * 100 - 1)  # noqa: ARG005
    preds = tiny_inverter("relu1_1").reconstruct(images(1, 3, 32, 32))["relu1_1"]
    assert (preds.min(), preds.max()) == (0, 1)


def test_images_of_a_batch_do_not_mix(inverter: Inverter) -> None:
    batch = images(3, 3, 20, 33)
    together = inverter.reconstruct(batch)
    for number in range(3):
        for layer, preds in inverter.reconstruct(batch[number : number + 1]).items():
            torch.testing.assert_close(preds[0], together[layer][number], rtol=0, atol=0.01)
    assert (together["relu2_1"][0] - together["relu2_1"][1]).abs().max() > 0.05


def test_a_layers_result_does_not_depend_on_the_others(inverter: Inverter) -> None:
    batch = images(1, 3, 40, 40)
    both = inverter.reconstruct(batch)
    for layer in LAYERS:
        alone = Inverter(VGGEncoder(LAYERS, weights="random"), {layer: tiny_decoder(layer)}, CPU)
        assert alone.layers == [layer]
        assert torch.equal(alone.reconstruct(batch)[layer], both[layer])


def test_double_precision_images(inverter: Inverter) -> None:
    batch = images(1, 3, 32, 32)
    for layer, preds in inverter.reconstruct(batch.double()).items():
        assert preds.dtype == torch.float32
        assert torch.equal(preds, inverter.reconstruct(batch)[layer])


def test_a_reconstruction_can_be_worked_with(inverter: Inverter) -> None:
    """It may enter a loss, and be changed in place: it is no inference tensor."""
    preds = inverter.reconstruct(images(1, 3, 8, 8).requires_grad_())["relu1_1"]
    scale = torch.ones(1, requires_grad=True)
    (preds * scale).sum().backward()
    torch.testing.assert_close(scale.grad, preds.sum()[None])
    preds.mul_(0)
    assert not preds.any()


def test_the_inverter_knows_its_device() -> None:
    inverter = tiny_inverter("relu1_1")
    assert inverter.device == CPU
    assert inverter.to("meta").device == torch.device("meta")


def test_decoders_of_other_layers_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19 up to relu1_1 'relu2_1'"):
        Inverter(VGGEncoder(["relu1_1"], weights="random"), {"relu2_1": tiny_decoder("relu2_1")}, CPU)


# Encoding and decoding


@pytest.mark.parametrize("fast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 45), (31, 64), (40, 33)])
def test_decoding_what_was_encoded_is_the_reconstruction(
    all_kinds: Inverter, height: int, width: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda _: fast)
    batch = images(2, 3, height, width)
    whole = all_kinds.reconstruct(batch)
    decoded = all_kinds.decode(all_kinds.encode(batch), (height, width))
    assert list(whole) == list(decoded) == all_kinds.layers
    for layer in all_kinds.layers:
        assert torch.equal(whole[layer], decoded[layer]), layer


def test_only_layers_of_stride_1_are_float32_where_bfloat16_is_fast(
    inverter: Inverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda _: True)
    batch = images(1, 3, 32, 32)
    dtypes = {layer: features.dtype for layer, features in inverter.encode(batch).items()}
    assert dtypes == {"relu1_1": torch.float32, "relu2_1": torch.bfloat16}
    exact = inverter.encode(batch, exact=True)
    assert {features.dtype for features in exact.values()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(exact["relu2_1"], inverter.encoder(batch, ["relu2_1"])["relu2_1"])


def test_features_of_any_layers_of_the_encoder(inverter: Inverter) -> None:
    batch = images(1, 3, 33, 8)
    assert list(inverter.encode(batch)) == list(LAYERS)
    features = inverter.encode(batch, ["pool1", "conv1_2"])
    assert {layer: tuple(tensor.shape) for layer, tensor in features.items()} == {
        "pool1": (1, 64, 32, 16),
        "conv1_2": (1, 64, 64, 32),
    }
    with pytest.raises(UnknownNameError, match="unknown layer of vgg19 up to relu2_1 'relu2_2'"):
        inverter.encode(batch, ["relu2_2"])


def test_some_layers_are_decoded(inverter: Inverter) -> None:
    batch = images(1, 3, 20, 20)
    features = inverter.encode(batch, ["relu2_1"])
    (preds,) = inverter.decode(features, (20, 20)).values()
    assert torch.equal(preds, inverter.reconstruct(batch)["relu2_1"])


@pytest.mark.parametrize(
    ("layer", "shape", "size", "expected"),
    [
        ("relu2_1", (1, 128, 16, 32), (32, 33), None),
        ("relu2_1", (2, 128, 16, 32), (32, 65), "features of relu2_1 must be 2×128×16×48, not 2×128×16×32"),
        ("relu2_1", (1, 64, 16, 16), (32, 32), "features of relu2_1 must be 1×128×16×16, not 1×64×16×16"),
        ("relu1_1", (64, 32, 32), (32, 32), "features of relu1_1 must be 64×64×32×32, not 64×32×32"),
        ("conv1_1", (1, 64, 32, 32), (32, 32), "unknown layer of these decoders 'conv1_1': there is no such name."),
        ("relu1_2", (1, 64, 32, 32), (32, 32), "unknown layer of these decoders 'relu1_2': did you mean 'relu1_1'?"),
    ],
)
def test_features_that_do_not_fit(
    inverter: Inverter, layer: str, shape: tuple[int, ...], size: tuple[int, int], expected: str | None
) -> None:
    features = {layer: torch.zeros(shape)}
    if expected is None:
        assert inverter.decode(features, size)[layer].shape[2:] == size
        return
    with pytest.raises(InverterError) as error:
        inverter.decode(features, size)
    assert message(error).startswith(expected)


class Comparing(Decoder):
    """Decodes, and compares the features of what it decoded with what it was given."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.body = ConvDecoder(layer, [(4, 1)]).body

    halo = 8

    def forward(self, features: Tensor, encode: Encode | None = None) -> Tensor:
        assert encode is not None
        pixels = super().forward(features)
        self.compared = (encode(pixels), features)
        self.pixels = pixels
        self.precision = torch.backends.cudnn.conv.fp32_precision
        return pixels


@torch.no_grad()
def test_a_decoder_can_encode_what_it_decodes_without_tf32() -> None:
    encoder = VGGEncoder(["relu2_1"], weights="random")
    decoder = Comparing(encoder.layers["relu2_1"])
    inverter = Inverter(encoder, {"relu2_1": decoder}, CPU)
    inverter.reconstruct(images(1, 3, 32, 32))
    found, target = decoder.compared
    assert found.shape == target.shape
    torch.testing.assert_close(
        found.float(), encoder(decoder.pixels.float(), ["relu2_1"])["relu2_1"], rtol=0.02, atol=0.02
    )
    assert decoder.precision == "ieee"


class Global(VGGEncoder):
    """Its last layer is said to depend on the whole image."""

    def __init__(self) -> None:
        super().__init__(["relu1_1"], weights="random")
        layer = self.layers["relu1_1"]
        self.layers = {**self.layers, "relu1_1": Layer(layer.name, layer.channels, layer.stride, None, layer.stage)}


def test_a_layer_that_depends_on_the_whole_image_is_inverted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Global()
    inverter = Inverter(encoder, {"relu1_1": ConvDecoder(encoder.layers["relu1_1"], [(4, 1)])}, CPU)
    batch = images(1, 3, 64, 64)
    assert inverter.reconstruct(batch)["relu1_1"].shape == batch.shape
    monkeypatch.setattr(module, "MAX_WHOLE", 1000)
    for tile in (32, None):
        with pytest.raises(InverterError) as error:
            inverter.reconstruct(images(1, 3, 64, 2000), tile)
        assert message(error) == "relu1_1 depends on the whole image, which cannot be inverted in tiles: shrink it"


# Other input

IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (IMAGE[0], "images must be N×3×H×W, not 3×8×8: add a dimension by images[None]"),
        (torch.zeros(8, 9, 3), "images must be N×3×H×W, not 8×9×3: move the channels by images.permute(2, 0, 1)[None]"),
        (
            torch.zeros(1, 8, 9, 3),
            "images must be N×3×H×W, not 1×8×9×3: move the channels by images.permute(0, 3, 1, 2)",
        ),
        (torch.zeros(8, 8), "images must be N×3×H×W, not 8×8"),
        (torch.zeros(1, 4, 8, 8), "images must be N×3×H×W, not 1×4×8×8"),
        (torch.zeros(0, 3, 8, 8), "images must be N×3×H×W, not 0×3×8×8"),
        (torch.zeros(1, 3, 0, 8), "images must be N×3×H×W, not 1×3×0×8"),
        (IMAGE.byte(), "images must be floating-point in [0, 1], not torch.uint8: divide them by 255"),
        (IMAGE + 255, "image values must be in [0, 1], not from 255 to 255: divide them by 255"),
        (
            torch.tensor([-2.1, 2.6]).view(1, 1, 1, 2).expand(1, 3, 1, 2),
            "image values must be in [0, 1], not from -2.1 to 2.6: undo their normalisation, or clamp them",
        ),
        (IMAGE * torch.nan, "image values must be in [0, 1], but some are not a number"),
        ("photo.jpg", "images must be a tensor N×3×H×W, not str: load a file by inverters.load_image(path)[None]"),
        (
            Path("photo.jpg"),
            f"images must be a tensor N×3×H×W, not {type(Path()).__name__}: "
            "load a file by inverters.load_image(path)[None]",
        ),
        (
            Image.new("RGB", (8, 8)),
            "images must be a tensor N×3×H×W, not Image: inverters.invert takes files, PIL images and arrays",
        ),
        (
            np.zeros((8, 8, 3), dtype=np.uint8),
            "images must be a tensor N×3×H×W, not ndarray: inverters.invert takes files, PIL images and arrays",
        ),
        (
            [torch.zeros(3, 8, 8), torch.zeros(3, 9, 8)],
            "images must be a tensor N×3×H×W, not list: combine images of one size by torch.stack, and take those of "
            "other sizes one by one",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_a_batch_of_images(inverter: Inverter, given: Any, expected: str) -> None:
    for method in (inverter.reconstruct, inverter.encode):
        with pytest.raises(InverterError) as error:
            method(given)
        assert message(error) == expected


def test_rounding_errors_are_no_other_range(inverter: Inverter) -> None:
    """As they come of undoing a normalisation."""
    batch = images(1, 3, 8, 8) * 1.0002 - 0.0001
    results: Mapping[str, Tensor] = inverter.reconstruct(batch)
    assert list(results) == list(LAYERS)
