"""`Source`: where the networks of one name come from, with which weights."""

import textwrap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inverters.encoders.network import NetworkEncoder, Preprocessing
from inverters.encoders.network_layers import NetworkLayers
from inverters.encoders.vgg_weight_names import RANDOM, WEIGHT_FILES, weights_label
from inverters.encoders.weight_files import read_state, reason
from inverters.errors import WeightsError, first_line, unknown_name
from inverters.files import no_such_path

LONGEST_REASON = 300  # characters of a library's message


class Source:
    """Where networks of one name come from.

    Attributes:
        name: of the encoder, such as `timm/resnet50`.
        model: what the library calls it.
        weight_names: the named sets of weights, the default first.
    """

    name: str
    model: str
    weight_names: Sequence[str]

    def __init__(self, name: str) -> None:
        self.name, self.model = name, name.rpartition("/")[2]
        self.weight_names = []

    def preprocessing(self, weights: str) -> Preprocessing:
        """The preprocessing of a set of weights; for others than the named ones, that of the default."""
        raise NotImplementedError

    def build(self, weights: str, **options: Any) -> nn.Module:
        """Build the network with random weights, with the options that fit a set of weights."""
        raise NotImplementedError

    def download(self, weights: str) -> nn.Module:
        """Build the network with a named set of weights; raise any error where it cannot be downloaded."""
        raise NotImplementedError

    def address(self, weights: str) -> str:
        """Where a named set of weights is found, for people."""
        raise NotImplementedError

    @property
    def default_weights(self) -> str:
        return next(iter(self.weight_names), "random")

    def check_weights(self, weights: str) -> None:
        """Raise UnknownNameError or WeightsError unless `weights` names a set of weights or an existing file."""
        if weights.endswith(WEIGHT_FILES):
            if not Path(weights).exists():
                raise WeightsError(no_such_path(weights))
        elif not RANDOM.fullmatch(weights) and weights not in self.weight_names:
            valid = [*self.weight_names, "random", "random-SEED", f"FILE{'|'.join(WEIGHT_FILES)}"]
            raise unknown_name(f"weights of {self.name}", weights, valid)

    @cached_property
    def structure(self) -> NetworkLayers:
        """The layers, from the network without values."""

        def build() -> nn.Module:
            return self.build(self.default_weights).eval()

        size = self.preprocessing(self.default_weights).size
        try:
            with torch.device("meta"):
                return NetworkLayers(build(), size, materialize=build)
        except Exception:  # of any kind: not every network can be built, or run, without values
            return NetworkLayers(build(), size)

    def create(self, weights: str) -> NetworkEncoder:
        """Create the encoder.

        Raises:
            UnknownNameError: there is no such set of weights.
            WeightsError: they cannot be found, downloaded or used.
        """
        self.check_weights(weights)
        if weights.endswith(WEIGHT_FILES):
            module = self._from_file(Path(weights))
        elif seeded := RANDOM.fullmatch(weights):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(seeded[1] or 0))
                module = self.build(weights)
        else:
            module = self._downloaded(weights)
        return NetworkEncoder(module, self.preprocessing(weights), self.name, weights_label(weights))

    def _downloaded(self, weights: str) -> nn.Module:
        try:
            return self.download(weights)
        except WeightsError:  # of weights that come with a package
            raise
        except Exception as error:  # from urllib, ssl, huggingface_hub, …
            raise WeightsError(
                f"weights {weights!r} of {self.name} cannot be downloaded: {reason(error)}. Download "
                f"{self.address(weights)} elsewhere and name it by --weights FILE, or use --weights random"
            ) from None

    def _from_file(self, path: Path) -> nn.Module:
        """Build the network with the weights of a file, which may have another number of classes."""
        state, _ = read_state(path)
        for wrapper in ("state_dict", "model"):
            state = state.get(wrapper, state) if isinstance(state.get(wrapper), dict) else state  # type: ignore[assignment]
        state = {key.removeprefix("module."): value for key, value in state.items()}
        own = self.structure.module.state_dict()
        last = [key for key, value in own.items() if value.ndim > 1][-1]
        classes = state[last].shape[0] if last in state else own[last].shape[0]
        options = {} if classes == own[last].shape[0] else {"num_classes": classes}
        module = self.build(str(path), **options)
        try:
            module.load_state_dict(state)
        except Exception as error:
            mistakes = str(error).partition(":")[2] or first_line(error)
            raise WeightsError(
                f"{path} does not fit {self.name}: {textwrap.shorten(mistakes, LONGEST_REASON)}"
            ) from None
        return module
