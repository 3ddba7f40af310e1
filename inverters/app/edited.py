"""Edits of features: what the second tab of the page shows."""

from collections.abc import Sequence
from typing import TypedDict

from PIL import ImageOps
from torch import Tensor

from inverters.app.panes import data_uri, finite
from inverters.data.images import round_to_8_bits, to_image, to_pillow
from inverters.inversion import edit_functions, edits
from inverters.inversion.edit_names import Edit, parse_edit
from inverters.inversion.inverter import Inverter
from inverters.metrics import peak_signal_noise_ratio


class Picture(TypedDict):
    """A picture as a data URI, with its name and its PSNR in dB; None for the original and where it is infinite."""

    name: str
    uri: str
    psnr: float | None


class Edited(TypedDict):
    """The original, the plain reconstruction and that of the edited features.

    Keys:
        edits: as arguments of `invert edit`.
        options: see `Pane`.
    """

    pictures: list[Picture]
    edits: str
    options: dict[str, str | int]


class Changes(TypedDict):
    """What the controls say. Zero, False and an empty text change nothing.

    Keys:
        drop: probability that a value is set to 0.
        noise: in standard deviations of each channel.
        top: how many values are kept at each position; 0 keeps all.
        right: pixels by which the features are moved.
        again: how many more times the picture is encoded and decoded.
        binarize, random, channels, keep: see `edit_names.EDITS`.
    """

    drop: float
    noise: float
    top: int
    right: int
    again: int
    binarize: bool
    random: bool
    channels: str
    keep: str


def edits_of(changes: Changes) -> list[Edit]:
    """The edits that the controls ask for, in the order in which they are applied.

    Raises:
        InverterError: channels or a box are not written as such.
    """
    found = []
    if changes["random"]:
        found.append(Edit("random"))
    for which, numbers in (("channels", changes["channels"]), ("keep", changes["keep"])):
        if numbers.strip():
            found.append(parse_edit(f"{which}={''.join(numbers.split())}"))
    if changes["right"]:
        found.append(Edit("shift", (changes["right"], 0)))
    for name in ("drop", "top", "noise"):
        if changes[name]:
            found.append(Edit(name, (changes[name],)))
    if changes["binarize"]:
        found.append(Edit("binarize"))
    if changes["again"]:
        found.append(Edit("again", (changes["again"],)))
    return found


def edit(
    image: Tensor, inverter: Inverter, layer: str, some: Sequence[Edit], other: Tensor | None, weight: float
) -> Edited:
    """Decode the features of `image`, 3×H×W, plain and edited.

    Args:
        layer: of the inverter.
        some: the edits.
        other: another image, 3×H×W of any size; its features are mixed in before the edits.
        weight: of its features, from 0 to 1.

    Raises:
        InverterError: an edit does not fit the layer or the size of the image.
    """
    size = (image.shape[1], image.shape[2])
    features = inverter.encode(image[None], [layer])
    plain = inverter.decode(features, size)[layer]
    command = f"--layer {layer}"
    if other is not None and weight:
        fitted = to_image(ImageOps.fit(to_pillow(other), (size[1], size[0])))
        others = inverter.encode(fitted[None], [layer])[layer]
        features = {layer: edit_functions.mix(features[layer], others, weight)}
        command += f" --edit mix=other.jpg:{weight:g}"
    edited = inverter.decode(edits.apply(features, some, inverter, size), size)[layer]
    command += "".join(f" --edit {one}" for one in some)
    pictures: list[Picture] = [
        {"name": "original", "uri": data_uri(to_pillow(image)), "psnr": None},
        _picture(f"{layer}, as it is", plain, image),
        _picture(f"{layer}, changed", edited, image),
    ]
    return {"pictures": pictures, "edits": command, "options": {}}


def _picture(name: str, picture: Tensor, image: Tensor) -> Picture:
    psnr = peak_signal_noise_ratio(round_to_8_bits(picture.cpu()), image[None]).item()
    return {"name": name, "uri": data_uri(to_pillow(picture[0])), "psnr": finite(psnr)}
