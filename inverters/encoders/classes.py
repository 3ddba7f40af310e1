"""`Classifier`: what a network with ImageNet's classes sees in images."""

from functools import cache

import torch
from torch import Tensor

from inverters.data.images import center_crop
from inverters.devices import exact_float32
from inverters.encoders.labels import Label
from inverters.encoders.network import NetworkEncoder
from inverters.encoders.vgg_weight_names import RANDOM

CLASSES = 1000  # of ImageNet
LABELS = 5


class Classifier:
    """The classifier at the end of a network.

    Args:
        encoder: the network; its layer `logits` has ImageNet's 1,000 classes in their usual order.
    """

    layer: str

    def __init__(self, encoder: NetworkEncoder) -> None:
        self.encoder = encoder
        self.layer = encoder.structure.canonical("logits")

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """The probabilities of all classes, N×1000, for images N×3×H×W in [0, 1] of any size.

        Unless they have the network's own size already, images are resized and centre-cropped as its preprocessing
        does.
        """
        images = images.to(self.encoder.device, torch.float32)
        size, crop = self.encoder.preprocessing.size, self.encoder.preprocessing.crop
        if images.shape[2:] != (size, size):
            images = center_crop(images, size, crop)
        with exact_float32():
            logits: Tensor = self.encoder(images, [self.layer])[self.layer].flatten(1)
        return logits.softmax(dim=1)

    def labels(self, images: Tensor) -> list[tuple[Label, ...]]:
        """The five likeliest classes of each image, the likeliest first."""
        values, classes = self.probabilities(images).topk(LABELS)
        names = class_names()
        return [
            tuple(Label(names[index], value) for index, value in zip(some, likely, strict=True))
            for some, likely in zip(classes.tolist(), values.tolist(), strict=True)
        ]

    def agreement(self, preds: Tensor, target: Tensor) -> Tensor:
        """Whether the likeliest class of each of `preds` is that of its `target`; 1.0 or 0.0 for each of N images."""
        return (self.probabilities(preds).argmax(1) == self.probabilities(target).argmax(1)).float()


def find_classifier(encoder: object) -> Classifier | None:
    """The classifier of an encoder; None if it has none of ImageNet's classes, or random weights."""
    if not isinstance(encoder, NetworkEncoder) or RANDOM.fullmatch(encoder.weights):
        return None
    layer = encoder.layers.get(encoder.structure.aliases.get("logits", ""))
    return Classifier(encoder) if layer and layer.channels == CLASSES else None


@cache
def class_names() -> list[str]:
    """The names of ImageNet's classes: of several synonyms the first."""
    from timm.data.imagenet_info import ImageNetInfo  # takes a second, and most encoders have no classifier

    information = ImageNetInfo()
    return [information.index_to_description(index).partition(",")[0] for index in range(CLASSES)]
