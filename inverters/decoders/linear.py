"""`LinearDecoder`: the best linear map from features to pixels, fitted in closed form.

It shows how much of an image is linearly decodable at each depth.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.decoders.base import Decoder, SubPixel, vector_size
from inverters.devices import exact_float32
from inverters.encoders.base import Encoder, require_finite
from inverters.encoders.layers import Layer
from inverters.errors import InverterError

VECTOR_REDUCTION = 8  # the resolution that a vector is decoded to is smaller by this factor
POSITIONS = 4096  # summed at once in float32; more would accumulate rounding errors


class LinearDecoder(Decoder):
    """One convolution from features to the stride×stride pixels of each position.

    A vector is decoded to an image at an eighth of the resolution, which is enlarged: to every pixel of 224×224, there
    would be 150,528 outputs. `fit_linear_decoders` computes the weights in closed form.

    Args:
        layer: the layer whose features it decodes.
        kernel_size: side of the neighbourhood of features from which the pixels of a position are decoded; odd.
            A vector has no neighbours, so for it this is 1.
        size: side of the images in pixels, a multiple of 8, for a vector.

    Raises:
        InverterError: the kernel size is even, or a vector has no such size.
    """

    architecture = "linear"
    arguments: dict[str, Any]
    width: int
    size: int | None
    kernel_size: int
    step: int
    body: SubPixel

    def __init__(self, layer: Layer, kernel_size: int = 3, size: int | None = None) -> None:
        super().__init__(layer)
        if kernel_size % 2 == 0:
            raise InverterError(f"a decoder's kernel_size must be odd, not {kernel_size}")
        self.size = vector_size(layer, size)
        self.kernel_size, self.reduction = (1, VECTOR_REDUCTION) if self.size else (kernel_size, 1)
        self.step = layer.stride or (self.size or 0) // self.reduction
        self.arguments = {"kernel_size": self.kernel_size}
        self.body = SubPixel(layer.channels, 3, self.step, self.kernel_size)
        if self.size:
            if self.size % self.reduction:
                raise InverterError(f"size must be a multiple of {self.reduction}, not {size}")
            self.arguments["size"] = self.size
            self.body.append(nn.Upsample(scale_factor=self.reduction, mode="bilinear"))
        self.width = 3 * self.step**2

    @property
    def halo(self) -> int:
        return self.kernel_size // 2 * self.layer.spatial_stride


@torch.no_grad()
@exact_float32()
def fit_linear_decoders(
    encoder: Encoder,
    layers: Iterable[str],
    batches: Iterable[Tensor],
    kernel_size: int = 3,
    ridge: float = 1e-3,
    size: int | None = None,
) -> dict[str, LinearDecoder]:
    """Fit a decoder for each of `layers` in one pass over `batches`.

    For each layer, minimise the mean over all positions of ‖Wz + b − y‖² + ridge · ‖W‖², where z are the standardised
    features in the kernel_size×kernel_size neighbourhood of a position, zero outside the image, and y its stride×stride
    pixels.

    Args:
        encoder: the network whose features are decoded.
        layers: names of its layers.
        batches: N×3×H×W images in [0, 1], with sides that are multiples of every stride. The result does not depend on
            how the images are batched.
        kernel_size: side of the neighbourhood; odd.
        ridge: weight of the penalty, relative to the variance 1 of the standardised features.
        size: side of the images in pixels, where a layer is a vector.

    Returns:
        The decoders by layer, on the CPU.

    Raises:
        InverterError: the kernel size is even, or features are not finite.
    """
    decoders = {name: LinearDecoder(encoder.layers[name], kernel_size, size) for name in layers}
    equations = {name: _NormalEquations(decoder) for name, decoder in decoders.items()}
    for images in batches:
        images = images.to(encoder.device)
        for name, features in encoder(images, decoders.keys()).items():
            require_finite(features, encoder.name, name)
            equations[name].add(features, images)
    for name, decoder in decoders.items():
        equations.pop(name).solve(decoder, ridge)
    return decoders


class _NormalEquations:
    """The sums of eeᵀ and eyᵀ over all positions, in float64 on the CPU, since MPS has no float64.

    e is the neighbourhood of a position in the raw features and in one more channel, which is 1 inside the image and 0
    outside. Standardisation is a linear map of these C + 1 channels, also at the borders. So it can wait until the
    statistics of all data are known. The means of the first batch are subtracted before: those of vectors can be large
    beside their standard deviations.
    """

    offset: Tensor | None = None

    def __init__(self, decoder: LinearDecoder) -> None:
        self.step, self.kernel_size, self.reduction = decoder.step, decoder.kernel_size, decoder.reduction
        self.channels, self.taps = decoder.layer.channels + 1, decoder.kernel_size**2
        size = self.channels * self.taps
        self.gram = torch.zeros(size, size, dtype=torch.float64)
        self.cross = torch.zeros(size, 3 * self.step**2, dtype=torch.float64)

    def add(self, features: Tensor, images: Tensor) -> None:
        """Add the positions of a batch, N×C×h×w and N×3×(h·stride)×(w·stride), a few images at a time."""
        if self.offset is None:
            self.offset = features.mean(dim=(0, 2, 3), keepdim=True)
        features = torch.cat([features - self.offset, torch.ones_like(features[:, :1])], dim=1)
        pixels = F.avg_pool2d(images, self.reduction) if self.reduction > 1 else images
        pixels = F.pixel_unshuffle(pixels - 0.5, self.step)  # N×(3·step²)×h×w, in the decoder's order
        count = max(1, POSITIONS // features[0, 0].numel())
        for first in range(0, len(images), count):
            some = slice(first, first + count)
            e = F.unfold(features[some], self.kernel_size, padding=self.kernel_size // 2)  # n×((C + 1)·k²)×(h·w)
            e, y = e.transpose(0, 1).flatten(1), pixels[some].transpose(0, 1).flatten(1)
            for start in range(0, e.shape[1], POSITIONS):
                part = slice(start, start + POSITIONS)
                self.gram += (e[:, part] @ e[:, part].T).cpu()
                self.cross += (e[:, part] @ y[:, part].T).cpu()

    def solve(self, decoder: LinearDecoder, ridge: float) -> None:
        """Set the statistics and the weights of `decoder`."""
        channels, taps, centre = self.channels, self.taps, self.taps // 2
        positions = self.gram[-taps + centre, -taps + centre]
        gram = (self.gram / positions).view(channels, taps, channels, taps)
        cross = (self.cross / positions).view(channels, taps, -1)
        mean, squares = gram[:-1, centre, -1, centre], gram[:-1, centre, :-1, centre].diagonal()
        offset = torch.zeros(channels - 1) if self.offset is None else self.offset.flatten().cpu()
        decoder.set_statistics(mean + offset, (squares - mean.square()).clamp_min(0).sqrt())

        standardize = torch.eye(channels, dtype=torch.float64)  # (x − mean · 1) / std; the 1 stays
        standardize[:-1, -1] = -mean
        standardize[:-1] /= decoder.std.view(-1, 1)
        gram = torch.einsum("ac,ctdu,bd->atbu", standardize, gram, standardize).reshape(self.gram.shape)
        cross = torch.einsum("ac,ctp->atp", standardize, cross).reshape(self.cross.shape)

        size = (channels - 1) * taps
        used = [*range(size), size + centre]  # the features, and the 1 whose weight is the bias
        gram, cross = gram[used][:, used], cross[used]
        gram.diagonal()[:-1] += ridge
        solution = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))

        weight, bias = decoder.body.parameters()
        weight.copy_(solution[:-1].T.reshape(weight.shape))
        bias.copy_(solution[-1])
