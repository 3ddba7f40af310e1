"""Edits of features: the property that defines each, and what `apply` makes of a list."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from inverters.decoders.base import Decoder
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.errors import ImageError, InverterError, UnknownNameError
from inverters.inversion import edit_functions as functions
from inverters.inversion import edits
from inverters.inversion.edit_names import EDITS
from inverters.inversion.inverter import Inverter

SIZE = (24, 32)


class Blocks(Encoder):
    """Means of 4×4 pixels in eight channels after a ReLU, and the same for the whole image."""

    name, weights, input_multiple = "blocks", "made", 4
    layers = {  # noqa: RUF012
        "grid": Layer("grid", channels=8, stride=4, receptive_field=4, stage="grid"),
        "vector": Layer("vector", channels=8, stride=None, receptive_field=None, stage="vector"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.randn(8, 3, 1, 1, generator=Generator().manual_seed(0)))

    def forward(self, images: Tensor, layers: object) -> dict[str, Tensor]:  # noqa: ARG002
        grid = F.conv2d(F.avg_pool2d(images, 4), self.get_buffer("kernel")).relu()
        return {"grid": grid, "vector": grid.mean((2, 3), keepdim=True)}


class FromBlocks(Decoder):
    architecture = "from-blocks"

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(8, 3, 1), nn.Upsample(scale_factor=4))


@pytest.fixture
def inverter() -> Inverter:
    encoder = Blocks()
    decoder = FromBlocks(encoder.layers["grid"])
    decoder.set_statistics(torch.linspace(0.1, 1, 8), torch.linspace(1, 0.3, 8))
    return Inverter(encoder, {"grid": decoder}, torch.device("cpu"))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE, generator=Generator().manual_seed(1))


def made(*shape: int) -> Tensor:
    """Features after a ReLU."""
    return torch.randn(*shape, generator=Generator().manual_seed(2)).relu()


def seeded() -> Generator:
    return Generator().manual_seed(3)


# What each does


def test_drop_sets_this_share_to_zero_and_leaves_the_rest() -> None:
    features = made(2, 64, 20, 20) + 1
    edited = functions.drop(features, 0.3, seeded())
    assert (edited == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert edited[edited != 0].equal(features[edited != 0])
    assert functions.drop(features, 0, seeded()).equal(features)
    assert functions.drop(features, 1, seeded()).count_nonzero() == 0


def test_top_keeps_the_largest_of_each_position() -> None:
    features = torch.randn(2, 10, 4, 5, generator=seeded())
    edited = functions.top(features, 3)
    assert (edited != 0).sum(1).unique().tolist() == [3]
    lowest_kept = features.where(edited != 0, torch.inf).amin(1)
    assert bool((lowest_kept > features.where(edited == 0, -torch.inf).amax(1)).all())
    assert functions.top(features, 10).equal(features)


def test_binarize_keeps_the_pattern_and_the_mean_of_each_image() -> None:
    features = made(2, 6, 4, 5)
    edited = functions.binarize(features)
    assert (edited != 0).equal(features != 0)
    for one, before in zip(edited, features, strict=True):
        assert one[one != 0].unique().numel() == 1
        assert float(one.sum()) == pytest.approx(float(before.sum()), rel=1e-5)
    signed = functions.binarize(features - 0.5)
    assert signed.sign().equal((features - 0.5).sign())
    assert functions.binarize(torch.zeros(1, 2, 3, 3)).count_nonzero() == 0


def test_noise_has_the_deviations_of_the_channels() -> None:
    features, std = made(1, 3, 100, 100), torch.tensor([1.0, 10.0, 0.1]).view(1, 3, 1, 1)
    added = functions.noise(features, 0.5, std, seeded()) - features
    assert added.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=0.2)
    assert added.std((0, 2, 3)).tolist() == pytest.approx([0.5, 5, 0.05], rel=0.05)


def test_channels_and_without_divide_the_features() -> None:
    features = made(2, 6, 4, 5)
    kept, rest = functions.channels(features, [1, 4]), functions.without(features, [4, 1])
    assert kept[:, [1, 4]].equal(features[:, [1, 4]])
    assert kept[:, [0, 2, 3, 5]].count_nonzero() == 0
    assert (kept + rest).equal(features)


def test_keep_and_erase_divide_the_features() -> None:
    features, box = made(2, 3, 5, 6) + 1, (slice(1, 3), slice(2, 6))
    kept, rest = functions.keep(features, box), functions.erase(features, box)
    assert kept[..., 1:3, 2:6].equal(features[..., 1:3, 2:6])
    assert kept.count_nonzero() == 2 * 3 * 2 * 4
    assert (kept + rest).equal(features)


@pytest.mark.parametrize(("right", "down"), [(2, 1), (-2, -1), (0, 0), (3, -2)])
def test_shift_moves_every_position(right: int, down: int) -> None:
    features = made(2, 3, 5, 6) + 1
    edited = functions.shift(features, right, down)
    for row in range(5):
        for column in range(6):
            inside = 0 <= row - down < 5 and 0 <= column - right < 6
            expected = features[..., row - down, column - right] if inside else torch.zeros(2, 3)
            assert edited[..., row, column].equal(expected)


def test_mix_interpolates() -> None:
    features, other = made(2, 3, 5, 6), made(1, 3, 5, 6).flip(1)
    assert functions.mix(features, other, 0).equal(features)
    assert functions.mix(features, other, 1).equal(other.expand(2, -1, -1, -1))
    torch.testing.assert_close(functions.mix(features, other, 0.25), 0.75 * features + 0.25 * other)


def test_swap_takes_the_box_of_the_other() -> None:
    features, other, box = made(2, 3, 5, 6), made(1, 3, 5, 6).flip(1), (slice(1, 3), slice(2, 6))
    edited = functions.swap(features, other, box)
    assert functions.keep(edited, box).equal(functions.keep(other, box).expand(2, -1, -1, -1))
    assert functions.erase(edited, box).equal(functions.erase(features, box))


def test_random_features_have_the_statistics_of_the_layer() -> None:
    mean, std = (torch.tensor(values).view(1, 5, 1, 1) for values in ([0.1, 0.4, 1.0, 3.0, 20.0], [1.0, 1.0, 1, 1, 1]))
    shape = torch.zeros(1, 5, 500, 500)
    for nonnegative in (False, True):
        drawn = functions.random(shape, mean, std, seeded(), nonnegative)
        assert drawn.mean((0, 2, 3)).tolist() == pytest.approx(mean.flatten().tolist(), abs=0.02)
        assert drawn.std((0, 2, 3)).tolist() == pytest.approx(std.flatten().tolist(), abs=0.04)
        assert bool((drawn >= 0).all()) is nonnegative
    neighbours = torch.corrcoef(torch.stack([drawn[0, 1, :, 1:].flatten(), drawn[0, 1, :, :-1].flatten()]))
    assert abs(float(neighbours[0, 1])) < 0.01


def test_a_channel_that_is_always_zero_stays_so() -> None:
    drawn = functions.random(
        torch.zeros(1, 1, 50, 50), torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 1e-6), seeded(), True
    )
    assert float(drawn.max()) < 1e-4


def test_again_decodes_and_encodes(inverter: Inverter, images: Tensor) -> None:
    features = inverter.encode(images, ["grid"])
    expected = features
    for passes in (1, 2, 3):
        expected = inverter.encode(inverter.decode(expected, SIZE)["grid"], ["grid"])
        assert edits.apply(features, [f"again={passes}"], inverter, SIZE)["grid"].equal(expected["grid"])


# Applied to layers


def test_edits_are_applied_in_order(inverter: Inverter, images: Tensor) -> None:
    features = inverter.encode(images)
    assert edits.apply(features, [], inverter, SIZE)["grid"].equal(features["grid"])
    forth = edits.apply(features, ["shift=4,0", "erase=0,0,8,24"], inverter, SIZE)["grid"]
    back = edits.apply(features, ["erase=0,0,8,24", "shift=4,0"], inverter, SIZE)["grid"]
    assert forth[..., :2].count_nonzero() == 0 and back[..., :3].count_nonzero() == 0
    assert forth[..., 2].count_nonzero() > 0


def test_boxes_and_shifts_are_pixels(inverter: Inverter, images: Tensor) -> None:
    features = inverter.encode(images)["grid"] + 1
    kept = edits.apply({"grid": features}, ["keep=3,4,9,8"], inverter, SIZE)["grid"]
    assert kept.equal(functions.keep(features, (slice(1, 2), slice(0, 3))))
    moved = edits.apply({"grid": features}, ["shift=9,-3"], inverter, SIZE)["grid"]
    assert moved.equal(functions.shift(features, 2, -1))
    whole = edits.apply({"grid": features}, ["keep=0,0,32,24"], inverter, SIZE)["grid"]
    assert whole.equal(features)


@pytest.mark.parametrize("text", ["drop=0.5", "noise=1", "random"])
def test_the_seed_decides_what_is_random(inverter: Inverter, images: Tensor, text: str) -> None:
    features = {"grid": inverter.encode(images)["grid"]}
    both = features | {"vector": inverter.encode(images, ["vector"])["vector"]}
    first = edits.apply(features, [text], inverter, SIZE, seed=1)["grid"]
    assert edits.apply(features, [text], inverter, SIZE, seed=1)["grid"].equal(first)
    assert not edits.apply(features, [text], inverter, SIZE, seed=2)["grid"].equal(first)
    twice = edits.apply(features, [text, text], inverter, SIZE, seed=1)["grid"]
    assert not twice.equal(first)
    if text == "drop=0.5":
        assert edits.apply(dict(reversed(both.items())), [text], inverter, SIZE, seed=1)["grid"].equal(first)
    torch.rand(3)
    assert edits.apply(features, [text], inverter, SIZE, seed=1)["grid"].equal(first)


def test_the_statistics_are_those_of_the_decoder(inverter: Inverter) -> None:
    features = {"grid": torch.zeros(1, 8, 60, 80)}
    decoder = inverter.decoders["grid"]
    added = edits.apply(features, ["noise=2"], inverter, (240, 320))["grid"]
    assert added.std((0, 2, 3)).tolist() == pytest.approx((2 * decoder.std).flatten().tolist(), rel=0.05)
    drawn = edits.apply(features, ["random"], inverter, (240, 320))["grid"]
    assert drawn.mean((0, 2, 3)).tolist() == pytest.approx(decoder.mean.flatten().tolist(), abs=0.05)
    assert bool((drawn >= 0).all())


def test_the_other_image_is_encoded_at_this_size(inverter: Inverter, images: Tensor, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (255, 0, 100)).save(tmp_path / "other.png")
    features = inverter.encode(images)
    other = inverter.encode(torch.tensor([1, 0, 100 / 255]).view(1, 3, 1, 1).expand(1, 3, *SIZE))["grid"]
    mixed = edits.apply(features, [f"mix={tmp_path}/other.png:0.5"], inverter, SIZE)["grid"]
    torch.testing.assert_close(mixed, (features["grid"] + other) / 2)
    swapped = edits.apply(features, [f"swap={tmp_path}/other.png:0,0,32,24"], inverter, SIZE)["grid"]
    torch.testing.assert_close(swapped, other.expand_as(swapped))


def test_vectors_can_be_edited_where_positions_do_not_matter(
    inverter: Inverter, images: Tensor, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 24), "red").save(tmp_path / "other.png")
    features = inverter.encode(images, ["vector"])
    for text in ("drop=0.5", "top=2", "binarize", "channels=0,7", "without=0", f"mix={tmp_path}/other.png:0.5"):
        assert edits.apply(features, [text], inverter, SIZE)["vector"].shape == (2, 8, 1, 1)


@pytest.mark.parametrize(
    ("text", "layer", "message"),
    [
        ("dorp=0.5", "grid", "unknown edit 'dorp': did you mean 'drop'?"),
        ("drop=2", "grid", "drop is written drop=P"),
        ("top=9", "grid", "top=9: grid has 8 channels"),
        ("keep=0,0,33,24", "grid", "keep=0,0,33,24: the box reaches beyond the image, which has 32×24 pixels"),
        ("erase=0,0,32,25", "grid", "erase=0,0,32,25: the box reaches beyond the image, which has 32×24 pixels"),
        ("shift=32,0", "grid", "shift=32,0 moves everything out of the image, which has 32×24 pixels"),
        ("erase=0,0,4,4", "vector", "erase needs positions, but vector is one vector for the whole image"),
        ("noise=1", "vector", "noise and random take the statistics of a layer from its decoder; vector has none here"),
        ("again=1", "vector", "unknown layer of these decoders 'vector'"),
        ("mix=other.png:0..1:3", "grid", "a mix over a range of weights makes several images: give it one weight"),
        ("mix=other.png:0.5", "grid", "mix needs images of one shape: other.png has 36×24 pixels when shrunk to fit,"),
        ("swap=other.png:0,0,4,4", "grid", "swap needs images of one shape: other.png has 36×24 pixels"),
        ("mix=othr.png:0.5", "grid", "no such file or folder: othr.png. Did you mean other.png?"),
    ],
)
def test_mistakes_are_one_line(
    inverter: Inverter,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    layer: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (54, 36), "red").save("other.png")
    with pytest.raises((InverterError, ImageError, UnknownNameError)) as error:
        edits.apply(inverter.encode(images, [layer]), [text], inverter, SIZE)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_edit_can_be_applied(inverter: Inverter, images: Tensor, tmp_path: Path) -> None:
    Image.new("RGB", (32, 24), "red").save(tmp_path / "other.png")
    values = {"P": "0.5", "K": "2", "S": "0.5", "N,N,…": "1,2", "X0,Y0,X1,Y1": "0,0,8,8", "DX,DY": "4,4", "N": "1"}
    values |= {"IMAGE:WEIGHT": f"{tmp_path}/other.png:0.5", "IMAGE:X0,Y0,X1,Y1": f"{tmp_path}/other.png:0,0,8,8"}
    features = inverter.encode(images)
    for name, kind in EDITS.items():
        edited = edits.apply(features, [f"{name}={values[kind.value]}" if kind.value else name], inverter, SIZE)
        assert edited["grid"].shape == features["grid"].shape
        assert not edited["grid"].equal(features["grid"]), name
