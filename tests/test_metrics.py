import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from skimage.metrics import structural_similarity as skimage_ssim
from torch import Tensor

from inverters import metrics
from inverters.data.images import round_to_8_bits
from inverters.errors import InverterError

Metric = Callable[[Tensor, Tensor], Tensor]
PAIRWISE: list[Metric] = [
    metrics.peak_signal_noise_ratio,
    metrics.structural_similarity,
    metrics.multiscale_structural_similarity,
    metrics.resolved_detail,
]


def noise(count: int = 2, height: int = 48, width: int = 64, std: float = 0.1) -> Tensor:
    """Grey with white noise: every frequency is there."""
    values = 0.5 + std * torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    return round_to_8_bits(values)


def disturbed(target: Tensor) -> Tensor:
    """The images under noise that grows from one to the next."""
    strength = torch.linspace(0.02, 0.2, len(target)).view(-1, 1, 1, 1)
    return target + strength * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))


def blurred(images: Tensor, transfer: Tensor) -> Tensor:
    """The images with each frequency multiplied by `transfer` (H×W)."""
    result: Tensor = torch.fft.ifft2(torch.fft.fft2(images) * transfer).real
    return result


def radius(images: Tensor) -> Tensor:
    """The frequency of each coefficient of `torch.fft.fft2` in cycles per pixel."""
    return torch.hypot(*torch.meshgrid(*(torch.fft.fftfreq(side) for side in images.shape[2:]), indexing="ij"))


def as_numpy(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


# Against scikit-image


def test_psnr_is_scikit_image_s_for_each_image() -> None:
    target = noise(3)
    preds = disturbed(target)
    expected = [
        skimage_psnr(as_numpy(x), as_numpy(y), data_range=1)
        for x, y in zip(target, round_to_8_bits(preds), strict=True)
    ]
    assert metrics.peak_signal_noise_ratio(preds, target).tolist() == pytest.approx(expected, abs=0.01)


def test_ssim_is_scikit_image_s_for_each_image() -> None:
    target = noise(3, 31, 40)
    preds = disturbed(target)
    expected = [
        skimage_ssim(
            as_numpy(x),
            as_numpy(y),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=2,
        )
        for x, y in zip(target, round_to_8_bits(preds), strict=True)
    ]
    assert metrics.structural_similarity(preds, target).tolist() == pytest.approx(expected, abs=1e-3)


# What holds for every metric


@pytest.mark.parametrize("metric", PAIRWISE)
def test_one_value_per_image_that_does_not_depend_on_the_batch(metric: Metric) -> None:
    target = noise(2, 176, 180)
    preds = disturbed(target)
    together = metric(preds, target)
    assert together.shape == (2,)
    assert together[0] > together[1]
    alone = torch.cat([metric(preds[:1], target[:1]), metric(preds[1:], target[1:])])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("metric", PAIRWISE)
def test_preds_are_rounded_to_8_bits_first(metric: Metric) -> None:
    target = noise(1, 176, 176).round()
    preds = 3 * target - 1  # overshoots black and white by as much as lies between them
    assert torch.equal(metric(preds, target), metric(target, target))


@pytest.mark.parametrize(
    ("metric", "smallest", "name"),
    [
        (metrics.structural_similarity, metrics.SMALLEST_SSIM, "SSIM"),
        (metrics.multiscale_structural_similarity, metrics.SMALLEST_MULTISCALE_SSIM, "MS-SSIM"),
    ],
)
def test_the_smallest_size_works_and_one_pixel_less_is_refused(metric: Metric, smallest: int, name: str) -> None:
    target = noise(1, smallest, smallest + 3)
    assert 0 < metric(disturbed(target), target).item() < 1
    needed, given = f"{smallest}×{smallest}", f"{smallest + 3}×{smallest - 1}"
    with pytest.raises(InverterError, match=f"^{name} takes images of at least {needed} pixels; this one has {given}$"):
        metric(target[:, :, 1:], target[:, :, 1:])


def test_importing_the_metrics_imports_no_torchmetrics() -> None:
    code = "import sys, inverters.metrics; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# LPIPS


@pytest.fixture
def untrained_alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AlexNet's weights as if they were in the cache, though random ones."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    build = torchvision.models.alexnet
    torch.manual_seed(0)
    monkeypatch.setattr(torchvision.models, "alexnet", lambda **_: build())
    metrics._lpips_network.cache_clear()
    yield
    metrics._lpips_network.cache_clear()


@pytest.mark.usefixtures("untrained_alexnet")
def test_lpips_takes_the_cached_weights() -> None:
    assert metrics.lpips_unavailable() is None
    target = noise(2, metrics.SMALLEST_LPIPS, 40)
    near, far = metrics.learned_perceptual_similarity(disturbed(target), target)
    assert 0 < near < far
    assert metrics.learned_perceptual_similarity(target[:1], target[:1]).tolist() == [0.0]
    with pytest.raises(InverterError, match=r"^LPIPS takes images of at least 31×31 pixels; this one has 40×30$"):
        metrics.learned_perceptual_similarity(target[:, :, 1:], target[:, :, 1:])


def test_lpips_without_weights_says_which_file_is_missing_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    reason = f"LPIPS needs AlexNet's weights: no alexnet-owt-7be5be79.pth in {tmp_path / 'checkpoints'}"
    assert metrics.lpips_unavailable() == reason
    with pytest.raises(InverterError) as caught:
        metrics.learned_perceptual_similarity(noise(), noise())
    assert str(caught.value) == reason


# Distances


def test_feature_error_by_hand() -> None:
    target = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    preds = torch.cat([target, torch.zeros_like(target), target + torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)])
    assert metrics.feature_error(preds, target.expand(3, -1, -1, -1)).tolist() == pytest.approx([0, 1, 1])
    assert metrics.feature_error(1.1 * target, target).item() == pytest.approx(0.1)


def test_normalized_error_by_hand() -> None:
    black, grey, white = (torch.full((3, 4, 5), value / 255) for value in (0, 51, 255))
    mean_distance = metrics.mean_pairwise_distance([black, grey, white])
    assert mean_distance == pytest.approx((0.2 + 0.8 + 1.0) / 3)
    assert metrics.normalized_error(grey[None] + 0.001, black[None], mean_distance).item() == pytest.approx(0.3)


def test_normalized_error_is_the_paper_s_ratio_of_euclidean_distances() -> None:
    images = noise(4)
    preds = round_to_8_bits(disturbed(images))
    pairs = torch.pdist(images.flatten(1))
    expected = (preds - images).flatten(1).norm(dim=1) / pairs.mean()
    error = metrics.normalized_error(preds, images, metrics.mean_pairwise_distance(list(images)))
    assert torch.allclose(error, expected, rtol=1e-4)


def test_images_of_different_sizes_are_compared_on_their_common_centre() -> None:
    first = torch.zeros(3, 4, 8)
    second = torch.ones(3, 6, 4)
    second[:, 1:5] = 0.25
    assert metrics.mean_pairwise_distance([first, second]) == pytest.approx(0.25)


@pytest.mark.parametrize("count", [0, 1])
def test_the_mean_distance_of_fewer_than_two_images_is_nan(count: int) -> None:
    assert math.isnan(metrics.mean_pairwise_distance(list(noise(2))[:count]))


# Spectra


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 100), (51, 37)])
def test_white_noise_has_its_variance_at_all_but_the_lowest_frequency(height: int, width: int) -> None:
    grey = torch.randn(256, 1, height, width, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    frequencies, power = metrics.radial_spectrum(3 + 0.1 * grey)
    assert frequencies.shape == (min(height, width) // 2,)
    assert power.shape == (256, len(frequencies))
    assert frequencies[-1] == 0.5
    assert torch.allclose(power.mean(dim=0)[1:], torch.tensor(0.01), rtol=0.15)


@pytest.mark.parametrize("horizontal", [True, False])
def test_a_wave_peaks_at_its_frequency_in_a_non_square_image(horizontal: bool) -> None:
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(120.0), indexing="ij")
    wave = torch.sin(2 * math.pi * 0.2 * (columns if horizontal else rows)).expand(1, 3, 80, 120)
    frequencies, power = metrics.radial_spectrum(wave)
    assert frequencies[power[0].argmax()].item() == pytest.approx(0.2)


def test_the_jump_between_opposite_edges_does_not_leak() -> None:
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 128, 128)
    _, power = metrics.radial_spectrum(ramp)
    assert power[0, 32:].max() < 1e-6 * power[0, 0]


# Resolved detail


@pytest.mark.parametrize("cutoff", [0.1, 0.25, 0.4])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (90, 151)])
def test_resolved_detail_finds_the_cut_off_of_a_low_pass(cutoff: float, height: int, width: int) -> None:
    target = noise(2, height, width)
    preds = blurred(target, (radius(target) <= cutoff).float())
    assert metrics.resolved_detail(preds, target).tolist() == pytest.approx([cutoff, cutoff], abs=0.015)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_resolved_detail_of_a_gaussian_blur_is_where_half_the_power_is_lost(sigma: float) -> None:
    target = noise(1, 160, 160)
    preds = blurred(target, torch.exp(-2 * (math.pi * sigma * radius(target)) ** 2))
    expected = math.sqrt(-math.log(1 - math.sqrt(0.5)) / 2) / (math.pi * sigma)
    assert metrics.resolved_detail(preds, target).item() == pytest.approx(expected, abs=0.01)


def test_noise_as_strong_as_the_image_above_a_frequency_ends_the_detail_there() -> None:
    target = noise(1, 128, 128)
    other = 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
    preds = target + blurred(other, (radius(target) > 0.3).float())
    assert metrics.resolved_detail(preds, target).item() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("cutoff", [0.1, 0.2])
def test_a_band_that_is_restored_above_a_lost_one_is_no_detail(cutoff: float) -> None:
    """As in Fourier ring correlation, the first crossing counts."""
    target = noise(2, 128, 128)
    restored = (radius(target) <= cutoff) | ((radius(target) > 0.3) & (radius(target) < 0.4))
    preds = blurred(target, restored.float())
    assert metrics.resolved_detail(preds, target).tolist() == pytest.approx([cutoff, cutoff], abs=0.015)


def test_everything_and_nothing() -> None:
    target = noise(1)
    flat = torch.full_like(target, 0.5)
    assert metrics.resolved_detail(target, target).tolist() == [0.5]
    assert metrics.resolved_detail(flat, target).tolist() == [0.0]
    assert metrics.resolved_detail(flat, flat).tolist() == [0.5]
    assert metrics.resolved_detail(target, flat).tolist() == [0.0]


def test_a_change_of_brightness_loses_no_detail() -> None:
    target = noise(1)
    assert metrics.resolved_detail(target + 20 / 255, target).tolist() == [0.5]
