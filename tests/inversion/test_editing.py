"""Edits of a network with a classifier: its classes are shown, and its class scores are a layer like others."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Generator, nn

from inverters.data.images import center_crop, load_image
from inverters.decoders.convolutional import ConvDecoder
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.inversion import edits
from inverters.inversion.edit_names import parse_edit
from inverters.inversion.editing import edit_runners
from inverters.inversion.inversion import compare
from inverters.inversion.inverter import Inverter
from inverters.inversion.runner import make_runner

GRID, SCORES = "0", "3"


def inverter(layer: str) -> Inverter:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 1000))
    encoder = NetworkEncoder(module, Preprocessing((0.5,) * 3, (0.5,) * 3, size=32), name="tiny")
    size = None if layer == GRID else 32
    decoder = ConvDecoder(encoder.layers[layer], [(4, 1)], size=size, dense_width=4)
    return Inverter(encoder, {layer: decoder}, torch.device("cpu"))


@pytest.mark.parametrize("layer", [GRID, SCORES])
def test_the_image_is_cropped_and_classified_as_without_edits(layer: str) -> None:
    image = torch.rand(3, 40, 50, generator=Generator().manual_seed(0))
    plain = make_runner(inverter(layer))
    (runner,) = edit_runners(plain, [parse_edit("top=5")])
    before, edited = plain.run(image), runner.run(image)
    assert edited.image.equal(before.image)
    assert edited.image.shape == ((3, 40, 50) if layer == GRID else (3, 32, 32))
    assert list(edited.labels) == ["original", layer]
    assert not edited[layer].equal(before[layer])


def test_a_strip_of_one_layer_shows_the_classes() -> None:
    plain = make_runner(inverter(GRID))
    (runner,) = edit_runners(plain, [parse_edit("binarize")])
    image = torch.rand(3, 160, 160)
    with_classes = compare([plain.run(image), runner.run(image)])
    plain, runner = (type(one)(**{**vars(one), "classifier": None}) for one in (plain, runner))
    without = compare([plain.run(image), runner.run(image)])
    assert with_classes.height > without.height + 4 * 10  # five more lines under the original


@pytest.mark.parametrize(
    "text", ["drop=0.5", "top=5", "binarize", "noise=1", "channels=1,2", "without=1", "random", "again=1"]
)
def test_class_scores_are_edited(text: str) -> None:
    made = inverter(SCORES)
    features = made.encode(torch.rand(2, 3, 32, 32))
    edited = edits.apply(features, [text], made, (32, 32))
    assert edited[SCORES].shape == (2, 1000, 1, 1)
    assert not edited[SCORES].equal(features[SCORES])
    assert made.decode(edited, (32, 32))[SCORES].shape == (2, 3, 32, 32)


def test_the_other_image_is_cropped_too(tmp_path: Path) -> None:
    pixels = torch.randint(256, (60, 90, 3), generator=Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "other.png")
    made = inverter(SCORES)
    features = made.encode(torch.rand(1, 3, 32, 32))
    mixed = edits.apply(features, [f"mix={tmp_path}/other.png:1"], made, (32, 32))
    (other,) = center_crop(load_image(tmp_path / "other.png")[None], 32, made.encoder.input_crop)
    assert mixed[SCORES].equal(made.encode(other[None])[SCORES])
