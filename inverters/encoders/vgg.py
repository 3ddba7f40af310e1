"""VGG-16 and VGG-19, with or without batch normalisation."""

import hashlib
import textwrap
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.encoders.vgg_layers import DEFAULT_ENCODER, INPUT_MULTIPLE, VGG_NAMES, vgg_layers, vgg_modules
from inverters.encoders.vgg_weight_names import default_weights, weights_label
from inverters.encoders.vgg_weights import Preprocessing, load_weights
from inverters.errors import InverterError, WeightsError, unknown_name


class VGGEncoder(Encoder):
    """The feature extractor of a VGG up to the deepest of `layers`.

    Args:
        layers: names from `vgg_layers(name)`; at least one.
        name: one of `VGG_NAMES`.
        weights: `original` (Simonyan & Zisserman's Caffe weights of VGG-19), one of torchvision's names, `random`,
            `random-SEED`, or the path of a `.safetensors`, `.pth` or `.pt` file with a torchvision-style state dict;
            None takes `default_weights(name)`.

    Raises:
        UnknownNameError: an encoder, layer or set of weights does not exist.
        WeightsError: the weights cannot be found, downloaded or used.
        InverterError: `layers` is empty.
    """

    input_multiple = INPUT_MULTIPLE
    mean: Tensor
    std: Tensor
    weights: str
    layers: dict[str, Layer]
    preprocessing: Preprocessing
    features: nn.Sequential

    def __init__(self, layers: Iterable[str], name: str = DEFAULT_ENCODER, weights: str | None = None) -> None:
        super().__init__()
        if name not in VGG_NAMES:
            raise unknown_name("encoder", name, VGG_NAMES)
        weights = default_weights(name) if weights is None else weights
        self.name = name
        self.weights = weights_label(weights)
        table, wanted = vgg_layers(name), set(layers)
        for unknown in sorted(wanted - table.keys()):
            raise unknown_name(f"layer of {name}", unknown, table)
        if not wanted:
            raise InverterError(f"no layer of {name} was named. Valid: {', '.join(table)}")
        depth = max(index for index, (_, layer) in enumerate(vgg_modules(name), start=1) if layer.name in wanted)
        self._vgg_modules = vgg_modules(name)[:depth]
        self.layers = {layer.name: layer for kind, layer in self._vgg_modules if kind != "norm"}
        state, self.preprocessing = load_weights(name, weights, depth)

        self.features = nn.Sequential()
        channels = 3
        for kind, layer in self._vgg_modules:
            module: nn.Module
            match kind:
                case "conv":
                    module = nn.Conv2d(channels, layer.channels, kernel_size=3, padding=1, device="meta")
                    channels = layer.channels
                case "norm":
                    module = nn.BatchNorm2d(channels, device="meta")
                case "relu":
                    module = nn.ReLU()
                case _:
                    module = nn.MaxPool2d(2)
            self.features.append(module)
        self.features.to_empty(device="cpu")  # on "meta" until now, which skips the initialisation
        self._load(state, weights)

        self.register_buffer("mean", torch.tensor(self.preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def _load(self, state: dict[str, Tensor], weights: str) -> None:
        has_weights = {index for index, (kind, _) in enumerate(vgg_modules(self.name)) if kind in ("conv", "norm")}
        if unexpected := [key for key in state if _index(key) not in has_weights]:
            raise WeightsError(f"weights {weights!r} do not fit {self.name}, which has no {unexpected[0]!r}")
        depth = len(self.features)
        try:
            self.features.load_state_dict({key: value for key, value in state.items() if _index(key) < depth})
        except RuntimeError as error:
            reason = textwrap.shorten(str(error).partition(":")[2], 300, placeholder=" …")
            raise WeightsError(f"weights {weights!r} do not fit {self.name}: {reason}") from None

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        self.require_layers(layers)
        x = images if self.preprocessing.order == "RGB" else images.flip(1)
        x = (x * self.preprocessing.scale - self.mean) / self.std
        found: dict[str, Tensor] = {}
        exact = {name for name in layers if self.layers[name].stride == 1}
        missing = set(layers)
        device, previous = images.device.type, ""
        for module, (kind, layer) in zip(self.features, self._vgg_modules, strict=True):
            if not missing:
                break
            with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and not exact & missing):
                # In place, unless that would overwrite features of the convolution that were asked for.
                x = F.relu(x, inplace=previous not in found) if kind == "relu" else module(x)
            if layer.name in missing:
                found[layer.name] = x
                missing.remove(layer.name)
            previous = layer.name
        return found

    def fingerprint(self, layer: str) -> str:
        self.require_layers([layer])
        (depth,) = (index for index, (_, other) in enumerate(self._vgg_modules) if other.name == layer)
        digest = hashlib.sha256(repr(tuple(self.preprocessing)).encode())
        for key, tensor in self.features.state_dict().items():
            if _index(key) <= depth and tensor.is_floating_point():
                digest.update(f"{key}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return digest.hexdigest()


def _index(key: str) -> int:
    return int(key.split(".")[0])
