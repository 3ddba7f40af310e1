"""What the page shows of one image and one network, as JSON: the picture and the scores of each depth."""

import base64
import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TypedDict

from PIL import Image
from torch import Tensor

from inverters.app.networks import Network
from inverters.data.images import round_to_8_bits, to_pillow
from inverters.encoders.classes import find_classifier
from inverters.encoders.labels import Label
from inverters.encoders.names import find_layers
from inverters.inversion.inverter import Inverter
from inverters.inversion.verdicts import locate
from inverters.metrics import feature_error, peak_signal_noise_ratio, structural_similarity

DEFAULT_SIZE = 512  # pixels, of `invert predict`


class Depth(TypedDict):
    """The reconstruction from one layer.

    Keys:
        layer: its name.
        stride, receptive_field, halo: as of `Layer`.
        objective: of the decoder.
        picture: a data URI, or None while it is being computed.
        psnr, ssim, feature_error: see `metrics`; None if unknown, or infinite.
        verdict: of `FeatureError`; empty if unknown.
        label: what the network's classifier sees in the picture; None without one.
        agrees: whether that is what it sees in the original.
    """

    layer: str
    stride: int | None
    receptive_field: int | None
    halo: int | None
    objective: str
    picture: str | None
    psnr: float | None
    ssim: float | None
    feature_error: float | None
    verdict: str
    label: str | None
    agrees: bool | None


class Pane(TypedDict):
    """One image in one network.

    Keys:
        network: `Network.label`.
        objective: `closest` or `sharpest`.
        corrections: whether decoders apply theirs.
        options: what differs from the defaults of `invert predict`, and of `inverters.invert`, by name.
        original: the image as a data URI.
        label: what the network's classifier sees in it; None without one, or if unknown.
        depths: shallowest first.
        note: what is going on, for people; empty at the end.
        iterations: of the optimisation that made the pictures; None for decoders.
    """

    network: str
    objective: str
    corrections: bool
    options: dict[str, str | int]
    width: int
    height: int
    original: str
    label: str | None
    depths: list[Depth]
    note: str
    iterations: int | None


def empty_pane(
    image: Tensor, network: Network, objectives: dict[str, str], objective: str, corrections: bool, size: int
) -> Pane:
    """A pane that shows the image, 3×H×W in [0, 1], and waits for its reconstructions.

    Args:
        objectives: by layer, see `Network.objectives`.
        objective, corrections: see `Pane`.
        size: pixels to which the shorter side of the image was shrunk.
    """
    layers = find_layers(objectives, network.encoder)
    options = network.options()
    if size != DEFAULT_SIZE and not network.crop:
        options["size"] = size
    if network.corrected and not corrections:
        options["corrections"] = 0
    return {
        "network": network.label,
        "objective": objective,
        "corrections": corrections,
        "options": options,
        "width": image.shape[2],
        "height": image.shape[1],
        "original": data_uri(to_pillow(image)),
        "label": None,
        "depths": [
            {
                "layer": layer.name,
                "stride": layer.stride,
                "receptive_field": layer.receptive_field,
                "halo": layer.halo,
                "objective": objectives[layer.name],
                "picture": None,
                "psnr": None,
                "ssim": None,
                "feature_error": None,
                "verdict": "",
                "label": None,
                "agrees": None,
            }
            for layer in layers
        ],
        "note": "",
        "iterations": None,
    }


def fill(pane: Pane, image: Tensor, inverter: Inverter) -> Iterator[Pane]:
    """Reconstruct `image`, 3×H×W, from every layer of `pane`, and yield the pane after each of them."""
    size, count = (image.shape[1], image.shape[2]), len(pane["depths"])
    original = seen_in(image[None], inverter)
    pane = {**pane, "label": original and str(original)}
    features = inverter.encode(image[None], [depth["layer"] for depth in pane["depths"]])
    for number, depth in enumerate(pane["depths"]):
        some = features.pop(depth["layer"])
        picture = inverter.decode({depth["layer"]: some}, size)[depth["layer"]]
        depths = [*pane["depths"]]
        quantiles = inverter.decoders[depth["layer"]].error_quantiles
        depths[number] = filled(depth, picture, image, some, inverter, original, quantiles)
        note = f"{number + 1} of {count} depths" if number + 1 < count else ""
        pane = {**pane, "depths": depths, "note": note}
        yield pane


def seen_in(image: Tensor, inverter: Inverter) -> Label | None:
    """The class that the network sees in `image`, 1×3×H×W; None if it has no classifier."""
    classifier = find_classifier(inverter.encoder)
    return classifier.labels(image)[0][0] if classifier else None


def filled(
    depth: Depth,
    picture: Tensor,
    image: Tensor,
    features: Tensor,
    inverter: Inverter,
    original: Label | None,
    quantiles: Sequence[float] | None = None,
) -> Depth:
    """`depth` with the reconstruction `picture`, 1×3×H×W, and its scores against `image`, 3×H×W, and its features.

    Args:
        original: what the network sees in `image`.
        quantiles: of the feature error over photographs, if the picture is that of a decoder.
    """
    eight_bits = round_to_8_bits(picture.cpu())
    again = inverter.encode(eight_bits, [depth["layer"]])[depth["layer"]]
    target = image[None].cpu()
    seen = seen_in(eight_bits, inverter)
    error = feature_error(again, features).item()
    return {
        **depth,
        "picture": data_uri(to_pillow(picture[0])),
        "psnr": finite(peak_signal_noise_ratio(eight_bits, target).item()),
        "ssim": structural_similarity(eight_bits, target).item(),
        "feature_error": finite(error),
        "verdict": locate(error, quantiles).verdict,
        "label": seen and str(seen),
        "agrees": seen.name == original.name if seen and original else None,
    }


def data_uri(picture: Image.Image) -> str:
    """The picture as a lossless WebP in a data URI."""
    content = BytesIO()
    picture.save(content, "WEBP", lossless=True, quality=0, method=0)  # smaller than PNG, and written faster
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def from_data_uri(uri: str) -> bytes:
    """The bytes of the file in a data URI."""
    return base64.b64decode(uri.partition(",")[2])


def finite(value: float) -> float | None:
    """The value, or None if JSON cannot hold it."""
    return value if math.isfinite(value) else None
