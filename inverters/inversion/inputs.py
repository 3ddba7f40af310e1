"""Checks of images and features, with messages that say how to mend them."""

from pathlib import Path

from torch import Tensor

from inverters.data.images import require_unit_range
from inverters.encoders.layers import Layer
from inverters.errors import InverterError


def require_images(images: object) -> None:
    """Raise InverterError unless `images` is a floating-point tensor N×3×H×W in [0, 1]."""
    if not isinstance(images, Tensor):
        raise InverterError(f"images must be a tensor N×3×H×W, not {type(images).__name__}: {_conversion(images)}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise InverterError(f"images must be N×3×H×W, not {_shape(images.shape)}{_reshaping(images)}")
    if not images.is_floating_point():
        raise InverterError(f"images must be floating-point in [0, 1], not {images.dtype}: divide them by 255")
    require_unit_range(images)


def require_features(features: Tensor, layer: Layer, size: tuple[int, int]) -> None:
    """Raise InverterError unless `features` have the shape of `layer` for images of `size` (height, width)."""
    height, width = (1, 1) if layer.stride is None else (side // layer.stride for side in size)
    require_shape(f"features of {layer.name}", features, (len(features), layer.channels, height, width))


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise InverterError unless `tensor` has this shape."""
    if tensor.shape != shape:
        raise InverterError(f"{name} must be {_shape(shape)}, not {_shape(tensor.shape)}")


def require_finite_pixels(images: Tensor, layer: str, method: str) -> None:
    """Raise InverterError unless the reconstructions from `layer` by `method` are finite."""
    if not images.isfinite().all():
        raise InverterError(f"{method} gives pixels at {layer} that are not finite: check the weights of its decoder")


def padded_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Height and width after `pad_to_multiple`."""
    height, width = size
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _conversion(images: object) -> str:
    if isinstance(images, str | Path):
        return "load a file by inverters.load_image(path)[None]"
    if isinstance(images, list | tuple):
        return "combine images of one size by torch.stack, and take those of other sizes one by one"
    return "inverters.invert takes files, PIL images and arrays"


def _reshaping(images: Tensor) -> str:
    if images.ndim == 3 and images.shape[0] == 3:
        return ": add a dimension by images[None]"
    if images.ndim == 3 and images.shape[2] == 3:
        return ": move the channels by images.permute(2, 0, 1)[None]"
    if images.ndim == 4 and images.shape[3] == 3:
        return ": move the channels by images.permute(0, 3, 1, 2)"
    return ""
