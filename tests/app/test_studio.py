"""Networks that the page offers, and what it computes."""

import json
import threading
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import VECTOR_SIZE, publish_tiny
from PIL import Image
from skimage.data import data_dir

import inverters
from inverters.app import optimisation
from inverters.app.edited import Changes
from inverters.app.networks import find_networks
from inverters.app.opening import SIZE, describe, opening, photograph
from inverters.app.panes import from_data_uri
from inverters.app.studio import Choice, Studio
from inverters.data.images import center_crop, load_image, round_to_8_bits, to_image
from inverters.encoders.classes import find_classifier
from inverters.encoders.registry import create_encoder
from inverters.errors import CheckpointError, UnknownNameError
from inverters.metrics import feature_error, peak_signal_noise_ratio, structural_similarity

NO_CHANGES: Changes = {
    "drop": 0,
    "noise": 0,
    "top": 0,
    "right": 0,
    "again": 0,
    "binarize": False,
    "random": False,
    "channels": "",
    "keep": "",
}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Pixel decoders for two layers, and a perceptual one for the second."""
    publish_tiny(tmp_path, ("relu2_1",), objective="perceptual")
    return publish_tiny(tmp_path, corrections=1)


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return round_to_8_bits(torch.rand(3, 40, 48))


def test_networks_are_those_with_decoders(checkpoints: Path) -> None:
    publish_tiny(checkpoints, ("relu1_1",), weights="original")
    networks = find_networks(checkpoints)
    assert [network.label for network in networks] == ["vgg19", "vgg19 (random)"]
    assert not networks[0].corrected
    assert networks[1].corrected
    assert networks[1].objectives("perceptual") == {"relu1_1": "pixel", "relu2_1": "perceptual"}
    assert networks[1].objectives("pixel") == {"relu1_1": "pixel", "relu2_1": "pixel"}


def test_no_networks(tmp_path: Path, checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="no decoders of vgg16 under"):
        find_networks(checkpoints, "vgg16")
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match="no decoders under"):
        find_networks(tmp_path / "none")
    with pytest.raises(UnknownNameError, match="did you mean 'vgg19'"):
        find_networks(checkpoints, "vgg91")


def test_depths_appear_one_after_the_other_with_their_scores(checkpoints: Path, image: torch.Tensor) -> None:
    studio = Studio(find_networks(checkpoints), 64, "cpu")
    choice = Choice("vgg19 (random)")
    panes = list(studio.reconstruct(image, choice))
    assert [[bool(depth["picture"]) for depth in pane["depths"]] for pane in panes] == [
        [False, False],
        [True, False],
        [True, True],
    ]
    assert [pane["note"] for pane in panes] == ["0 of 2 depths", "1 of 2 depths", ""]
    inverter = inverters.load_inverter("all", "vgg19", "random", checkpoints, "cpu")
    for depth in panes[-1]["depths"]:
        layer = depth["layer"]
        expected = round_to_8_bits(inverter.reconstruct(image[None])[layer])
        assert torch.equal(load_image(from_data_uri(depth["picture"] or "")), expected[0])
        features = [inverter.encode(images, [layer])[layer] for images in (expected, image[None])]
        assert depth["psnr"] == pytest.approx(peak_signal_noise_ratio(expected, image[None]).item())
        assert depth["ssim"] == pytest.approx(structural_similarity(expected, image[None]).item())
        assert depth["feature_error"] == pytest.approx(feature_error(*features).item())
        assert depth["verdict"] == ""
    assert list(studio.reconstruct(image, choice)) == [panes[-1]]  # is kept


def test_the_feature_error_of_a_decoder_is_compared_with_those_of_photographs(
    checkpoints: Path, image: torch.Tensor
) -> None:
    for layer, quantiles in (("relu1_1", [0.0, 1e9]), ("relu2_1", [0.0, 1e-9])):
        path = checkpoints / "vgg19-random" / layer / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"error_quantiles": quantiles}))
    studio = Studio(find_networks(checkpoints), 64, "cpu")
    pane = studio.finished(image, Choice("vgg19 (random)"))
    assert [depth["verdict"] for depth in pane["depths"]] == ["usual", "worse than all photographs"]


def test_choices_change_the_pictures(checkpoints: Path, image: torch.Tensor) -> None:
    studio = Studio(find_networks(checkpoints), 64, "cpu")
    choices = [Choice("vgg19 (random)", objective, on) for objective in ("closest", "sharpest") for on in (True, False)]
    panes = [studio.finished(image, choice) for choice in choices]
    assert [pane["options"].get("corrections") for pane in panes] == [None, 0, None, 0]
    assert panes[0]["options"] == {"weights": "random", "checkpoints": "DIR", "size": 64}
    assert [[depth["objective"] for depth in pane["depths"]] for pane in panes] == [
        ["pixel", "pixel"],
        ["pixel", "pixel"],
        ["pixel", "perceptual"],
        ["pixel", "perceptual"],
    ]
    assert panes[0]["depths"][0]["picture"] != panes[1]["depths"][0]["picture"]


def test_a_network_with_a_classifier_says_what_it_sees(tmp_path: Path) -> None:
    """In a crop of the one size that the decoder of a vector can make."""
    encoder = create_encoder("efficientnet-lite0", None, ["logits"])
    publish_tiny(tmp_path, ("blocks.0.0", "classifier"), encoder=encoder)
    (network,) = find_networks(tmp_path)
    image = load_image(Path(data_dir) / "chelsea.png")
    studio, choice = Studio([network], 300, "cpu"), Choice("efficientnet-lite0")
    crop = center_crop(image[None], VECTOR_SIZE, 0.875)
    assert torch.equal(network.fit(image), crop[0])
    pane = studio.finished(image, choice)
    assert (pane["height"], pane["width"], pane["options"]["checkpoints"]) == (VECTOR_SIZE, VECTOR_SIZE, "DIR")
    assert "size" not in pane["options"]
    classifier = find_classifier(encoder)
    assert classifier
    assert pane["label"] == str(classifier.labels(crop)[0][0]) == "tiger cat 40 %"
    for depth in pane["depths"]:
        with Image.open(BytesIO(from_data_uri(depth["picture"] or ""))) as picture:
            assert depth["label"] == str(classifier.labels(to_image(picture)[None])[0][0])
        assert depth["agrees"] == (depth["label"] or "").startswith("tiger cat")
    *_, optimised = studio.optimise(image, choice, "blocks.0.0", "session")
    assert optimised["depths"][0]["agrees"] is not None
    changes: Changes = {**NO_CHANGES, "top": 5}
    edited = studio.edit(image, choice, "classifier", changes, None, 0.5)
    assert edited["edits"] == "--layer classifier --edit top=5"


def test_an_optimisation_ends_with_its_best_image_when_it_is_stopped(checkpoints: Path, image: torch.Tensor) -> None:
    studio, choice = Studio(find_networks(checkpoints), 64, "cpu"), Choice("vgg19 (random)")
    panes = []
    for pane in studio.optimise(image, choice, "relu2_1", "session"):
        panes.append(pane)
        studio.stop("another session")
        if "3 of 50" in pane["note"]:
            studio.stop("session")
    assert len(panes) < 10
    decoder = studio.finished(image, choice)["depths"][1]["feature_error"]
    optimised = panes[-1]["depths"][1]["feature_error"]
    assert decoder and optimised and optimised < decoder


def test_an_optimisation_that_nobody_follows_ends(
    checkpoints: Path, image: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimisation, "PATIENCE", 2.0)
    studio, choice = Studio(find_networks(checkpoints), 64, "cpu"), Choice("vgg19 (random)")
    before = set(threading.enumerate())
    steps = studio.optimise(image, choice, "relu2_1", "session")
    notes = [next(steps)["note"] for _ in range(2)]
    assert notes[0] == "optimisation starts"
    (thread,) = set(threading.enumerate()) - before
    thread.join(60)
    assert not thread.is_alive()
    steps.close()  # type: ignore[attr-defined]


def test_unknown_choices(checkpoints: Path, image: torch.Tensor) -> None:
    studio = Studio(find_networks(checkpoints), 64, "cpu")
    with pytest.raises(UnknownNameError, match="unknown network 'vgg'"):
        studio.finished(image, Choice("vgg"))
    with pytest.raises(UnknownNameError, match="unknown objective 'nicest'"):
        studio.finished(image, Choice("vgg19 (random)", "nicest"))


def test_the_page_opens_with_pictures_of_the_shipped_decoders() -> None:
    """If this fails, decoders have been replaced: run `python -m inverters.app.opening`."""
    network = find_networks()[0]
    studio, choice = Studio([network], SIZE, "cpu"), Choice(network.label)
    pane = opening(studio, choice)
    assert [bool(depth["picture"]) for depth in pane["depths"]] == [True] * len(describe(network))
    deepest = pane["depths"][-1]
    exact = studio.inverter(choice).reconstruct(photograph(SIZE)[None])[deepest["layer"]]
    assert deepest["psnr"] == pytest.approx(peak_signal_noise_ratio(exact, photograph(SIZE)[None]).item(), abs=0.02)
    with Image.open(BytesIO(from_data_uri(deepest["picture"] or ""))) as picture:
        assert picture.size == (SIZE, SIZE)


def test_the_page_opens_with_the_photograph_alone_for_other_decoders(checkpoints: Path) -> None:
    pane = opening(Studio(find_networks(checkpoints), SIZE, "cpu"), Choice("vgg19 (random)"))
    assert [depth["picture"] for depth in pane["depths"]] == [None, None]
