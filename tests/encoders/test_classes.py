"""What a network with ImageNet's classes sees."""

import pytest
import torch
from timm.data import create_transform
from torch import Tensor, nn
from torchvision.transforms import v2

from inverters.data.images import round_to_8_bits, to_pillow
from inverters.encoders.classes import Classifier, class_names, find_classifier
from inverters.encoders.labels import Label
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.encoders.vgg import VGGEncoder

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def network(classes: int = 1000, weights: str = "own") -> NetworkEncoder:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(8 * 16, classes))
    module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), *head)
    return NetworkEncoder(module, Preprocessing(MEAN, STD, size=32, crop=0.8), weights=weights)


def images(height: int, width: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (90, 61), (20, 33), (40, 40)])
def test_probabilities_are_those_of_the_network_after_its_preprocessing(height: int, width: int) -> None:
    encoder, batch = network(), round_to_8_bits(images(height, width))
    preprocess = create_transform(32, interpolation="bicubic", mean=MEAN, std=STD, crop_pct=0.8)
    whole = v2.Normalize(MEAN, STD)
    inputs = [whole(one) if height == width == 32 else preprocess(to_pillow(one)) for one in batch]
    expected = encoder.module(torch.stack(inputs)).softmax(1)
    found = Classifier(encoder).probabilities(batch)
    assert found.shape == (2, 1000)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-6)  # timm's resizing rounds to 8 bits


def test_labels_are_the_five_likeliest_classes() -> None:
    classifier, batch = Classifier(network()), images(32, 32)
    probabilities = classifier.probabilities(batch)
    for labels, values in zip(classifier.labels(batch), probabilities, strict=True):
        assert [label.name for label in labels] == [class_names()[i] for i in values.argsort(descending=True)[:5]]
        assert [label.probability for label in labels] == sorted(values.tolist(), reverse=True)[:5]


def test_agreement_compares_the_likeliest_class() -> None:
    classifier, batch = Classifier(network()), images(32, 32)
    other = torch.stack([batch[0], 1 - batch[1]])
    expected = (classifier.probabilities(other).argmax(1) == classifier.probabilities(batch).argmax(1)).float()
    assert classifier.agreement(other, batch).tolist() == expected.tolist()
    assert classifier.agreement(batch, batch).tolist() == [1.0, 1.0]


def test_a_label_is_short() -> None:
    assert str(Label("tabby", 0.876)) == "tabby 88 %"
    assert len(str(Label("a very long name of something that has many words", 1.0))) <= 24 + 6


def test_networks_without_classes_of_imagenet_have_no_classifier() -> None:
    assert find_classifier(network()) is not None
    assert find_classifier(network(classes=10)) is None
    assert find_classifier(network(weights="random")) is None
    assert find_classifier(VGGEncoder(["relu1_1"], weights="random")) is None
