"""The opponent of a decoder whose loss has an adversarial term."""

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

CONVOLUTIONS = ((32, 7, 4), (64, 5, 1), (128, 3, 2), (256, 3, 1), (256, 3, 2))  # (channels, kernel, stride)
HIDDEN = 512
MIN_LOSS_RATIO = 0.1  # where its loss is so small a part of the decoder's, a discriminator waits


class Discriminator(nn.Sequential):
    """How surely an image is a photograph and no reconstruction: N×3×H×W to N logits.

    That of Dosovitskiy & Brox 2016 (DeePSiM) judges local statistics: five convolutions, the mean over all places and
    two linear maps. Deviations: one logit for the softmax of two, which is the same function, and no dropout, which
    would make a resumed run another run.
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
    """What the decoder of `preds` and the discriminator have to minimise, each without a gradient for the other.

    With D the probability that an image is a photograph: −log D(preds) for the decoder, and for the discriminator
    −log D(target) − log(1 − D(preds)), means over the images (Dosovitskiy & Brox 2016, equations 4 and 5). As there, a
    discriminator that is far superior waits: its loss is then 0.

    Args:
        discriminator: of the decoder.
        preds: reconstructions, N×3×H×W.
        target: their images, N×3×H×W.

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
