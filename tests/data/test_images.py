from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import encode, photograph, pixel
from PIL import Image

from inverters.data.images import (
    center_crop,
    load_image,
    resize_shorter_side,
    round_to_8_bits,
    save_png,
    to_image,
    to_pillow,
)
from inverters.errors import ImageError, OutputError

# Converting what holds an image


@pytest.mark.parametrize("as_type", [str, Path, Path.read_bytes, Image.open])
def test_paths_bytes_and_pil_images_are_converted_as_loaded(tmp_path: Path, as_type: Any) -> None:
    photograph().save(tmp_path / "photo.png")
    assert torch.equal(to_image(as_type(tmp_path / "photo.png")), load_image(tmp_path / "photo.png"))


def test_a_pil_image_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(BytesIO(encode(photograph(24, 32), "JPEG", exif=exif)))
    assert to_image(opened).shape == (3, 32, 24)
    assert opened.size == (32, 24)  # the caller's image is unchanged


def test_uint8_arrays_are_scaled() -> None:
    pixels = np.array(photograph())
    expected = load_image(encode(photograph()))
    for array in (pixels, np.asfortranarray(pixels), pixels[..., ::-1].copy()[..., ::-1]):
        image = to_image(array)
        assert torch.equal(image, expected)
        assert image.is_contiguous()
    assert torch.equal(to_image(pixels[..., 0]), expected[:1].expand(3, -1, -1))
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    assert torch.equal(to_image(opaque), expected)
    assert pixel(to_image(np.array([[[0, 0, 0, 51]]], np.uint8)), 0, 0) == (204, 204, 204)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_float_arrays_keep_their_values_and_are_copied(dtype: str) -> None:
    array = np.linspace(0, 1, 24).reshape(2, 4, 3).astype(dtype)
    image = to_image(array)
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.tensor(array.astype("f4")).permute(2, 0, 1))
    image += 1
    assert array.max() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_keep_their_values(dtype: torch.dtype) -> None:
    expected = torch.linspace(0, 1, 24).view(3, 2, 4).to(dtype)
    for tensor in (expected, expected[None], expected.clone().requires_grad_()):
        assert torch.equal(to_image(tensor), expected.float())
        assert not to_image(tensor).requires_grad
    assert torch.equal(
        to_image(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1)).flatten(), torch.tensor([0, 0.2, 1])
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 5, 7)), "an image array must be H×W, H×W×3 or H×W×4, not 3×5×7: use array.transpose(1, 2, 0)"),
        (np.zeros((5, 7, 2)), "an image array must be H×W, H×W×3 or H×W×4, not 5×7×2"),
        (np.zeros((0, 7, 3)), "an image array must be H×W, H×W×3 or H×W×4, not 0×7×3"),
        (np.zeros((1, 5, 7, 3)), "an image array must be H×W, H×W×3 or H×W×4, not 1×5×7×3"),
        (np.zeros((5, 7), "int64"), "an image array must be uint8 or floating-point in [0, 1], not int64: convert it"),
        (np.full((5, 7, 3), 255.0), "image values must be in [0, 1], not from 255 to 255: divide them by 255"),
        (
            np.full((5, 7), -0.5),
            "image values must be in [0, 1], not from -0.5 to -0.5: undo their normalisation, or clamp them",
        ),
        (torch.full((3, 5, 7), torch.nan), "image values must be in [0, 1], but some are not a number"),
        (torch.full((3, 5, 7), 3.0), "image values must be in [0, 1], not from 3 to 3: divide them by 255"),
        (torch.zeros(5, 7, 3), "an image tensor must be 3×H×W or 1×3×H×W, not 5×7×3: use tensor.permute(2, 0, 1)"),
        (torch.zeros(2, 3, 5, 7), "an image tensor must be 3×H×W or 1×3×H×W, not 2×3×5×7: pass one image at a time"),
        (torch.zeros(5, 7), "an image tensor must be 3×H×W or 1×3×H×W, not 5×7"),
        (torch.zeros(3, 0, 7), "an image tensor must be 3×H×W or 1×3×H×W, not 3×0×7"),
        (
            torch.zeros(3, 5, 7, dtype=torch.int64),
            "an image tensor must be uint8 or floating-point in [0, 1], not torch.int64: convert it",
        ),
        ([1, 2], "an image must be a path, encoded bytes, a PIL image, an array or a tensor, not list"),
        (None, "an image must be a path, encoded bytes, a PIL image, an array or a tensor, not NoneType"),
    ],
)  # fmt: skip
def test_other_inputs_are_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_image(source)
    assert str(caught.value) == message


def test_a_damaged_pil_image_is_one_line() -> None:
    with pytest.raises(ImageError, match=r"^cannot read PIL image: damaged or unsupported image: .*truncated.*$"):
        to_image(Image.open(BytesIO(encode(photograph())[:-300])))


# Rounding, resizing, saving


def test_rounding_clamps_and_gives_multiples_of_1_255() -> None:
    images = torch.tensor([-0.5, 0.0, 0.3001, 1.0, 1.7], dtype=torch.float64)
    rounded = round_to_8_bits(images)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, torch.tensor([0, 0, 77, 255, 255]) / 255)
    assert torch.equal(round_to_8_bits(rounded), rounded)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((60, 100), 30, (30, 50)),
        ((100, 60), 30, (50, 30)),
        ((33, 50), 10, (10, 15)),
        ((2, 300), 1, (1, 150)),
        ((20, 30), 20, (20, 30)),
        ((20, 30), 64, (20, 30)),
    ],
)
def test_the_shorter_side_shrinks_and_never_grows(shape: tuple[int, int], size: int, expected: tuple[int, int]) -> None:
    image = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    resized = resize_shorter_side(image, size)
    assert resized.shape == (3, *expected)
    if shape == expected:
        assert torch.equal(resized, image)
    else:
        assert torch.equal(resized, round_to_8_bits(resized))


def test_resizing_is_antialiased_as_pillow_s() -> None:
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
    pillow = to_pillow(image).resize((24, 16), Image.Resampling.BICUBIC)
    assert torch.allclose(resize_shorter_side(image, 16), load_image(encode(pillow)), atol=2 / 255)


def test_a_saved_image_is_loaded_as_rounded_to_8_bits(tmp_path: Path) -> None:
    image = 1.2 * torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) - 0.1
    save_png(image, tmp_path / "out.png")
    assert torch.equal(load_image(tmp_path / "out.png"), round_to_8_bits(image))
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_every_8_bit_value_survives_conversion_to_pillow() -> None:
    image = (torch.arange(256) / 255).expand(3, 1, 256)
    assert np.array(to_pillow(image))[0, :, 0].tolist() == list(range(256))


def test_a_file_instead_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^cannot write .*out\.png: Not a directory$"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "file" / "out.png")


def test_a_failed_save_keeps_the_old_file_and_leaves_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:4])
        raise OSError(28, "No space left on device")

    (tmp_path / "out.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OutputError, match=r"^cannot write .*out\.png: No space left on device$"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_the_square_in_the_middle_of_a_long_image_takes_little_memory() -> None:
    image = torch.zeros(1, 3, 2, 60_000)
    image[..., 29_000:31_000] = torch.rand(1, 3, 2, 2000)
    squares = [center_crop(some, 200) for some in (image, image[..., 29_900:30_100])]  # else 6 million columns
    assert squares[0].shape == (1, 3, 200, 200)
    assert torch.allclose(*squares, atol=1 / 255 + 1e-6)
