"""Metamers of one photograph at one layer, as pictures and numbers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from inverters.data.images import center_crop, encode_png, pad_to_multiple, save_png
from inverters.errors import OutputError
from inverters.files import atomic_write, make_folder
from inverters.inversion.feature_errors import feature_errors
from inverters.inversion.inverter import Inverter
from inverters.inversion.metamers import Metamers, Progress, find_metamers
from inverters.inversion.methods import Optimize
from inverters.inversion.strip import StripRow, depth_strip
from inverters.metrics import peak_signal_noise_ratio

DOCUMENT, PICTURE = "metamers.json", "metamers.png"
DECODER, OPTIMISED, FIRST, SECOND = "decoder", "optimised", "metamer 1", "metamer 2"


@dataclass(frozen=True)
class PhotographMetamers:
    """Two images with the features of a photograph.

    Attributes:
        image: the photograph, 3×H×W in [0, 1].
        encoder, layer: where the features are from.
        metamers: see `Metamers`; cut to the photograph's size.
        pictures: `DECODER`, `OPTIMISED` (the reference), `FIRST` and `SECOND`, 3×H×W each.
        errors: the feature errors of the pictures as 8-bit images.
    """

    image: Tensor
    encoder: str
    layer: str
    metamers: Metamers
    pictures: dict[str, Tensor]
    errors: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """These values as `metamers.json` has them."""
        pictures = {
            name: {"psnr": round(self._psnr(name), 3), "feature_error": float(f"{self.errors[name]:.4g}")}
            for name in self.pictures
        }
        return {
            "encoder": self.encoder,
            "layer": self.layer,
            "height": self.image.shape[1],
            "width": self.image.shape[2],
            "distance": round(self.metamers.distance, 3),
            "largest_error": float(f"{self.metamers.largest_error:.4g}"),
            "errors": [float(f"{error:.4g}") for error in self.metamers.errors],
            "pictures": pictures,
        }

    def strip(self) -> Image.Image:
        """The photograph beside the pictures."""
        psnr = {name: self._psnr(name) for name in self.pictures}
        errors = {name: f"feature error {error:.2g}" for name, error in self.errors.items()}
        header = [self.encoder, self.layer, f"metamers {self.metamers.distance:.1f} dB apart"]
        return depth_strip(self.image, [StripRow("", self.pictures, psnr, errors=errors)], [*self.pictures], header)

    def save(self, folder: Path, overwrite: bool = False) -> None:
        """Write the two metamers, the strip and `metamers.json`.

        Raises:
            OutputError: the folder has metamers already and `overwrite` is not set, or cannot be written.
        """
        if (folder / DOCUMENT).exists() and not overwrite:
            raise OutputError(f"{folder} holds metamers already. Use --overwrite or another --output-dir")
        make_folder(folder)
        for name in (FIRST, SECOND):
            save_png(self.pictures[name], folder / f"{name.replace(' ', '-')}.png")
        atomic_write(folder / PICTURE, encode_png(self.strip()))
        atomic_write(folder / DOCUMENT, json.dumps(self.as_json(), indent=2) + "\n")

    def _psnr(self, name: str) -> float:
        return float(peak_signal_noise_ratio(self.pictures[name][None], self.image[None]))


def metamers_of_photograph(
    inverter: Inverter,
    layer: str,
    image: Tensor,
    iterations: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> PhotographMetamers:
    """Find metamers of `image`, 3×H×W in [0, 1], from the decoder's reconstruction on; see `find_metamers`.

    Raises:
        InverterError: the image is too large for optimisation.
    """
    encoder = inverter.encoder
    if inverter.input_size:
        (image,) = center_crop(image[None], inverter.input_size, encoder.input_crop)
    height, width = image.shape[1:]
    Optimize.check_size((height, width))
    features = inverter.encode(image[None], [layer], exact=True)[layer]
    decoded = inverter.reconstruct(image[None])[layer]
    init = pad_to_multiple(decoded, encoder.input_multiple)
    found = find_metamers(features, encoder, encoder.layers[layer], init, iterations, seed, progress)
    cut = Metamers(
        found.images[..., :height, :width].cpu(),
        found.errors,
        found.reference[..., :height, :width].cpu(),
        found.largest_error,
    )
    first, second = cut.images
    pictures = {DECODER: decoded[0].cpu(), OPTIMISED: cut.reference, FIRST: first, SECOND: second}
    errors = {
        name: feature_errors(inverter, image[None], {layer: picture[None]})[layer].item()
        for name, picture in pictures.items()
    }
    return PhotographMetamers(image.cpu(), encoder.name, layer, cut, pictures, errors)
