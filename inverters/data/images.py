"""The image convention, 3×H×W RGB in [0, 1]: converting to it and from it, resizing, padding, rounding, saving."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from inverters.data.decoding import decode, from_pillow
from inverters.data.paths import require_image_paths
from inverters.errors import ImageError
from inverters.files import atomic_write, read_file

LARGEST_FILE = 1_000_000_000  # bytes of an encoded image
LONGEST_ASPECT = 16  # of a longer image, only the middle is resized to be cropped
TOLERANCE = 1e-3  # of the range [0, 1], since arithmetic such as undoing a normalisation rounds


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
        return from_pillow(source)
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
    values = values / 255 if array.dtype == np.uint8 else require_unit_range(values)
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
    return require_unit_range(image.float()).contiguous()


def require_unit_range(values: Tensor) -> Tensor:
    """Return `values` if they are in [0, 1], but for rounding errors.

    Raises:
        ImageError: they are not.
    """
    low, high = (value.item() for value in values.detach().aminmax())
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return values
    if math.isnan(low):
        raise ImageError("image values must be in [0, 1], but some are not a number")
    hint = "divide them by 255" if low >= 0 and high > 2 else "undo their normalisation, or clamp them"
    raise ImageError(f"image values must be in [0, 1], not from {low:g} to {high:g}: {hint}")


def load_image(source: str | Path | bytes) -> Tensor:
    """Load an image file, or decode its bytes, to a 3×H×W float32 tensor of RGB values in [0, 1].

    The EXIF orientation is applied, transparency is laid on white, and an animation gives its first frame. Grey images
    of more than 8 bits keep their precision: integers are scaled by the range of their format (0 to 65535 where it does
    not declare one), floating-point values from [0, 1], or from [0, maximum] where they exceed 1.

    Raises:
        ImageError: the file cannot be read, or is no image that can be decoded; see `decode` for the largest sizes.
    """
    if isinstance(source, bytes):
        return decode(source, "image")
    return decode(read_encoded(source), str(source))


def read_encoded(path: str | Path) -> bytes:
    """Read the bytes of an image file.

    Raises:
        ImageError: it does not exist, cannot be read, is no regular file, or has more than 1 GB.
    """
    require_image_paths([path])
    try:
        return read_file(path, LARGEST_FILE)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def to_pillow(image: Tensor) -> Image.Image:
    """Convert a 3×H×W tensor in [0, 1] to an 8-bit RGB image."""
    return Image.fromarray(image.float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy(force=True))


def round_to_8_bits(images: Tensor) -> Tensor:
    """Quantise as saving to PNG does: clamp to [0, 1] and round to multiples of 1/255, in float32."""
    return images.float().clamp(0, 1).mul(255).round() / 255


def resize_shorter_side(image: Tensor, size: int) -> Tensor:
    """Shrink a 3×H×W image, antialiased, to a shorter side of `size` pixels; smaller images are returned unchanged."""
    height, width = image.shape[1:]
    shorter = min(height, width)
    if shorter <= size:
        return image
    shape = (round(height * size / shorter), round(width * size / shorter))
    return round_to_8_bits(F.interpolate(image[None], shape, mode="bicubic", antialias=True)[0])


def center_crop(images: Tensor, size: int, fraction: float = 1.0) -> Tensor:
    """Resize N×3×H×W images and cut out the square in their middle, as classifiers are given their images.

    The arithmetic is torchvision's, without its import, which takes as long as that of torch.

    Args:
        images: in [0, 1].
        size: side of the square in pixels.
        fraction: the part of the shorter side that the square covers; small images are enlarged to it.
    """
    height, width = images.shape[2:]
    shorter, longest = math.floor(size / fraction), LONGEST_ASPECT * min(height, width)
    if max(height, width) > longest:
        top, left = (max(0, side - longest) // 2 for side in (height, width))
        return center_crop(images[..., top : top + longest, left : left + longest], size, fraction)
    if min(height, width) != shorter:
        shape = [shorter * side // min(height, width) for side in (height, width)]
        images = round_to_8_bits(F.interpolate(images, shape, mode="bicubic", antialias=True))
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[..., top : top + size, left : left + size]


def encode_png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    encoded = BytesIO()
    picture.save(encoded, "PNG")
    return encoded.getvalue()


def save_png(image: Tensor, path: Path) -> None:
    """Write a 3×H×W image in [0, 1] atomically as an 8-bit PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    atomic_write(path, encode_png(to_pillow(image)))


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad N×3×H×W to multiples of `multiple` by repeating the last row and column."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
