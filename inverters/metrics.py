"""Metrics between reconstructions and images: pure functions that return one value per image.

`preds` and `target` are N×3×H×W in [0, 1]; the results have shape N. Every metric of pixels rounds `preds` to 8 bits
first, so that it measures what a user gets. torchmetrics is imported inside the functions that need it, because
`invert predict` needs PSNR only and should start fast.
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.data.images import round_to_8_bits
from inverters.errors import InverterError

# The smallest shorter side in pixels for which a metric is defined.
SMALLEST_SSIM = 11  # one window
SMALLEST_MULTISCALE_SSIM = 176  # one window after halving four times
SMALLEST_LPIPS = 31  # one pixel after AlexNet's second pooling

LARGEST_PSNR = 100.0  # dB; as much counts an exact reconstruction in means, as in x264
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
LARGEST_LOSS = 0.5  # of the image's power at a resolved frequency: 3 dB


def peak_signal_noise_ratio(preds: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB: −10 · log₁₀ of the mean squared error; infinite for identical images."""
    return -10 * (round_to_8_bits(preds) - target).square().mean(dim=(1, 2, 3)).log10()


def structural_similarity(preds: Tensor, target: Tensor) -> Tensor:
    """SSIM with an 11×11 Gaussian window of σ = 1.5 (Wang et al. 2004), averaged over the three channels.

    As in the paper and in scikit-image, only windows inside the image count. torchmetrics' own mean includes windows
    across the mirrored border.

    Raises:
        InverterError: the images are smaller than `SMALLEST_SSIM`.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _require_size(target, SMALLEST_SSIM, "SSIM")
    _, windows = structural_similarity_index_measure(
        round_to_8_bits(preds), target.float(), reduction="none", data_range=1.0, return_full_image=True
    )
    border = SMALLEST_SSIM // 2
    return windows[..., border:-border, border:-border].mean(dim=(1, 2, 3))


def multiscale_structural_similarity(preds: Tensor, target: Tensor) -> Tensor:
    """MS-SSIM over five scales (Wang et al. 2003).

    Raises:
        InverterError: the images are smaller than `SMALLEST_MULTISCALE_SSIM`.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    _require_size(target, SMALLEST_MULTISCALE_SSIM, "MS-SSIM")
    return multiscale_structural_similarity_index_measure(
        round_to_8_bits(preds), target.float(), reduction="none", data_range=1.0
    )


def learned_perceptual_similarity(preds: Tensor, target: Tensor) -> Tensor:
    """LPIPS with AlexNet (Zhang et al. 2018); 0 for identical images.

    Raises:
        InverterError: AlexNet's weights are not available, or the images are smaller than `SMALLEST_LPIPS`.
    """
    if reason := lpips_unavailable():
        raise InverterError(reason)
    _require_size(target, SMALLEST_LPIPS, "LPIPS")
    distances: Tensor = _lpips_network().to(target.device)(round_to_8_bits(preds), target.float(), normalize=True)
    return distances.flatten()


def lpips_unavailable() -> str | None:
    """The reason why LPIPS cannot be computed without a download, or None if it can.

    torchmetrics ships the layers of the metric itself; AlexNet below them comes from torchvision's cache.
    """
    from torchvision.models import AlexNet_Weights

    weights = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(AlexNet_Weights.DEFAULT.url).path).name)
    if weights.is_file():
        return None
    folder, home = weights.parent, Path.home()
    shown = Path("~", folder.relative_to(home)) if folder.is_relative_to(home) else folder  # reports show it
    return f"LPIPS needs AlexNet's weights: no {weights.name} in {shown}"


@cache
def _lpips_network() -> nn.Module:
    """AlexNet with the layers of LPIPS. torchmetrics' function would load it in every call."""
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    network: nn.Module = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    return network


def _require_size(images: Tensor, smallest: int, metric: str) -> None:
    height, width = images.shape[2:]
    if min(height, width) < smallest:
        raise InverterError(
            f"{metric} takes images of at least {smallest}×{smallest} pixels; this one has {width}×{height}"
        )


def feature_error(preds_features: Tensor, target_features: Tensor) -> Tensor:
    """‖φ(x̂) − φ(x)‖ / ‖φ(x)‖ for N×C×h×w features: 0 for equal features, 1 for φ(x̂) = 0."""
    preds_features, target_features = preds_features.float(), target_features.float()
    return _root_mean_square(preds_features - target_features) / _root_mean_square(target_features)


def normalized_error(preds: Tensor, target: Tensor, mean_distance: float) -> Tensor:
    """‖x̂ − x‖ / `mean_distance`, the mean distance between two images of the set (Dosovitskiy & Brox 2016).

    1 is no better than another image of the set. Both distances are divided by √(3·H·W), see `mean_pairwise_distance`.
    """
    return _root_mean_square(round_to_8_bits(preds) - target) / mean_distance


def mean_pairwise_distance(images: Sequence[Tensor]) -> float:
    """The mean of ‖x − y‖ / √(3·H·W) over all pairs of the 3×H×W `images`; NaN for fewer than two.

    Dosovitskiy & Brox 2016 omit the root. It cancels in `normalized_error` for images of one size, and makes images of
    several sizes comparable. Images of different sizes are compared on their common centre.
    """
    distances = []
    for first, second in combinations(images, 2):
        height, width = min(first.shape[1], second.shape[1]), min(first.shape[2], second.shape[2])
        first, second = _center_crop(first, height, width), _center_crop(second, height, width)
        distances.append(_root_mean_square(first[None] - second[None]).item())
    return sum(distances) / len(distances) if distances else float("nan")


def _center_crop(image: Tensor, height: int, width: int) -> Tensor:
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def _root_mean_square(tensor: Tensor) -> Tensor:
    return tensor.square().mean(dim=(1, 2, 3)).sqrt()


def radial_spectrum(images: Tensor) -> tuple[Tensor, Tensor]:
    """The radially averaged power spectrum of the luminance of N×3×H×W images, or of differences between images.

    The mean is subtracted and a Hann window applied, so that neither the brightness nor the jump between opposite edges
    leaks into other frequencies. White noise of variance σ² has the power σ² at all frequencies but the lowest, which
    lacks the mean.

    Returns:
        K frequencies in cycles per pixel, evenly spaced up to 0.5, and the power, N×K. K is half the shorter side;
        frequency 0, the brightness, is omitted.
    """
    height, width = images.shape[2:]
    luminance = torch.einsum("nchw,c->nhw", images.float(), torch.tensor(LUMA, device=images.device))
    luminance = luminance - luminance.mean(dim=(1, 2), keepdim=True)
    window = torch.outer(*(torch.hann_window(side, device=images.device) for side in (height, width)))
    power = torch.fft.fft2(luminance * window).abs().square() / window.square().sum()  # N×H×W

    bins = max(1, min(height, width) // 2)
    rows, columns = (torch.fft.fftfreq(side, device=images.device) for side in (height, width))
    radius = torch.hypot(rows[:, None], columns)
    ring = (radius * 2 * bins).round().long().clamp(max=bins + 1).flatten()  # the last ring takes the corners
    sums = power.new_zeros(len(images), bins + 2).index_add_(1, ring, power.flatten(1))
    means = sums / ring.bincount(minlength=bins + 2).clamp(min=1)
    return torch.arange(1, bins + 1, device=images.device) / (2 * bins), means[:, 1:-1]


def resolved_detail(preds: Tensor, target: Tensor) -> Tensor:
    """The frequency in cycles per pixel up to which `preds` shows the image, from 0 (none) to 0.5 (all).

    The loss at a frequency of `radial_spectrum` is the power of the error over that of the image, smoothed over three
    neighbouring frequencies. A frequency is resolved if its loss is at most one half: there the image stands 3 dB above
    the error. As in Fourier ring correlation, the detail ends before the first frequency that is not resolved, whatever
    follows it.

    The margin of 3 dB matters, since a blurred image shows nothing at high frequencies: its error there is the image
    itself, exactly as strong.
    """
    frequencies, image_power = radial_spectrum(target)
    _, error_power = radial_spectrum(round_to_8_bits(preds) - target)
    loss = (error_power / image_power).nan_to_num(nan=0.0)  # no error is no loss, even where the image is flat
    loss = F.avg_pool1d(loss, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    resolved = (loss <= LARGEST_LOSS).float().cumprod(dim=1)  # 1 up to the first frequency that is lost
    return (resolved * frequencies).amax(dim=1)
