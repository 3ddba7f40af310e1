"""Numbers that are quoted in papers, against independent implementations. docs/reliability.md lists all of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import piq
import pytest
import skimage.data
import timm
import torch
import torchvision
from PIL import Image
from scipy.optimize import minimize
from timm.data import create_loader, resolve_data_config
from timm.data.dataset import ImageDataset
from timm.utils import accuracy
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

from inverters import metrics
from inverters.data.images import load_image, round_to_8_bits, to_image
from inverters.encoders.base import Encoder
from inverters.encoders.classes import Classifier
from inverters.encoders.layers import Layer
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.encoders.registry import create_encoder
from inverters.evaluation.scores import top_1_agreement
from inverters.inversion.optimization import invert_by_optimization
from inverters.inversion.presets import OptimizationSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def photographs(height: int, width: int) -> Tensor:
    """Three colour photographs, cut to this size."""
    sources = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
    return torch.stack([to_image(np.asarray(source))[:, :height, :width] for source in sources])


def noisy(images: Tensor) -> Tensor:
    return round_to_8_bits(images + 0.08 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))


def blurred(images: Tensor, factor: int = 4) -> Tensor:
    small = F.avg_pool2d(images, factor, ceil_mode=True)
    return round_to_8_bits(F.interpolate(small, images.shape[2:], mode="bilinear"))


# Images against piq


@pytest.mark.parametrize("disturb", [noisy, blurred])
def test_psnr_and_ssim_are_piq_s(disturb: Callable[[Tensor], Tensor]) -> None:
    target = photographs(240, 211)
    preds = disturb(target)
    psnr = piq.psnr(preds, target, data_range=1, reduction="none")
    torch.testing.assert_close(metrics.peak_signal_noise_ratio(preds, target), psnr, rtol=0, atol=1e-3)
    ssim = piq.ssim(preds, target, data_range=1, reduction="none", downsample=False)
    torch.testing.assert_close(metrics.structural_similarity(preds, target), ssim, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("disturb", "tolerance"), [(noisy, 2e-3), (blurred, 1e-3)])
@pytest.mark.parametrize("size", [(176, 192), (256, 256)])
def test_multiscale_ssim_is_piq_s(disturb: Callable[[Tensor], Tensor], tolerance: float, size: tuple[int, int]) -> None:
    """Piq multiplies the scales of each channel and averages then; torchmetrics does so the other way round."""
    target = photographs(*size)
    preds = disturb(target)
    expected = piq.multi_scale_ssim(preds, target, data_range=1, reduction="none")
    found = metrics.multiscale_structural_similarity(preds, target)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


# Spectra against numpy


def rings(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The windowed Fourier coefficients of an H×W×3 image's luminance and the ring of each, from 0; −1 is the rest."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    height, width = grey.shape
    periodic_hann = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side) for side in (height, width)]
    window = periodic_hann[0][:, None] * periodic_hann[1][None]
    coefficients = np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window)) / np.sqrt((window**2).sum())
    vertical = (np.arange(height) - height // 2) / height
    horizontal = (np.arange(width) - width // 2) / width
    cycles = np.sqrt(vertical[:, None] ** 2 + horizontal[None] ** 2)
    count = min(height, width) // 2
    numbers = np.rint(cycles.astype(np.float32) * (2 * count)).astype(int) - 1
    return coefficients, np.where(numbers < count, numbers, -1)


def ring_sums(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return np.array([values[numbers == ring].sum() for ring in range(numbers.max() + 1)])


def as_numpy(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


@pytest.mark.parametrize("size", [(96, 96), (75, 130)])
def test_spectra_of_images_and_errors_are_numpy_s(size: tuple[int, int]) -> None:
    target = photographs(*size)
    for images in (target, blurred(target) - target):
        frequencies, power = metrics.radial_spectrum(images)
        for image, found in zip(images, power, strict=True):
            coefficients, numbers = rings(as_numpy(image))
            sizes = ring_sums(np.ones(numbers.shape), numbers)
            expected = ring_sums(np.abs(coefficients) ** 2, numbers) / sizes
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)
        np.testing.assert_allclose(frequencies.numpy(), np.arange(1, len(sizes) + 1) / (2 * len(sizes)), rtol=1e-6)


@pytest.mark.parametrize("disturb", [noisy, blurred, lambda images: blurred(images, 2)])
def test_resolved_detail_follows_from_fourier_ring_correlation(disturb: Callable[[Tensor], Tensor]) -> None:
    """With FRC c and a power ρ² times the image's, the error has 1 + ρ² − 2ρc times the image's power."""
    target = photographs(120, 141)
    preds = disturb(target)
    for pred, image, found in zip(preds, target, metrics.resolved_detail(preds, target), strict=True):
        (first, numbers), (second, _) = rings(as_numpy(pred)), rings(as_numpy(image))
        power = [ring_sums(np.abs(coefficients) ** 2, numbers) for coefficients in (first, second)]
        correlation = ring_sums((first * second.conj()).real, numbers) / np.sqrt(power[0] * power[1])
        ratio = np.sqrt(power[0] / power[1])
        loss = 1 + ratio**2 - 2 * ratio * correlation
        smooth = np.array([loss[max(0, ring - 1) : ring + 2].mean() for ring in range(len(loss))])
        lost = np.flatnonzero(smooth > 0.5)
        resolved = lost[0] if len(lost) else len(loss)
        assert resolved > 0
        assert found.item() == pytest.approx(resolved / (2 * len(loss)))


# L-BFGS against SciPy


class SmallEncoder(Encoder):
    """One convolution with more values than the image has, so that its features determine the image."""

    name, weights, input_multiple = "small", "random", 2

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = {"conv": Layer("conv", channels=20, stride=2, receptive_field=4, stage="conv")}
        self.conv = nn.Conv2d(3, 20, 4, stride=2, padding=1)
        self.activation = activation
        self.requires_grad_(False)

    def forward(self, images: Tensor, layers: object) -> dict[str, Tensor]:  # noqa: ARG002
        return {"conv": self.activation(self.conv(images - 0.5))}


@pytest.mark.parametrize(
    ("activation", "derivative"),
    [(lambda x: x, np.ones_like), (torch.tanh, lambda x: 1 / np.cosh(x) ** 2)],
    ids=["linear", "tanh"],
)
def test_lbfgs_finds_scipy_s_minimum(
    activation: Callable[[Tensor], Tensor], derivative: Callable[[np.ndarray], np.ndarray]
) -> None:
    """On features that no image has, with a total variation and a box; SciPy's in float64, by gradients by hand."""
    size, variation, box = (6, 8), 0.05, 100.0
    encoder = SmallEncoder(activation)
    photograph = F.interpolate(photographs(240, 300)[:1], size, mode="area")
    features = encoder(photograph, ["conv"])["conv"]
    features = features + 0.2 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    settings = OptimizationSettings("lbfgs", step_size=1.0, noise=0.0, total_variation=variation, box=box)
    result = invert_by_optimization(
        features, encoder, encoder.layers["conv"], size, settings=settings, iterations=200, init="grey"
    )

    shape, count = (3, *size), 3 * size[0] * size[1]
    unit_images = torch.eye(count).view(count, *shape)
    offset = encoder.conv(torch.full((1, *shape), -0.5)).double().numpy().ravel()
    columns = (encoder.conv(unit_images) - encoder.conv.bias.view(1, -1, 1, 1)).flatten(1).double().numpy()
    wanted = features.double().numpy().ravel()

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        linear = x @ columns + offset
        error = activation(torch.from_numpy(linear)).numpy() - wanted
        value = (error**2).sum() / (wanted**2).sum()
        gradient = columns @ (2 * error * derivative(linear)) / (wanted**2).sum()
        image = x.reshape(shape)
        slope = np.zeros(shape)
        for axis in (1, 2):
            steps = np.diff(image, axis=axis)
            value += variation * (steps**2).sum() / count
            back = 2 * variation / count * steps
            slope += np.pad(back, [(int(a == axis), 0) for a in range(3)])
            slope -= np.pad(back, [(0, int(a == axis)) for a in range(3)])
        outside = x - np.clip(x, 0, 1)
        return value + box * (outside**2).mean(), gradient + slope.ravel() + 2 * box * outside / count

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
    reference = minimize(objective, np.full(count, 0.5), jac=True, method="L-BFGS-B", options=options)
    assert reference.success
    assert result.losses[0][0] == pytest.approx(objective(np.full(count, 0.5))[0], rel=1e-5)
    assert min(result.losses[0]) == pytest.approx(reference.fun, rel=1e-5)
    np.testing.assert_allclose(result.images.numpy().ravel(), np.clip(reference.x, 0, 1), rtol=0, atol=3e-3)


# Features against torchvision


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["maxpool", "layer1.1", "layer3.0", "layer4.1", "avgpool", "fc"]),
        ("mobilenet_v3_small", ["features.1", "features.4", "features.12", "classifier"]),
    ],
)
@torch.no_grad()
def test_features_are_those_of_torchvision_s_feature_extractor(name: str, layers: list[str]) -> None:
    torch.manual_seed(0)
    module = torchvision.models.get_model(name).eval()
    extractor = create_feature_extractor(module, layers)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    encoder = NetworkEncoder(module, Preprocessing(tuple(weights.mean), tuple(weights.std)))
    images = photographs(96, 128)
    expected = extractor(torchvision.transforms.functional.normalize(images, weights.mean, weights.std))
    found = encoder(images, layers)
    for layer in layers:
        grid = expected[layer] if expected[layer].dim() == 4 else expected[layer][..., None, None]
        torch.testing.assert_close(found[layer], grid, rtol=1e-5, atol=1e-5)


# Classes against timm's validation

# 60 pictures of 6 photographs, each with a class of ImageNet: tabby, espresso, missile, moped, suit, coil.
CLASSES = {"chelsea": 281, "coffee": 967, "rocket": 657, "motorcycle_left": 665, "astronaut": 834, "coins": 506}


@pytest.fixture(scope="module")
def lite0() -> NetworkEncoder:
    encoder = create_encoder("efficientnet-lite0", None, ["logits"])
    assert isinstance(encoder, NetworkEncoder)
    return encoder


@pytest.fixture(scope="module")
def model(lite0: NetworkEncoder) -> nn.Module:
    """The same network by timm alone."""
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(lite0.module.state_dict())
    return network


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """A folder for each class, named by its number."""
    rng = np.random.default_rng(0)
    for name, number in CLASSES.items():
        (tmp_path / str(number)).mkdir()
        file = next(Path(skimage.data.data_dir).glob(f"{name}.*"))
        with Image.open(file) as photograph:
            for index in range(10):
                side = int(rng.integers(200, min(photograph.size)))
                left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
                picture = photograph.convert("RGB").crop((left, top, left + side, top + side * 5 // 6))
                picture.save(tmp_path / str(number) / f"{index}.png", compress_level=1)
    return tmp_path


@torch.no_grad()
def test_classes_are_those_of_timm_s_validation(
    lite0: NetworkEncoder, model: nn.Module, class_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The steps of timm's validate.py, which its package does not contain."""
    config = resolve_data_config({}, model=model)
    class_map = tmp_path_factory.mktemp("classes") / "numbers.txt"
    class_map.write_text("\n".join(map(str, range(1000))))
    dataset = ImageDataset(class_folder, class_map=str(class_map))
    loader = create_loader(
        dataset,
        config["input_size"],
        batch_size=20,
        use_prefetcher=False,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    outputs, targets = (torch.cat(parts) for parts in zip(*((model(x), y) for x, y in loader), strict=True))

    classifier = Classifier(lite0)
    files = [class_folder / dataset.filename(index) for index in range(len(dataset))]
    found = torch.cat([classifier.probabilities(load_image(file)[None]) for file in files])
    assert len(files) == 60
    expected, close = outputs.softmax(1), 0.03  # Pillow rounds to 8 bits between resizing rows and columns
    torch.testing.assert_close(found, expected, rtol=0, atol=close)
    likeliest, second = expected.topk(2).values.T
    assert ((found.argmax(1) == expected.argmax(1)) | (likeliest - second < 2 * close)).all()
    for value, reference in zip(accuracy(found, targets, (1, 5)), accuracy(outputs, targets, (1, 5)), strict=True):
        assert 10 < reference < 90
        assert value.item() == pytest.approx(reference.item(), abs=100 * 2 / 60 + 0.01)


@torch.no_grad()
def test_agreement_is_timm_s_accuracy_with_the_classes_of_the_photographs_as_labels(model: nn.Module) -> None:
    target = torch.cat([photographs(224, 224), photographs(300, 400)[..., 76:, 176:]])
    preds = torch.cat([noisy(target), blurred(target, 16)])
    config = resolve_data_config({}, model=model)
    normalize = torchvision.transforms.Normalize(config["mean"], config["std"])
    labels = model(normalize(target)).argmax(1).repeat(2)
    (expected,) = accuracy(model(normalize(preds)), labels)
    assert 0 < expected < 100
    assert 100 * top_1_agreement(preds, target.repeat(2, 1, 1, 1)).mean().item() == pytest.approx(expected.item())
