"""The terms of the training loss: pure functions of N×C×H×W tensors, each a mean over all elements."""

from torch import Tensor
from torch.nn import functional as F


def pixel_loss(preds: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between images in [0, 1]; its minimum is what PSNR measures."""
    return F.mse_loss(preds.float(), target.float())


def feature_loss(preds: Tensor, target: Tensor, std: Tensor) -> Tensor:
    """Mean squared error between features in units of each channel's standard deviation `std` (1×C×1×1).

    The feature loss of Dosovitskiy & Brox 2016 (DeePSiM) and Johnson et al. 2016 at one layer. Deviation: they do not
    divide by the standard deviation. The scales of features differ a hundredfold between channels and between layers.
    """
    return F.mse_loss(preds.float() / std, target.float() / std)


def total_variation(images: Tensor) -> Tensor:
    """Anisotropic total variation: the mean absolute difference between neighbouring pixels, rows plus columns."""
    images = images.float()
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()
