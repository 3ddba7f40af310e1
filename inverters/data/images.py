"""The image convention: RGB in [0, 1], 3×H×W. Loading what people have, 8-bit rounding, saving, finding files."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from inverters.errors import ImageError
from inverters.files import atomic_write

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
)


def to_image(source: str | Path | bytes | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Convert whatever holds one image to a 3×H×W float32 tensor of RGB values in [0, 1].

    Args:
        source: the path of a file or its encoded bytes (see `load_image`), a PIL image, an array H×W, H×W×3 or H×W×4
            (RGB with alpha), or a tensor 3×H×W or 1×3×H×W. Arrays and tensors are uint8, or floating-point in [0, 1].

    Raises:
        ImageError: the file cannot be read, or `source` is not of these kinds.
    """
    if isinstance(source, str | Path | bytes):
        return load_image(source)
    if isinstance(source, Image.Image):
        with _decoding("PIL image"):
            return _to_tensor(ImageOps.exif_transpose(source))
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Tensor):
        return _from_tensor(source)
    raise ImageError(
        f"an image must be a path, encoded bytes, a PIL image, an array or a tensor, not {type(source).__name__}"
    )


def _from_array(array: np.ndarray) -> Tensor:
    shape = "×".join(map(str, array.shape))
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[2:] not in ((), (3,), (4,)):
        hint = ": use array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ImageError(f"an image array must be H×W, H×W×3 or H×W×4, not {shape}{hint}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"an image array must be uint8 or floating-point in [0, 1], not {array.dtype}: convert it")
    values = torch.from_numpy(array.astype(np.float32))
    values = values / 255 if array.dtype == np.uint8 else _require_unit_range(values)
    values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    colours, alpha = values[:3], values[3:]
    if len(alpha):
        colours = (1 - alpha) + colours * alpha  # on white
    return colours.expand(3, -1, -1).contiguous()


def _from_tensor(tensor: Tensor) -> Tensor:
    image = tensor.detach()
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        hint = ""
        if image.ndim == 3 and image.shape[2] == 3:
            hint = ": use tensor.permute(2, 0, 1)"
        elif image.ndim == 4 and len(image) > 1:
            hint = ": pass one image at a time"
        raise ImageError(f"an image tensor must be 3×H×W or 1×3×H×W, not {'×'.join(map(str, tensor.shape))}{hint}")
    if image.dtype == torch.uint8:
        return image.float().contiguous() / 255
    if not image.is_floating_point():
        raise ImageError(f"an image tensor must be uint8 or floating-point in [0, 1], not {image.dtype}: convert it")
    return _require_unit_range(image.float()).contiguous()


def _require_unit_range(values: Tensor) -> Tensor:
    low, high = (value.item() for value in values.aminmax())
    if not (low >= 0 and high <= 1):
        hint = ": divide by 255" if low >= 0 and 1 < high <= 255 else ""
        raise ImageError(f"an image must be in [0, 1], but its values range from {low:g} to {high:g}{hint}")
    return values


def load_image(source: str | Path | bytes) -> Tensor:
    """The image in a file, or in its encoded bytes, as a 3×H×W float32 tensor of RGB values in [0, 1].

    Upright by its EXIF orientation, transparency on white, of an animation the first frame. Grey images of more than
    8 bits keep their precision: integers reach up to 65535, floating-point values up to 1, or to their own maximum
    where that is larger.

    Raises:
        ImageError: the file cannot be read, or it is not an image that can be decoded.
    """
    name = "image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror}") from error
    if not data:
        raise ImageError(f"cannot read {name}: the file is empty")
    with _decoding(name), Image.open(BytesIO(data)) as image:
        return _to_tensor(ImageOps.exif_transpose(image))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on damaged data into an ImageError, and silence its warnings."""
    try:
        # Pillow warns of large images and of damaged metadata; the pixels are good all the same.
        with warnings.catch_warnings(action="ignore"):
            yield
    except UnidentifiedImageError as error:
        raise ImageError(f"cannot read {name}: not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"cannot read {name}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise ImageError(f"cannot read {name}: damaged or unsupported image: {error!r}") from error


def _to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image of any mode as a 3×H×W tensor in [0, 1]."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # Pillow's `convert` would clip these to 255
        grey = torch.from_numpy(np.array(image, dtype=np.float32)).nan_to_num(0.0, 0.0, 0.0)
        full_scale = 1.0 if image.mode == "F" else 65535.0
        return (grey / max(full_scale, grey.max().item())).clamp(min=0).expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous().float() / 255


def to_pillow(image: Tensor) -> Image.Image:
    """A 3×H×W tensor in [0, 1] as an 8-bit RGB image."""
    return Image.fromarray(image.float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy(force=True))


def round_to_8_bits(images: Tensor) -> Tensor:
    """Images as they would come back from a PNG: clamped to [0, 1], rounded to multiples of 1/255, float32."""
    return images.float().clamp(0, 1).mul(255).round() / 255


def resize_shorter_side(image: Tensor, size: int) -> Tensor:
    """Shrink a 3×H×W image, antialiased, until its shorter side is `size` pixels; a smaller image stays as it is."""
    height, width = image.shape[1:]
    shorter = min(height, width)
    if shorter <= size:
        return image
    shape = (round(height * size / shorter), round(width * size / shorter))
    return round_to_8_bits(F.interpolate(image[None], shape, mode="bicubic", antialias=True)[0])


def save_png(image: Tensor, path: Path) -> None:
    """Write a 3×H×W image in [0, 1] as an 8-bit PNG: whole, or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    encoded = BytesIO()
    to_pillow(image).save(encoded, format="PNG")
    atomic_write(path, encoded.getvalue())


def find_images(path: Path) -> list[Path]:
    """The images in the folder `path` and below it, sorted; or `path` itself where it is no folder.

    A file is taken whatever its name and even where there is none, so that `load_image` says what is wrong with it.
    In a folder only the names with one of `IMAGE_SUFFIXES` count, and hidden files and folders do not.

    Raises:
        ImageError: the folder cannot be read, or there is no image in it.
    """
    if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where the parent may not be searched)
        return [path]

    def refuse(error: OSError) -> None:
        raise ImageError(f"cannot read folder {error.filename}: {error.strerror}") from error

    images: list[Path] = []
    for parent, subfolders, names in os.walk(path, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        images += [
            Path(parent, name) for name in names if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)
        ]
    if not images:
        raise ImageError(f"no image in folder {path}: looked for {', '.join(IMAGE_SUFFIXES)}")
    return sorted(images)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """`images`, N×3×H×W, with the last row and column repeated until both sides are multiples of `multiple`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
