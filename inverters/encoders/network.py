"""`NetworkEncoder`: any network as an encoder."""

import hashlib
from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inverters.encoders.base import Encoder
from inverters.encoders.layers import Layer
from inverters.encoders.network_layers import NetworkLayers
from inverters.errors import InverterError


class Preprocessing(NamedTuple):
    """How a network wants its images.

    Attributes:
        mean, std: by which RGB in [0, 1] is normalised, per channel.
        size: the side of the images that it was trained on, in pixels.
        crop: the part of the shorter side that is kept where an image is resized and centre-cropped to `size`.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int = 224
    crop: float = 1.0


class NetworkEncoder(Encoder):
    """A network of any kind, from images N×3×H×W to whatever it computes.

    A layer is a call of one of its modules, and has the dotted path of the module as its name: `layer3.5`. Where a
    module runs several times, its further calls have their number behind it: `layer1.0.relu`, `layer1.0.relu#2`. The
    layers, their channels, strides and receptive fields come from running the network. Layers of stride 1 are computed
    in float32, under autocast too, and so is a whole pass that computes one.

    Features are N×C×⌊H/stride⌋×⌊W/stride⌋, also where the module returns N×h×w×C, tokens N×L×C, of which class and
    register tokens are removed, or a tuple, of which the first element is taken. Vectors are N×C×1×1.

    Args:
        module: the network. It is frozen and set to evaluation mode.
        preprocessing: of its images.
        name: what results and published decoders call it.
        weights: likewise its weights.

    Raises:
        InverterError: the network does not take images of `preprocessing.size`, or cannot have hooks.
    """

    mean: Tensor
    std: Tensor
    name: str
    weights: str
    layers: dict[str, Layer]
    input_multiple: int
    input_size: int | None
    input_crop: float
    preprocessing: Preprocessing
    module: nn.Module
    structure: NetworkLayers

    def __init__(
        self, module: nn.Module, preprocessing: Preprocessing, name: str = "network", weights: str = "own"
    ) -> None:
        super().__init__()
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
            raise InverterError(f"{name} is compiled, which leaves out hooks: pass the module before compilation")
        self.name, self.weights, self.preprocessing = name, weights, preprocessing
        self.module = module.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self.structure = NetworkLayers(self.module, preprocessing.size)
        self.layers = self.structure.layers
        self.input_multiple, self.input_size = self.structure.input_multiple, self.structure.input_size
        self.input_crop = preprocessing.crop

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """See `Encoder.forward`.

        Raises:
            UnknownNameError: a name is not in `self.layers`.
            InverterError: the network takes another size.
        """
        self.require_layers(layers)
        self.require_size(*images.shape[2:])
        exact = any(self.layers[name].stride == 1 for name in layers)
        device = images.device.type
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and not exact):
            return self.structure.features((images - self.mean) / self.std, layers)

    def require_layers(self, names: Iterable[str]) -> None:
        """Raise an error with the nearest name, or with the reason why a module is no layer, unless all are layers."""
        for name in names:
            self.structure.require(name, self.name)

    def fingerprint(self, layer: str) -> str:
        """See `Encoder.fingerprint`: of all modules whose calls have begun when the layer's ends, in this order."""
        self.require_layers([layer])
        digest = hashlib.sha256(repr((self.preprocessing.mean, self.preprocessing.std)).encode())
        state = self.module.state_dict()
        for key in self.structure.dependencies(layer, state):
            tensor = state[key]
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return digest.hexdigest()
