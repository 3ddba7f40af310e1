import os
import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor

from inverters.data.images import (
    IMAGE_SUFFIXES,
    find_images,
    load_image,
    resize_shorter_side,
    round_to_8_bits,
    save_png,
    to_image,
    to_pillow,
)
from inverters.errors import ImageError, OutputError

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photograph(height: int = 24, width: int = 32) -> Image.Image:
    """Smooth colours and some noise, as a photograph has."""
    ramp = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 40, width)[:, None] + np.array([0, 5, 10])
    noise = np.random.default_rng(0).integers(0, 5, (height, width, 3))
    return Image.fromarray((ramp + noise).astype(np.uint8))


def pixel(image: Tensor, row: int, column: int) -> tuple[int, ...]:
    return tuple(image[:, row, column].mul(255).round().int().tolist())


# Loading what people have


@pytest.mark.parametrize("as_type", [str, Path, Path.read_bytes])
def test_a_path_and_encoded_bytes_give_the_same_pixels(tmp_path: Path, as_type: Any) -> None:
    picture = photograph()
    picture.save(tmp_path / "photo.png")
    image = load_image(as_type(tmp_path / "photo.png"))
    assert image.shape == (3, 24, 32)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert np.array_equal(image.mul(255).round().byte().permute(1, 2, 0).numpy(), np.array(picture))


def test_the_tensor_can_be_written_to_and_nothing_warns() -> None:
    with warnings.catch_warnings(action="error"):
        image = load_image(encode(photograph()))
        image += 1
    assert image.min() >= 1


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_one_bit_images_become_rgb(mode: str) -> None:
    picture = Image.new(mode, (2, 1), 0)
    picture.putpixel((1, 0), 255)
    image = load_image(encode(picture))
    assert (pixel(image, 0, 0), pixel(image, 0, 1)) == ((0, 0, 0), WHITE)


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(transparent: bool) -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((1, 0), 1)
    options: dict[str, Any] = {"transparency": 1} if transparent else {}
    image = load_image(encode(picture, **options))
    assert (pixel(image, 0, 0), pixel(image, 0, 1)) == (RED, WHITE if transparent else GREEN)


def test_cmyk() -> None:
    image = load_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert pixel(image, 4, 4) == RED


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 0, 51)), ("LA", (0, 51))])
def test_transparency_is_laid_on_white(mode: str, colour: tuple[int, ...]) -> None:
    assert pixel(load_image(encode(Image.new(mode, (1, 1), colour))), 0, 0) == (204, 204, 204)


@pytest.mark.parametrize(
    ("dtype", "format"), [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("<i4", "TIFF"), ("<u2", "PPM")]
)
def test_16_bits_are_scaled_not_clipped(dtype: str, format: str) -> None:
    values = np.array([[0, 1, 300, 40000, 65535]], dtype)
    image = load_image(encode(Image.fromarray(values), format))
    assert torch.allclose(image, torch.tensor([0, 1, 300, 40000, 65535]).div(65535).expand(3, 1, 5), atol=1e-7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5], [0.0, 0.25, 0.5]),
        ([0.0, 51.0, 255.0], [0.0, 0.2, 1.0]),
        ([-1.0, float("nan"), 1.0], [0.0, 0.0, 1.0]),
    ],
)
def test_floating_point_reaches_up_to_one_or_to_its_maximum(values: list[float], expected: list[float]) -> None:
    image = load_image(encode(Image.fromarray(np.array([values], np.float32)), "TIFF"))
    assert torch.allclose(image, torch.tensor(expected).expand(3, 1, 3))


def test_exif_rotation_is_applied() -> None:
    picture = Image.new("RGB", (3, 2), RED)
    picture.putpixel((0, 0), GREEN)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90° clockwise to view"
    image = load_image(encode(picture, exif=exif))
    assert image.shape == (3, 3, 2)
    assert pixel(image, 0, 1) == GREEN


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    image = load_image(encode(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert pixel(image, 4, 4) == RED


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
    assert opened.size == (32, 24)  # the caller's own stays as it is


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
        (np.full((5, 7, 3), 255.0), "an image must be in [0, 1], but its values range from 255 to 255: divide by 255"),
        (np.full((5, 7), -0.5), "an image must be in [0, 1], but its values range from -0.5 to -0.5"),
        (torch.full((3, 5, 7), torch.nan), "an image must be in [0, 1], but its values range from nan to nan"),
        (torch.full((3, 5, 7), 2.0), "an image must be in [0, 1], but its values range from 2 to 2: divide by 255"),
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
def test_what_is_no_single_image_in_the_unit_range_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_image(source)
    assert str(caught.value) == message


def test_a_damaged_pil_image_is_one_line() -> None:
    with pytest.raises(ImageError, match=r"^cannot read PIL image: damaged or unsupported image: .*truncated.*$"):
        to_image(Image.open(BytesIO(encode(photograph())[:-300])))


# Loading what is no image


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^cannot read .*file\.png: the file is empty$"),
        (b"PNG? No, text.", r"^cannot read .*file\.png: not an image of a known format$"),
        (encode(photograph())[:-300], r"^cannot read .*file\.png: damaged or unsupported image: .*truncated.*$"),
        (encode(photograph(), "JPEG")[:-20], r"^cannot read .*file\.png: damaged or unsupported image: .*truncated.*$"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        load_image(tmp_path / "file.png")


def test_bad_bytes_are_called_image() -> None:
    with pytest.raises(ImageError, match=r"^cannot read image: not an image of a known format$"):
        load_image(b"text")


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^cannot read .*none\.png: No such file or directory$"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match=r"^cannot read .*: Is a directory$"):
        load_image(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(ImageError, match=r"^cannot read .*photo\.png: Permission denied$"):
        load_image(tmp_path / "photo.png")


def test_a_decompression_bomb_is_refused() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"^cannot read image: Image size \(10000000000 pixels\) exceeds limit"):
        load_image(bomb)


def test_a_large_image_is_loaded_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns above this and refuses twice as many
    with warnings.catch_warnings(action="error"):
        assert load_image(encode(photograph(24, 32))).shape == (3, 24, 32)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "QOI"])
def test_damaged_bytes_give_an_image_or_one_line(format: str) -> None:
    generator = random.Random(0)
    data = encode(photograph(), format)
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(5):
            damaged[generator.randrange(min(len(data), 100))] = generator.randrange(256)
        try:
            assert load_image(bytes(damaged)).shape[0] == 3
        except ImageError as error:
            assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("raised", [MemoryError, KeyboardInterrupt])
def test_what_is_not_the_file_s_fault_passes(raised: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: ImageFile.ImageFile) -> None:
        raise raised

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(raised):
        load_image(encode(photograph()))


# Rounding, resizing, saving


def test_rounding_clamps_and_lands_on_multiples_of_1_255() -> None:
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


def test_a_saved_image_comes_back_as_its_8_bit_rounding(tmp_path: Path) -> None:
    image = 1.2 * torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) - 0.1
    save_png(image, tmp_path / "out.png")
    assert torch.equal(load_image(tmp_path / "out.png"), round_to_8_bits(image))
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_every_8_bit_value_survives_the_way_to_pillow_and_back() -> None:
    image = (torch.arange(256) / 255).expand(3, 1, 256)
    assert np.array(to_pillow(image))[0, :, 0].tolist() == list(range(256))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^cannot write .*out\.png: Not a directory$"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "file" / "out.png")


def test_a_failed_save_leaves_the_old_file_and_no_partial_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# Finding files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_searched_through_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "deep/er/c.webp", "notes.txt", ".hidden.png", ".thumbnails/d.png")
    found = [file.relative_to(tmp_path).as_posix() for file in find_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "photo.upload")
    for named in (tmp_path / "photo.upload", tmp_path / "missing.png"):
        assert find_images(named) == [named]


def test_a_folder_without_images_is_named_with_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ImageError) as caught:
        find_images(tmp_path)
    assert str(caught.value) == f"no image in folder {tmp_path}: looked for {', '.join(IMAGE_SUFFIXES)}"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "private/b.png")
    scandir = os.scandir

    def deny(folder: str | Path) -> Any:
        if Path(folder).name == "private":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(ImageError, match=r"^cannot read folder .*private: Permission denied$"):
        find_images(tmp_path)


def test_pillow_decodes_every_suffix_that_is_looked_for() -> None:
    known = Image.registered_extensions()
    assert all(known[suffix] in Image.OPEN for suffix in IMAGE_SUFFIXES)
