from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from inverters.data.images import load_image, to_pillow
from inverters.decoders.linear import LinearDecoder, fit_linear_decoders
from inverters.decoders.published import available_decoders, load_decoder
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import vgg_layers
from inverters.errors import CheckpointError, ConfigError, InverterError, TrainingError, UnknownNameError
from inverters.inversion.loading import load_inverter
from inverters.metrics import peak_signal_noise_ratio
from inverters.training.config_file import load_config
from inverters.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Smooth random images, N×3×size×size."""
    coarse = torch.rand(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


@torch.no_grad()
def encode(batch: Tensor, encoder: VGGEncoder, layer: str) -> np.ndarray:
    return encoder(batch, [layer])[layer].double().numpy()


def neighbourhoods(features: np.ndarray, size: int) -> np.ndarray:
    """N·h·w × C·size² of zero-padded N×C×h×w."""
    border = size // 2
    padded = np.pad(features, ((0, 0), (0, 0), (border, border), (border, border)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))  # N×C×h×w×size×size
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, features.shape[1] * size**2)


def patches(batch: Tensor, stride: int) -> np.ndarray:
    """N·h·w × 3·stride²."""
    count, _, height, width = batch.shape
    cut = batch.double().numpy().reshape(count, 3, height // stride, stride, width // stride, stride)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * stride**2)


@pytest.mark.parametrize(
    ("layer", "kernel_size", "ridge"),
    [("relu1_2", 3, 1e-2), ("relu1_2", 3, 1e-4), ("conv1_1", 3, 1e-3), ("relu2_1", 1, 1e-3), ("pool2", 1, 1e-3)],
)
def test_the_fit_is_that_of_dense_least_squares(layer: str, kernel_size: int, ridge: float) -> None:
    encoder, batch = VGGEncoder([layer], weights="random"), images(4)
    decoder = fit_linear_decoders(encoder, [layer], [batch], kernel_size, ridge)[layer]

    features = encode(batch, encoder, layer)
    mean, std = features.mean((0, 2, 3), keepdims=True), features.std((0, 2, 3), keepdims=True)
    inputs = neighbourhoods((features - mean) / std, kernel_size)
    stride = decoder.layer.spatial_stride
    outputs = patches(batch, stride)
    positions, size = inputs.shape
    penalty = np.sqrt(ridge * positions) * np.eye(size, size + 1)  # the last column, the bias, is free
    design = np.concatenate([np.concatenate([inputs, np.ones((positions, 1))], axis=1), penalty])
    solution, *_ = np.linalg.lstsq(design, np.concatenate([outputs, np.zeros((size, outputs.shape[1]))]))

    np.testing.assert_allclose(decoder.mean.numpy(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoder.std.numpy(), std, rtol=1e-4)
    with torch.no_grad():
        decoded = decoder(torch.from_numpy(features).float())
    np.testing.assert_allclose(patches(decoded, stride), design[:positions] @ solution, atol=2e-4)


def test_it_beats_the_mean_image_on_new_images_by_far() -> None:
    layers = ["relu1_2", "relu2_2"]
    encoder, new = VGGEncoder(layers, weights="random"), images(4, seed=1)
    decoders = fit_linear_decoders(encoder, layers, images(24).split(8))
    mean = images(24).mean((0, 2, 3), keepdim=True).expand_as(new)
    with torch.no_grad():
        for layer, features in encoder(new, layers).items():
            gain = peak_signal_noise_ratio(decoders[layer](features), new) - peak_signal_noise_ratio(mean, new)
            assert gain.min() > 8, layer


@pytest.mark.parametrize(("sizes", "positions"), [([1] * 6, 4096), ([2, 4], 700), ([5, 1], 100)])
def test_it_does_not_depend_on_how_the_images_are_split(
    sizes: list[int], positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, batch = VGGEncoder(["relu2_1"], weights="random"), images(6)
    whole = fit_linear_decoders(encoder, ["relu2_1"], [batch], kernel_size=1)["relu2_1"]
    monkeypatch.setattr("inverters.decoders.linear.POSITIONS", positions)
    split = fit_linear_decoders(encoder, ["relu2_1"], batch.split(sizes), kernel_size=1)["relu2_1"]
    with torch.no_grad():
        features = encoder(batch, ["relu2_1"])["relu2_1"]
        torch.testing.assert_close(split(features), whole(features), rtol=0, atol=1e-4)


def test_a_layer_does_not_depend_on_the_others() -> None:
    batch = images(4)
    encoder = VGGEncoder(["relu2_1"], weights="random")
    both = fit_linear_decoders(encoder, ["relu1_1", "relu2_1"], [batch], kernel_size=1)
    alone = fit_linear_decoders(encoder, ["relu1_1"], [batch], kernel_size=1)
    for key, tensor in alone["relu1_1"].state_dict().items():
        assert torch.equal(tensor, both["relu1_1"].state_dict()[key]), key


def test_a_silent_channel_does_no_harm() -> None:
    encoder, batch = VGGEncoder(["relu1_1"], weights="random"), images(4)
    with torch.no_grad():
        encoder.features[0].bias[:5] = -1e3  # never above zero
    decoder = fit_linear_decoders(encoder, ["relu1_1"], [batch])["relu1_1"]
    with torch.no_grad():
        decoded = decoder(encoder(batch, ["relu1_1"])["relu1_1"])
    assert peak_signal_noise_ratio(decoded, batch).min() > 30


def test_features_are_computed_without_tf32_and_with_no_float64_on_the_device() -> None:
    """As they are when images are reconstructed; and MPS has no float64."""
    encoder = VGGEncoder(["relu1_1"], weights="random")
    precisions, dtypes = [], []

    class Recorded(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is Tensor.cpu:
                dtypes.append(args[0].dtype)
            return function(*args, **(kwargs or {}))

    encoder.register_forward_hook(lambda *_: precisions.append(torch.backends.cudnn.conv.fp32_precision))
    with Recorded():
        fit_linear_decoders(encoder, ["relu1_1"], [images(1)])
    assert precisions == ["ieee"]
    assert set(dtypes) == {torch.float32}


def test_an_even_kernel_has_no_centre() -> None:
    with pytest.raises(InverterError, match="kernel_size must be odd, not 2"):
        LinearDecoder(vgg_layers("vgg19")["relu1_1"], kernel_size=2)


def test_decoders_have_the_sizes_of_their_layers() -> None:
    decoder = LinearDecoder(vgg_layers("vgg19")["relu3_1"], kernel_size=5)
    assert decoder(torch.zeros(2, 256, 3, 4)).shape == (2, 3, 12, 16)
    assert decoder.arguments == {"kernel_size": 5}
    assert list(decoder.state_dict()) == ["mean", "std", "body.0.weight", "body.0.bias"]


# A run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run: its configuration, its photographs, and what it published."""
    folder = tmp_path_factory.mktemp("run")
    for name, seed in (("train", 0), ("validation", 1)):
        (folder / name).mkdir()
        for number, image in enumerate(images(12, size=48, seed=seed)):
            to_pillow(image).save(folder / name / f"{number}.png")
    (folder / "validation" / "broken.png").write_bytes(b"no image")
    values = {
        "objective": "linear",
        "encoder": {"weights": "random"},
        "layers": ["relu1_1", "relu2_1"],
        "linear": {"ridge": 1e-4},
        "data": {
            "train": str(folder / "train"),
            "validation": str(folder / "validation"),
            "crop_size": 32,
            "batch_size": 4,
            "workers": 0,
        },
        "trainer": {"steps": 4, "accelerator": "cpu"},
    }
    (folder / "linear.yaml").write_text(yaml.safe_dump(values))
    train(load_config(folder / "linear.yaml"), folder)
    return folder


def test_a_run_publishes_decoders_that_load_and_do_what_their_cards_say(run: Path) -> None:
    root = run / "checkpoints"
    assert {path.name for path in (root / "vgg19-random").iterdir()} == {"relu1_1-linear", "relu2_1-linear"}
    cards = available_decoders(root, weights="random", objective="linear")
    assert list(cards) == ["relu1_1", "relu2_1"]
    inverter = load_inverter(weights="random", checkpoints=root, device="cpu", objective="linear")
    originals = [load_image(path)[None] for path in (run / "validation").glob("[0-9]*.png")]
    for layer, card in cards.items():
        assert (card.objective, card.decoder, card.loss) == ("linear", {"kernel_size": 3}, {"ridge": 1e-4})
        assert card.steps == 4
        assert isinstance(inverter.decoders[layer], LinearDecoder)
        scores = [peak_signal_noise_ratio(inverter.reconstruct(image)[layer], image).item() for image in originals]
        assert np.mean(scores) == pytest.approx(card.metrics["psnr"], abs=0.05)
        assert np.mean(scores) > 20


def test_the_run_reports_what_it_could_not_read(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        train(load_config(run / "linear.yaml", ["layers=relu1_1"]), tmp_path)
    assert "step 4/4" in caplog.text
    assert "could not be read and were skipped: 1" in caplog.text


def test_linear_decoders_do_not_stand_in_for_trained_ones(run: Path, tmp_path: Path) -> None:
    root = run / "checkpoints"
    assert available_decoders(root, weights="random") == {}
    with pytest.raises(CheckpointError, match="no decoder for relu1_1 under"):
        load_inverter(["relu1_1"], weights="random", checkpoints=root)
    with pytest.raises(CheckpointError, match=r"no linear decoder for relu3_1 under .* Available: relu1_1, relu2_1\."):
        load_inverter(["relu3_1"], weights="random", checkpoints=root, objective="linear")
    with pytest.raises(UnknownNameError, match="objective 'linaer': did you mean 'linear'"):
        load_inverter(checkpoints=root, objective="linaer")
    renamed = tmp_path / "relu1_1"
    renamed.symlink_to(root / "vgg19-random" / "relu1_1-linear")
    with pytest.raises(CheckpointError, match="holds a decoder of relu1_1-linear, not of relu1_1"):
        load_decoder(renamed, VGGEncoder(["relu1_1"], weights="random"))


def test_a_run_of_the_other_kind_is_not_resumed(run: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        train(load_config(run / "linear.yaml"), run, resume=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective=linaer", "objective: Input should be 'pixel', 'linear' or 'perceptual'"),
        ("linear.kernel_size=2", "linear.kernel_size: Input should be 1, 3, 5 or 7"),
        ("linear.ridge=0", "linear.ridge: Input should be greater than 0"),
        ("linear.rige=1", "linear.rige: unknown key; did you mean 'ridge'"),
    ],
)
def test_mistakes_in_the_configuration_are_named(run: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(run / "linear.yaml", [override])
