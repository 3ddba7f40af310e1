"""The discriminator of an adversarial loss."""

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

CONVOLUTIONS = ((32, 7, 4), (64, 5, 1), (128, 3, 2), (256, 3, 1), (256, 3, 2))  # (channels, kernel, stride)
HIDDEN = 512
MIN_LOSS_RATIO = 0.1  # of a discriminator's loss to its decoder's, below which the discriminator is not trained


class Discriminator(nn.Sequential):
    """Classifies images as photographs or reconstructions: N×3×H×W to N logits, positive for photographs.

    The discriminator of Dosovitskiy & Brox 2016 (DeePSiM): five convolutions, the mean over all positions and two
    linear layers. Deviations: one logit in place of a softmax over two, which is the same function, and no dropout,
    whose random numbers a resumed run would not repeat.
    """

    def __init__(self) -> None:
        modules: list[nn.Module] = []
        channels = 3
        for width, kernel_size, stride in CONVOLUTIONS:
            modules += [nn.Conv2d(channels, width, kernel_size, stride, padding=kernel_size // 2), nn.ReLU()]
            channels = width
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*modules, *pooled, nn.Linear(channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Flatten(0))


def adversarial_losses(discriminator: Discriminator, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of a decoder and of its discriminator, each without a gradient for the other network.

    With D the probability that an image is a photograph, −log D(preds) for the decoder, and −log D(target) −
    log(1 − D(preds)) for the discriminator, means over the images (Dosovitskiy & Brox 2016, equations 4 and 5). As
    there, the discriminator pauses while it is far ahead: below `MIN_LOSS_RATIO` its loss is set to 0.

    Args:
        discriminator: of the decoder.
        preds: reconstructions, N×3×H×W.
        target: the images, N×3×H×W.

    Returns:
        The decoder's loss and the discriminator's.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    generator_loss = F.softplus(-functional_call(discriminator, frozen, (preds,)).float()).mean()
    real, fake = discriminator(target).float(), discriminator(preds.detach()).float()
    discriminator_loss = (F.softplus(-real) + F.softplus(fake)).mean()
    return generator_loss, discriminator_loss * (
        discriminator_loss.detach() >= MIN_LOSS_RATIO * generator_loss.detach()
    )
