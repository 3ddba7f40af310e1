"""A seeded generator of files that are no photographs, or made to do harm: formats × mutations."""

import os
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random

from PIL import Image

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "PA")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "PCX", "SGI", "DDS", "JPEG2000", "ICO", "AVIF")
SIDES = (1, 2, 3, 31, 32, 33, 47, 64)
NAMES = (
    *("a\nb", "\x1b[31m", "a\x9b", "...", "..", "-o", "--help", "~", "metrics.csv", "metrics.json", "x" * 245, "a:b"),
    *("\udcff\udcfe", "CON", " ", "é", "%s%n", "{0}", "$(id)", "`id`", "a\tb", "\u202egnp", "depth", "😀"),
)


def encoded(random: Random) -> bytes:
    """An image of a random format, mode and size, with random metadata; formats decide which modes they take."""
    while True:
        mode, form = random.choice(MODES), random.choice(FORMATS)
        size = (random.choice(SIDES), random.choice(SIDES))
        try:
            image = Image.effect_noise(size, 90).convert("RGB").convert(mode)
            exif = Image.Exif()
            exif[0x0112] = random.choice([0, 1, 3, 6, 8, 9, 65535])
            extra: dict[str, object] = {"exif": exif, "icc_profile": random.randbytes(random.choice([0, 3, 200]))}
            if form == "TIFF":
                extra = {"compression": random.choice([None, "tiff_lzw", "tiff_deflate"])}
            file = BytesIO()
            image.save(file, form, **(extra if random.random() < 0.5 else {}))
        except (OSError, ValueError, KeyError, TypeError, SystemError, struct.error):
            continue
        return file.getvalue()


def truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 3, 30])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_header(data: bytes, random: Random) -> bytes:
    return flip(data[:64], random) + data[64:]


def splice(data: bytes, random: Random) -> bytes:
    other = encoded(random)
    cut = random.randrange(1, 40)
    return other[:cut] + data[cut:]


def zero(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    stop = min(len(data), start + random.randrange(1, 200))
    return data[:start] + bytes(stop - start) + data[stop:]


def append(data: bytes, random: Random) -> bytes:
    return data + random.randbytes(random.randrange(5000))


def repeat(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start:] * random.randrange(2, 9)


def claim(data: bytes, random: Random) -> bytes:
    """Another width and height where a format has them."""
    sides = [random.choice([0, 1, 32, 65_535, 65_536, 300_000, 100_000_000, 2**31 - 1, 2**32 - 1]) for _ in range(2)]
    if data.startswith(b"\x89PNG"):
        header = b"IHDR" + struct.pack(">II", *sides) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<II", *sides) + data[26:]
    if data.startswith(b"GIF"):
        return data[:6] + struct.pack("<HH", *(side & 0xFFFF for side in sides)) + data[10:]
    start = next((at for marker in (b"\xff\xc0", b"\xff\xc2") if (at := data.find(marker)) >= 0), None)
    if start is not None:
        return data[: start + 5] + struct.pack(">HH", *(side & 0xFFFF for side in sides)) + data[start + 9 :]
    return flip_header(data, random)


def bomb(_: bytes, random: Random) -> bytes:
    """A small PNG that unfolds to a large one, or breaks off there, or has large metadata."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    width, height = random.choice([(5000, 3000), (60_000, 40), (1, 65_535), (65_535, 1), (30_000, 30_000)])
    header = struct.pack(">IIBBBBB", width, height, 8, random.choice([0, 2]), 0, 0, 0)
    pixels = zlib.compress(bytes(random.choice([1000, 20_000_000, 50_000_000])), 9)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(random.choice([10, 100_000_000])), 9))
    parts = [chunk(b"IHDR", header), text, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def noise(_: bytes, random: Random) -> bytes:
    return random.randbytes(random.choice([0, 1, 10, 10_000]))


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(truncate, flip, flip_header, splice, zero, append, repeat, claim, bomb, noise),
    lambda data, _: data,
)


def _fifo(path: Path, _: Random) -> None:
    os.mkfifo(path)


def _socket(path: Path, _: Random) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        server.bind(path.name)
        os.chdir(before)


def _device(path: Path, random: Random) -> None:
    path.symlink_to(random.choice(["/dev/zero", "/dev/null", "/dev/stdin", "/dev/full", "/proc/self/mem"]))


def _loop(path: Path, random: Random) -> None:
    path.symlink_to(random.choice([path.name, ".", "..", "nothing", "good.png"]))


def _folder(path: Path, _: Random) -> None:
    path.mkdir()
    (path / "inner.png").write_text("no image")


def _closed(path: Path, _: Random) -> None:
    path.write_bytes(b"\x89PNG")
    path.chmod(0)


def _sparse(path: Path, random: Random) -> None:
    path.touch()
    os.truncate(path, random.choice([10_000_000, 10**10, 10**12]))


SPECIAL = (_fifo, _socket, _device, _loop, _folder, _closed, _sparse)


def hostile_image(folder: Path, random: Random) -> str:
    """Write one into `folder`, and say what it is."""
    name = random.choice(NAMES) if random.random() < 0.2 else "hostile"
    path = folder / f"{name}{random.choice(['.png', '.jpg', '.tif', '.gif', '.PNG'])}"
    if random.random() < 0.12:
        special = random.choice(SPECIAL)
        special(path, random)
        return special.__name__.removeprefix("_")
    mutation = random.choice(MUTATIONS)
    path.write_bytes(mutation(encoded(random), random))
    return mutation.__name__ if mutation.__name__ != "<lambda>" else "none"
