"""What an encoder's classifier sees in reconstructions: in the inversion, its files and its strip."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from inverters import invert
from inverters.decoders.convolutional import ConvDecoder
from inverters.encoders.classes import Classifier
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.inversion.inverter import Inverter
from inverters.inversion.saved import read_metrics


def inverter(classes: int = 1000) -> Inverter:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes))
    encoder = NetworkEncoder(module, Preprocessing((0.5,) * 3, (0.5,) * 3, size=32), name="tiny")
    return Inverter(encoder, {"0": ConvDecoder(encoder.layers["0"], [(4, 1)])}, torch.device("cpu"))


def test_the_image_and_each_reconstruction_are_classified(tmp_path: Path) -> None:
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    made = inverter()
    result = invert(image, inverter=made)
    assert isinstance(made.encoder, NetworkEncoder)
    of_image, of_reconstruction = Classifier(made.encoder).labels(torch.stack([result.image, result["0"]]))
    assert result.labels == {"original": of_image, "0": of_reconstruction}
    result.save(tmp_path / "out")
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(values["classes"]) == [label.name for label in result.labels["original"]]
    ((name, probability), *_) = values["methods"]["decoder"]["layers"]["0"]["classes"].items()
    assert (name, probability) == (result.labels["0"][0].name, round(result.labels["0"][0].probability, 4))
    saved = read_metrics(tmp_path / "out")
    assert saved is not None
    assert json.loads(json.dumps(saved.as_json())) == {key: value for key, value in values.items() if key != "sha256"}


def test_the_strip_has_room_for_the_classes() -> None:
    image = torch.rand(3, 40, 50)
    plain, with_classes = (np.array(invert(image, inverter=inverter(count)).strip()) for count in (10, 1000))
    assert with_classes.shape[0] > plain.shape[0] + 4 * 10  # five more lines under the original
    dark = (with_classes < 128).all(axis=2)
    assert dark[plain.shape[0] :, : plain.shape[1] // 2].any()


def test_networks_without_such_a_classifier_have_no_labels() -> None:
    assert invert(torch.rand(3, 40, 50), inverter=inverter(10)).labels == {}
