import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from image_files import GREEN, RED, WHITE, encode, photograph, pixel
from PIL import EpsImagePlugin, Image, ImageFile

from inverters.data.decoding import MAX_SIDE
from inverters.data.images import load_image, to_image
from inverters.errors import ImageError

# Loading what people have


@pytest.mark.parametrize("as_type", [str, Path, Path.read_bytes])
def test_paths_and_bytes_give_the_same_pixels(tmp_path: Path, as_type: Any) -> None:
    picture = photograph()
    picture.save(tmp_path / "photo.png")
    image = load_image(as_type(tmp_path / "photo.png"))
    assert image.shape == (3, 24, 32)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert np.array_equal(image.mul(255).round().byte().permute(1, 2, 0).numpy(), np.array(picture))


def test_the_tensor_is_writable_and_nothing_warns() -> None:
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
def test_transparent_pixels_become_white(mode: str, colour: tuple[int, ...]) -> None:
    assert pixel(load_image(encode(Image.new(mode, (1, 1), colour))), 0, 0) == (204, 204, 204)


@pytest.mark.parametrize(
    ("dtype", "format"), [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("<u2", "PPM"), ("<u2", "JPEG2000")]
)
def test_16_bits_are_scaled_not_clipped(dtype: str, format: str) -> None:
    values = np.array([[0, 1, 300, 40000, 65535]], dtype)
    options: dict[str, Any] = {"num_resolutions": 1} if format == "JPEG2000" else {}
    image = load_image(encode(Image.fromarray(values), format, **options))
    assert torch.allclose(image, torch.tensor([0, 1, 300, 40000, 65535]).div(65535).expand(3, 1, 5), atol=1e-7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5], [0.0, 0.25, 0.5]),
        ([0.0, 51.0, 255.0], [0.0, 0.2, 1.0]),
        ([-1.0, float("nan"), 1.0], [0.0, 0.0, 1.0]),
    ],
)
def test_floats_are_scaled_from_one_or_from_their_maximum(values: list[float], expected: list[float]) -> None:
    image = load_image(encode(Image.fromarray(np.array([values], np.float32)), "TIFF"))
    assert torch.allclose(image, torch.tensor(expected).expand(3, 1, 3))


# TIFFs of other depths


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("dtype", "photometric"),
    [(dtype, "minisblack") for dtype in ("<u1", ">u1", "<u2", ">u2", "<u4", "<f4", ">f4")]
    + [(dtype, "miniswhite") for dtype in ("<u1", ">u1", "<u2", "<f4", ">f4")],
)
def test_tiffs_are_scaled_by_the_range_of_their_samples(dtype: str, photometric: str, compression: str | None) -> None:
    random = np.random.default_rng(0)
    white = 1.0 if "f" in dtype else float(np.iinfo(dtype).max)
    values = (random.random((6, 8)) * white).astype(dtype)
    values[0, :2] = 0, white
    data = tiff(values, photometric=photometric, compression=compression, byteorder=dtype[0])
    if (dtype, compression) == (">f4", "zlib"):
        with pytest.raises(
            ImageError, match=r"^cannot read image: Pillow confuses the byte order of compressed big-end"
        ):
            load_image(data)
        return
    light = values.astype("f8") / white
    assert np.allclose(load_image(data), 1 - light if photometric == "miniswhite" else light, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "photometric"),
    [("<f8", "minisblack"), (">u4", "minisblack"), ("<u4", "miniswhite"), (">u2", "miniswhite")],
)
def test_tiffs_that_pillow_cannot_read_are_one_line(dtype: str, photometric: str) -> None:
    data = tiff(np.zeros((6, 8), dtype), photometric=photometric, byteorder=dtype[0])
    with pytest.raises(ImageError, match=r"^cannot read image: not an image of a known format$"):
        load_image(data)


@pytest.mark.parametrize("compressed", [False, True])
def test_12_bit_tiffs_are_scaled_by_4095(compressed: bool) -> None:
    values = [0, 1, 2048, 4095]
    packed = int("".join(f"{value:03x}" for value in values), 16).to_bytes(6)
    packed = zlib.compress(packed) if compressed else packed
    tags = [(256, 4), (257, 1), (258, 12), (259, 8 if compressed else 1), (262, 1), (273, 122), (277, 1), (278, 1)]
    tags += [(279, len(packed))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed
    assert np.allclose(load_image(data), np.array(values) / 4095, atol=1e-6)


@pytest.mark.parametrize("dtype", ["<i1", "<i2", ">i2", "<i4", ">i4"])
def test_signed_tiffs_are_refused(dtype: str) -> None:
    data = tiff(np.zeros((6, 8), dtype), photometric="minisblack", byteorder=dtype[0])
    with pytest.raises(ImageError) as caught:
        load_image(data)
    expected = "cannot read image: its samples are signed integers: convert them to unsigned ones of 8 or 16 bits"
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_beyond_16_bits_of_an_unknown_range_are_refused(value: int) -> None:
    image = Image.fromarray(np.array([[7, value]], np.int32))
    with pytest.raises(ImageError, match=r"^cannot read PIL image: its integers range from -?\d+ to \d+: convert them"):
        to_image(image)


# Orientation

# For each EXIF orientation what turns the stored rows and columns upright, by the table of the EXIF standard.
UPRIGHT = {
    1: lambda rows: rows,
    2: lambda rows: rows[:, ::-1],
    3: lambda rows: rows[::-1, ::-1],
    4: lambda rows: rows[::-1],
    5: lambda rows: rows.swapaxes(0, 1),
    6: lambda rows: rows[::-1].swapaxes(0, 1),
    7: lambda rows: rows[::-1, ::-1].swapaxes(0, 1),
    8: lambda rows: rows[:, ::-1].swapaxes(0, 1),
}


def orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def exif_last(png: bytes) -> bytes:
    """Move the eXIf chunk of a PNG after the pixels, which the format allows as well."""
    start = png.index(b"eXIf") - 4
    stop = start + 12 + struct.unpack_from(">I", png, start)[0]
    return png[:start] + png[stop:-12] + png[start:stop] + png[-12:]


def transparent_palette() -> Image.Image:
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).convert("P")
    picture.putpalette(range(18))
    picture.info["transparency"] = 0
    return picture


PICTURES = {
    "RGB": photograph(2, 3),
    "alpha": photograph(2, 3).convert("RGBA"),
    "grey with alpha": photograph(2, 3).convert("LA"),
    "transparent palette": transparent_palette(),
    "16 bits": Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 9999),
}


@pytest.mark.parametrize("arrange", [bytes, exif_last])
@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_pngs_are_turned_upright(picture: Image.Image, value: int, arrange: Any) -> None:
    stored = load_image(encode(picture)).permute(1, 2, 0).numpy()
    image = load_image(arrange(encode(picture, exif=orientation(value))))
    assert np.array_equal(image.permute(1, 2, 0), UPRIGHT[value](stored))


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", UPRIGHT)
def test_other_formats_are_turned_upright(format: str, value: int) -> None:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    stored = load_image(encode(photograph(8, 16), format, **options)).permute(1, 2, 0).numpy()
    image = load_image(encode(photograph(8, 16), format, exif=orientation(value), **options))
    assert np.array_equal(image.permute(1, 2, 0), UPRIGHT[value](stored))


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0MM", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_exif_block_is_ignored(exif: bytes, format: str) -> None:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    expected = load_image(encode(photograph(), format, **options))
    assert torch.equal(load_image(encode(photograph(), format, exif=exif, **options)), expected)


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    image = load_image(encode(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert pixel(image, 4, 4) == RED


# What is no image


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^cannot read .*file\.png: the file is empty$"),
        (b"PNG? No, text.", r"^cannot read .*file\.png: not an image of a known format$"),
        (encode(photograph())[:-300], r"^cannot read .*file\.png: damaged or unsupported image: .*truncated.*$"),
        (encode(photograph(), "JPEG")[:-20], r"^cannot read .*file\.png: damaged or unsupported image: .*truncated.*$"),
    ],
)
def test_unreadable_files_are_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        load_image(tmp_path / "file.png")


def test_no_ghostscript_is_run_for_a_photograph_that_is_postscript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would run it, whatever the suffix of the file."""
    program, ran = tmp_path / "gs", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    path = tmp_path / "photo.png"
    path.write_bytes(encode(photograph(), "EPS"))
    with pytest.raises(ImageError, match=r"^cannot read .*photo\.png: not an image of a known format$"):
        load_image(path)
    assert not ran.exists()
    with pytest.raises(OSError), Image.open(path) as image:
        image.load()
    assert ran.exists()  # it would have run


def test_unreadable_bytes_are_called_image() -> None:
    with pytest.raises(ImageError, match=r"^cannot read image: not an image of a known format$"):
        load_image(b"text")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^no such file or folder: .*none\.png$"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match=r"^cannot read .*: Is a directory$"):
        load_image(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, _limit: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "photo.png").touch()
    monkeypatch.setattr("inverters.data.images.read_file", deny)
    with pytest.raises(ImageError, match=r"^cannot read .*photo\.png: Permission denied$"):
        load_image(tmp_path / "photo.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (100_000, 100_000, r"Image size \(10000000000 pixels\) exceeds limit of 178956970 pixels, .*"),
        (100_000_000, 1, r"it has 100000000×1 pixels, but a side may have 65535 at most"),
        (1, MAX_SIDE + 1, r"it has 1×65536 pixels, but a side may have 65535 at most"),
    ],
)
def test_an_image_that_would_not_fit_into_memory_is_refused_before_it_is_decoded(
    width: int, height: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def decode(_self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=f"^cannot read image: {message}$"):
        load_image(bomb)
    if width * height < 1e9:
        with pytest.raises(ImageError, match=f"^cannot read PIL image: {message}$"):
            to_image(Image.open(BytesIO(bomb)))


def test_an_image_of_the_longest_side_is_loaded() -> None:
    assert load_image(encode(Image.new("L", (MAX_SIDE, 1)))).shape == (3, 1, MAX_SIDE)


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


def test_pixels_that_do_not_fit_into_memory_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ImageError, match=r"^cannot read image: its pixels do not fit into memory$"):
        load_image(encode(photograph()))


def test_an_interruption_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_self: ImageFile.ImageFile) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_image(encode(photograph()))
