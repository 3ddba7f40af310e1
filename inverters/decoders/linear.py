"""`LinearDecoder`: the best linear map from features to pixels, fitted in closed form.

It shows how much of an image is linearly decodable at each depth.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from inverters.decoders.base import Decoder, SubPixel
from inverters.devices import exact_float32
from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.errors import InverterError

POSITIONS = 4096  # summed at once in float32; more would accumulate rounding errors


class LinearDecoder(Decoder):
    """One convolution from features to the stride×stride pixels of each position.

    `fit_linear_decoders` computes its weights in closed form.

    Args:
        layer: the layer whose features it decodes.
        kernel_size: side of the neighbourhood of features from which the pixels of a position are decoded; odd.

    Raises:
        InverterError: the kernel size is even.
    """

    architecture = "linear"

    def __init__(self, layer: Layer, kernel_size: int = 3) -> None:
        super().__init__(layer)
        if kernel_size % 2 == 0:
            raise InverterError(f"a decoder's kernel_size must be odd, not {kernel_size}")
        self.kernel_size = kernel_size
        self.width = 3 * layer.spatial_stride**2
        self.arguments = {"kernel_size": kernel_size}
        self.body = SubPixel(layer.channels, 3, layer.spatial_stride, kernel_size)

    @property
    def halo(self) -> int:
        return self.kernel_size // 2 * self.layer.spatial_stride


@torch.no_grad()
@exact_float32()
def fit_linear_decoders(
    encoder: Encoder, layers: Iterable[str], batches: Iterable[Tensor], kernel_size: int = 3, ridge: float = 1e-3
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

    Returns:
        The decoders by layer, on the CPU.

    Raises:
        InverterError: the kernel size is even.
    """
    decoders = {name: LinearDecoder(encoder.layers[name], kernel_size) for name in layers}
    equations = {name: _NormalEquations(decoder) for name, decoder in decoders.items()}
    for images in batches:
        images = images.to(encoder.device)
        for name, features in encoder(images, decoders.keys()).items():
            equations[name].add(features, images)
    for name, decoder in decoders.items():
        equations.pop(name).solve(decoder, ridge)
    return decoders


class _NormalEquations:
    """The sums of eeᵀ and eyᵀ over all positions, in float64 on the CPU, since MPS has no float64.

    e is the neighbourhood of a position in the raw features and in one more channel, which is 1 inside the image and 0
    outside. Standardisation is a linear map of these C + 1 channels, also at the borders. So it can wait until the
    statistics of all data are known.
    """

    def __init__(self, decoder: LinearDecoder) -> None:
        self.stride, self.kernel_size = decoder.layer.spatial_stride, decoder.kernel_size
        self.channels, self.taps = decoder.layer.channels + 1, decoder.kernel_size**2
        size = self.channels * self.taps
        self.gram = torch.zeros(size, size, dtype=torch.float64)
        self.cross = torch.zeros(size, 3 * self.stride**2, dtype=torch.float64)

    def add(self, features: Tensor, images: Tensor) -> None:
        """Add the positions of a batch, N×C×h×w and N×3×(h·stride)×(w·stride), a few images at a time."""
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        pixels = F.pixel_unshuffle(images - 0.5, self.stride)  # N×(3·stride²)×h×w, in the decoder's order
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
        decoder.set_statistics(mean, (squares - mean.square()).clamp_min(0).sqrt())

        standardize = torch.eye(channels, dtype=torch.float64)  # (x − mean · 1) / std; the 1 stays
        standardize[:-1, -1] = -decoder.mean.flatten()
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
