"""`Inversion`: the reconstructions of one image from several layers by one method."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from inverters.data.images import encode_png, to_pillow
from inverters.encoders.labels import Label
from inverters.encoders.names import find_layers
from inverters.errors import OutputError
from inverters.inversion.provenance import Provenance, reconstruction_name
from inverters.inversion.saved import ANIMATION, STRIP, ImageMetrics, MethodMetrics, find_results, save_results
from inverters.inversion.strip import ORIGINAL, StripRow, depth_strip
from inverters.inversion.verdicts import FeatureError
from inverters.metrics import peak_signal_noise_ratio

FRAME = 200  # milliseconds of an animation


@dataclass(frozen=True, eq=False, repr=False)
class Inversion(Mapping[str, Tensor]):
    """The reconstructions of one image, by layer. A notebook shows it as a strip.

    Attributes:
        image: what was inverted, 3×H×W in [0, 1] on the CPU.
        reconstructions: by layer, each 3×H×W in [0, 1] on the CPU; `inversion["relu4_2"]` is one of them.
        seconds: duration, the encoder included.
        provenance: how they were made.
        source: the path of the image, or another name for it.
        interrupted: Ctrl-C ended an optimisation, and its reconstruction is the best so far.
        notes: what a reader of the result should know.
        labels: what the encoder's classifier sees in each reconstruction, by layer, and under `ORIGINAL` in the image;
            empty if it has none.
        feature_errors: of the reconstructions, by layer; empty for those of edited features.
    """

    image: Tensor
    reconstructions: Mapping[str, Tensor]
    seconds: float
    provenance: Provenance
    source: str | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    labels: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)
    feature_errors: Mapping[str, FeatureError] = field(default_factory=dict)

    def __getitem__(self, layer: str) -> Tensor:
        return self.reconstructions[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.reconstructions)

    def __len__(self) -> int:
        return len(self.reconstructions)

    def __repr__(self) -> str:
        scores = ", ".join(f"{layer} {psnr:.1f} dB" for layer, psnr in self.psnr.items())
        return f"<Inversion of {self.source or 'an image'} by {self.provenance.label}: {scores}>"

    @cached_property
    def psnr(self) -> dict[str, float]:
        """PSNR in dB by layer, of the reconstructions as 8-bit images; infinite where one is exact."""
        return {layer: float(peak_signal_noise_ratio(one[None], self.image[None])) for layer, one in self.items()}

    def strip(self, details: bool = False) -> Image.Image:
        """The image beside its reconstructions; see `depth_strip`."""
        return compare([self], details)

    def save(self, folder: Path | str, details: bool = False, overwrite: bool = False) -> None:
        """Write a PNG for each layer, the strip (`depth.png`), and `metrics.json` into `folder`.

        Args:
            folder: made if it does not exist.
            details: see `strip`.
            overwrite: whether to replace results of another image, or those made in another way.

        Raises:
            OutputError: such results are there, or the folder cannot be written.
        """
        folder = Path(folder)
        _, conflict = find_results(folder, self.source, [self.provenance])
        if conflict and not overwrite:
            raise OutputError(f"{folder} holds other results: {conflict}. Pass overwrite=True or another folder")
        save_inversions([self], folder, details)

    def _repr_png_(self) -> bytes:
        return encode_png(self.strip())


def compare(inversions: Sequence[Inversion], details: bool = False) -> Image.Image:
    """A strip of one image with a row for each of `inversions`, and a column for each of their layers."""
    first = inversions[0]
    header = first.provenance.describe_network()
    edited = [inversion for inversion in inversions if inversion.provenance.edits]
    if edited and (len(edited) > 1 or len(first) == 1):
        return _side_by_side(inversions if len(edited) == 1 else edited, header, details)
    if len(inversions) == 1:
        rows = [StripRow("", first, first.psnr, _classes(first), _errors(first))]
        return depth_strip(first.image, rows, list(first), [*header, first.provenance.describe_method()], details)
    rows = [
        StripRow(
            inversion.provenance.describe_method(), inversion, inversion.psnr, _classes(inversion), _errors(inversion)
        )
        for inversion in inversions
    ]
    names = {layer for inversion in inversions for layer in inversion}
    layers = [layer.name for layer in find_layers(names, first.provenance.encoder)]
    return depth_strip(first.image, rows, layers, header, details)


def _classes(inversion: Inversion) -> dict[str, str]:
    """What the classifier sees, a line for each class: all classes of the original, the likeliest of the others."""
    shown = {name: labels if name == ORIGINAL else labels[:1] for name, labels in inversion.labels.items()}
    return {name: "\n".join(map(str, labels)) for name, labels in shown.items()}


def _errors(inversion: Inversion) -> dict[str, str]:
    """The feature error of each reconstruction, and a line or two that say whether it is usual."""
    return {
        layer: "\n".join(
            filter(None, (f"feature error {error.value:.2g}", error.verdict.replace(" photographs", "\nphotographs")))
        )
        for layer, error in inversion.feature_errors.items()
        if math.isfinite(error.value)
    }


def _side_by_side(inversions: Sequence[Inversion], header: Sequence[str], details: bool) -> Image.Image:
    """A strip with a row for each layer, and a column for each of `inversions`: plain and edited, or several mixes."""
    first, last = inversions[0], inversions[-1]
    columns = {_caption(inversion.provenance): inversion for inversion in inversions}
    seen = {name: classes for name, inversion in columns.items() if (classes := _classes(inversion))}
    original = {ORIGINAL: _classes(first)[ORIGINAL]} if seen else {}
    rows = [
        StripRow(
            layer if len(first) > 1 else "",
            {name: inversion[layer] for name, inversion in columns.items()},
            {name: inversion.psnr[layer] for name, inversion in columns.items()},
            {name: classes[layer] for name, classes in seen.items()} | original,
        )
        for layer in first
    ]
    made = last.provenance.describe_method()
    if first.provenance.edits:
        made = f"{first.provenance.describe_method()} to {', '.join(last.provenance.edits)}"
    return depth_strip(first.image, rows, list(columns), [*header, *first, made], details)


def _caption(provenance: Provenance) -> str:
    return provenance.label.replace("-", " ") if provenance.edits else "plain"


def measure(inversions: Sequence[Inversion]) -> ImageMetrics:
    """The measurements of several inversions of one image, as `metrics.json` records them."""
    first = inversions[0]
    height, width = first.image.shape[-2:]
    methods = tuple(
        MethodMetrics(
            one.provenance,
            one.seconds,
            one.psnr,
            one.interrupted,
            one.notes,
            {layer: labels for layer, labels in one.labels.items() if layer != ORIGINAL},
            one.feature_errors,
        )
        for one in inversions
    )
    return ImageMetrics(first.source, width, height, methods, first.labels.get(ORIGINAL, ()))


def encode_pictures(inversions: Sequence[Inversion]) -> dict[str, bytes]:
    """One `image` and its reconstructions by several methods as PNGs; these are named by `reconstruction_name`."""
    pictures = {
        reconstruction_name(layer, inversion.provenance): image
        for inversion in inversions
        for layer, image in inversion.items()
    }
    return {name: encode_png(to_pillow(image)) for name, image in {"image": inversions[0].image, **pictures}.items()}


def save_inversions(
    inversions: Sequence[Inversion], folder: Path, details: bool = False, sha256: str | None = None
) -> ImageMetrics:
    """Write several inversions of one image into `folder`; see `Inversion.save` and `save_results`.

    Earlier results there are replaced.
    """
    metrics = measure(inversions)
    pictures = {f"{name}.png": data for name, data in encode_pictures(inversions).items()}
    del pictures["image.png"]
    pictures |= {**_animations(inversions), STRIP: encode_png(compare(inversions, details))}
    save_results(folder, metrics, pictures, sha256)
    return metrics


def _animations(inversions: Sequence[Inversion]) -> dict[str, bytes]:
    """By file name, a GIF for each layer that runs through several edited inversions, there and back."""
    edited = [inversion for inversion in inversions if inversion.provenance.edits]
    if len(edited) < 2:
        return {}
    there_and_back = [*edited, *edited[-2:0:-1]]
    return {f"{layer}-{ANIMATION}": _gif([to_pillow(one[layer]) for one in there_and_back]) for layer in edited[0]}


def _gif(frames: Sequence[Image.Image]) -> bytes:
    content = BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=FRAME, loop=0)
    return content.getvalue()
