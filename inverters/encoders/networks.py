"""Networks by name: `timm/MODEL`, `torchvision/MODEL`, `efficientnet-lite0`, and `MODULE:FUNCTION` of the user's own.

`find_source` returns the `Source` of a name.
"""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import timm
import torch
from filelock import FileLock
from torch import nn
from torchvision import models as torchvision_models

from inverters.encoders import lite0
from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.encoders.network_layers import NetworkLayers
from inverters.encoders.network_names import LITE0
from inverters.encoders.network_sources import Source
from inverters.errors import InverterError, UnknownNameError, WeightsError, first_line

IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class TimmSource(Source):
    """A model of timm, with weights by their tags, such as `a1_in1k`."""

    weight_names: list[str]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if self.model not in (valid := timm.list_models()):
            raise _unknown_model(name, "timm", self.model, valid, "timm.list_models()")
        self.weight_names = [name.partition(".")[2] for name in timm.models.get_arch_pretrained_cfgs(self.model)]
        configured = timm.get_pretrained_cfg(self.model)
        if configured and configured.tag in self.weight_names:
            self.weight_names.sort(key=lambda tag: tag != configured.tag)

    def _configured(self, weights: str) -> Any:
        tag = weights if weights in self.weight_names else self.default_weights
        return timm.get_pretrained_cfg(f"{self.model}.{tag}" if tag != "random" else self.model)

    def preprocessing(self, weights: str) -> Preprocessing:
        if (config := self._configured(weights)) is None:
            return IMAGENET
        return Preprocessing(tuple(config.mean), tuple(config.std), config.input_size[-1], config.crop_pct)

    def build(self, weights: str, **options: Any) -> nn.Module:
        return self._create(weights, pretrained=False, **options)

    def download(self, weights: str) -> nn.Module:
        return self._create(weights, pretrained=True)

    def _create(self, weights: str, **options: Any) -> nn.Module:
        tag = weights if weights in self.weight_names else self.default_weights
        name = self.model if tag == "random" else f"{self.model}.{tag}"
        if self._takes_any_size:
            options["dynamic_img_size"] = True
        module: nn.Module = timm.create_model(name, **options)
        return module

    @cached_property
    def _takes_any_size(self) -> bool:
        """Whether the model has an option to take images of any size, as vision transformers do."""
        try:
            with torch.device("meta"):
                timm.create_model(self.model, dynamic_img_size=True)
        except Exception:  # TypeError where there is no such option, or of any kind
            return False
        return True

    def address(self, weights: str) -> str:
        config = self._configured(weights)
        if config.hf_hub_id:
            return f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        return str(config.url)


class TorchvisionSource(Source):
    """A classification model of torchvision, with weights by their names, such as `IMAGENET1K_V1`."""

    weights: Any
    weight_names: list[str]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if self.model not in (valid := torchvision_models.list_models(module=torchvision_models)):
            raise _unknown_model(name, "torchvision", self.model, valid, "torchvision.models.list_models()")
        self.weights = torchvision_models.get_model_weights(self.model)
        self.weight_names = [entry.name for entry in sorted(self.weights, key=lambda one: one != self.weights.DEFAULT)]

    def preprocessing(self, weights: str) -> Preprocessing:
        name = weights if weights in self.weight_names else self.default_weights
        transforms = self.weights[name].transforms()
        size = transforms.crop_size[0]
        return Preprocessing(tuple(transforms.mean), tuple(transforms.std), size, size / transforms.resize_size[0])

    def build(self, weights: str, **options: Any) -> nn.Module:  # noqa: ARG002
        if self.model in ("googlenet", "inception_v3"):
            options["init_weights"] = True
        module: nn.Module = torchvision_models.get_model(self.model, weights=None, **options)
        return module

    def download(self, weights: str) -> nn.Module:
        module, cache_folder = self.build(weights), Path(torch.hub.get_dir())
        cache_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder / f"{self.model}.lock"):  # one of several processes downloads, and the others wait
            show = sys.stderr.isatty()
            state = self.weights[weights].get_state_dict(progress=show, check_hash=True, weights_only=True)
        module.load_state_dict(state)
        return module

    def address(self, weights: str) -> str:
        return str(self.weights[weights].url)


class Lite0Source(TimmSource):
    """EfficientNet-Lite0, whose ImageNet weights come with a package."""

    name: str
    weight_names: list[str]

    def __init__(self, name: str) -> None:
        super().__init__(f"timm/{lite0.TIMM_MODEL}")
        self.name, self.weight_names = name, ["imagenet"]

    def preprocessing(self, weights: str) -> Preprocessing:  # noqa: ARG002
        return lite0.PREPROCESSING

    def _create(self, weights: str, **options: Any) -> nn.Module:  # noqa: ARG002
        module: nn.Module = timm.create_model(self.model, **options | {"pretrained": False})
        return module

    def download(self, weights: str) -> nn.Module:
        module = self.build(weights)
        lite0.load_imagenet_weights(module)
        return module


class OwnSource(Source):
    """A function of the user's that returns a `NetworkEncoder`."""

    function: Any
    encoder: NetworkEncoder
    weight_names: list[str]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        module, _, function = name.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            self.function = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise InverterError(f"--encoder {name}: {first_line(error)}") from None
        self.encoder = self._made()
        self.weight_names = [self.encoder.weights]

    def _made(self) -> NetworkEncoder:
        encoder = self.function()
        if not isinstance(encoder, NetworkEncoder):
            raise InverterError(f"{self.name} must return a NetworkEncoder, not {type(encoder).__name__}")
        encoder.name = self.name
        return encoder

    @cached_property
    def structure(self) -> NetworkLayers:
        return self.encoder.structure

    def check_weights(self, weights: str) -> None:
        if weights != self.encoder.weights:
            raise WeightsError(f"{self.name} has weights of its own: leave --weights out")

    def preprocessing(self, weights: str) -> Preprocessing:  # noqa: ARG002
        return self.encoder.preprocessing

    def create(self, weights: str) -> NetworkEncoder:
        self.check_weights(weights)
        return self._made()


def _unknown_model(name: str, library: str, model: str, valid: Sequence[str], all_of_them: str) -> UnknownNameError:
    close = get_close_matches(model, valid, n=1)
    hint = f"did you mean '{library}/{close[0]}'? " if close else ""
    return UnknownNameError(f"unknown encoder {name!r}: {hint}{all_of_them} lists the models of {library}")


@cache
def find_source(name: str) -> Source:
    """Return where the network of this name comes from; see `network_names.is_network`.

    Raises:
        UnknownNameError: the library has no such model.
        InverterError: a function of the user's cannot be found.
    """
    if name == LITE0:
        return Lite0Source(name)
    library = name.partition("/")[0]
    sources = {"timm": TimmSource, "torchvision": TorchvisionSource}
    return sources[library](name) if library in sources else OwnSource(name)
