"""The frozen VGG whose features are inverted."""

import hashlib
import textwrap
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from inverters.errors import InverterError, WeightsError
from inverters.layers import find_layers, layer_table, network
from inverters.weights import load_weights, weights_label


class VGGEncoder(nn.Module):
    """A frozen VGG that returns the features of `layers`, all from one pass that ends at the deepest of them.

    Args:
        layers: names from `layer_table(name)`.
        name: one of `ENCODERS`.
        weights: `original` (Simonyan & Zisserman's Caffe VGG-19), a name of torchvision's, `random` or `random-SEED`,
            or the path of a `.safetensors`, `.pth` or `.pt` file with a torchvision-style state dict.

    Raises:
        UnknownNameError: an encoder, layer or set of weights that does not exist.
        WeightsError: the weights cannot be found, fetched or used.
        InverterError: `layers` is empty.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Iterable[str], name: str = "vgg19", weights: str = "original") -> None:
        super().__init__()
        self.name = name
        self.weights = weights_label(weights)
        self.taps = find_layers(layers, name)
        if not self.taps:
            raise InverterError(f"no layer of {name} is asked for. Valid: {', '.join(layer_table(name))}")
        modules = network(name)[: self.taps[-1].index + 1]
        state, self.preprocessing = load_weights(name, weights, depth=len(modules))

        self.features = nn.Sequential()
        channels = 3
        for layer in modules:
            module: nn.Module
            match layer.kind:
                case "conv":
                    module = nn.Conv2d(channels, layer.channels, kernel_size=3, padding=1, device="meta")
                    channels = layer.channels
                case "norm":
                    module = nn.BatchNorm2d(channels, device="meta")
                case "relu":
                    module = nn.ReLU()  # not in place: the conv tap under it must survive
                case _:
                    module = nn.MaxPool2d(2)
            self.features.add_module(str(layer.index), module)
        self.features.to_empty(device="cpu")  # spares initial values, which every weight's own replaces
        with_weights = {layer.index for layer in network(name) if layer.kind in ("conv", "norm")}
        if stray := [key for key in state if _index(key) not in with_weights]:
            raise WeightsError(f"weights {weights!r} do not fit {name}: they are of another network, with {stray[0]!r}")
        try:
            self.features.load_state_dict({key: value for key, value in state.items() if _index(key) < len(modules)})
        except RuntimeError as error:
            reason = textwrap.shorten(str(error).partition(":")[2], 300, placeholder=" …")
            raise WeightsError(f"weights {weights!r} do not fit {name}: {reason}") from None

        self.register_buffer("mean", torch.tensor(self.preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "VGGEncoder":  # noqa: ARG002
        """Stays in evaluation mode, whatever its parent does."""
        return super().train(False)

    def forward(self, images: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """Features of `images` (N×3×H×W, RGB in [0, 1]) by layer, each N×C×⌊H/stride⌋×⌊W/stride⌋.

        Of those that the encoder was made for, all, or only `layers`: then it ends at the deepest of these.
        """
        names = {tap.index: tap.name for tap in self.taps if layers is None or tap.name in layers}
        x = images if self.preprocessing.order == "RGB" else images.flip(1)
        x = (x * self.preprocessing.scale - self.mean) / self.std
        features = {}
        for index, module in enumerate(self.features[: max(names) + 1]):
            x = module(x)
            if index in names:
                features[names[index]] = x
        return features

    def fingerprint(self, layer: str) -> str:
        """SHA-256 over the preprocessing and the weights that `layer`'s features depend on.

        Raises:
            UnknownNameError: there is no such layer.
            InverterError: it lies deeper than this encoder goes.
        """
        (depth,) = (found.index for found in find_layers([layer], self.name))
        if depth >= len(self.features):
            raise InverterError(f"{layer} lies deeper than this encoder goes, which is to {self.taps[-1].name}")
        digest = hashlib.sha256(repr(tuple(self.preprocessing)).encode())
        for key, tensor in self.features.state_dict().items():
            if _index(key) <= depth and tensor.is_floating_point():
                digest.update(f"{key}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return digest.hexdigest()


def _index(key: str) -> int:
    return int(key.split(".")[0])
