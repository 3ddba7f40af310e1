"""`NetworkLayers`: the layers of a network, as running it shows them."""

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from math import lcm
from typing import Any

from torch import Tensor, nn

from inverters.encoders import listing
from inverters.encoders.layers import Layer
from inverters.encoders.outputs import Form, find_form
from inverters.encoders.receptive_fields import Extent, measure_extents
from inverters.encoders.tracing import BATCH, Call, capture, trace
from inverters.errors import InverterError, UnknownNameError

LARGER = (2, 3)  # times the size of the first pass: height and width of the images of the second


class NetworkLayers:
    """The layers of a network, measured by running it on images of two sizes.

    Args:
        module: the network, in evaluation mode. Its weights may be on the device `meta`, which holds no values.
        size: the side of images that it takes.
        materialize: makes a copy with values on the CPU, for receptive fields; None takes `module`.

    Attributes:
        layers: all layers by name, in order of execution.
        aliases: short names of some.
        input_size: `size` if the network takes no other one, else None.
        input_multiple: the least common multiple of all strides.

    Raises:
        InverterError: the network does not take images of this size.
    """

    module: nn.Module
    size: int
    aliases: dict[str, str]
    input_size: int | None
    input_multiple: int

    def __init__(self, module: nn.Module, size: int, materialize: Callable[[], nn.Module] | None = None) -> None:
        self.module, self.size = module, size
        self._materialize = materialize or (lambda: module)
        sizes, self._trace = [(size, size)], trace(module, (size, size))
        traces = [self._trace]
        try:
            larger = (LARGER[0] * size, LARGER[1] * size)
            traces.append(trace(module, larger))
            sizes.append(larger)
        except InverterError:
            pass
        self.input_size = size if len(traces) == 1 else None
        self._calls = {call.name: call for call in self._trace.calls}
        self._problems: dict[str, str] = {}
        self._forms: dict[str, Form] = {}
        shapes = [{call.name: call.shape for call in one.calls} for one in traces]
        for call in self._trace.calls:
            self._add(call, [by_name[call.name] for by_name in shapes if call.name in by_name], sizes)
        self.layers: dict[str, Layer] = {
            name: Layer(name, form.channels, form.stride, None, "") for name, form in self._forms.items()
        }
        listed = self.listed()
        blocks = listing.find_blocks(module, listed)
        self.aliases = listing.aliases(self.layers, listed, blocks)
        for name, stage in listing.stages(self.layers, blocks).items():
            self.layers[name] = MeasuredLayer(self, name, self._forms[name], stage)
        strides = {form.stride for form in self._forms.values() if form.stride}
        self.input_multiple = lcm(*strides)
        self._extents: dict[str, Extent | None] = {}

    def _add(self, call: Call, shapes: list[Any], sizes: list[tuple[int, int]]) -> None:
        if call.shape is None or None in shapes:
            self._problems[call.name] = f"it returns {call.kind}"
            return
        grids = [
            self._forms[name] for name, one in self._calls.items() if name in self._forms and len(one.shape or ()) == 4
        ]
        form = find_form(shapes, sizes[: len(shapes)], BATCH, [grid for grid in grids if grid.stride])
        if isinstance(form, Form):
            self._forms[call.name] = form
        else:
            self._problems[call.name] = form

    def listed(self, depth: int | None = None) -> list[str]:
        """The names of the layers that users are shown, in order of execution.

        Args:
            depth: how many parts their paths have at most; None takes the blocks and what lies between them. What
                returns its input, such as dropout, is left out.
        """
        run = list(dict.fromkeys(call.path for call in self._trace.calls))
        if depth is None:
            paths = listing.default_paths(self.module)
            vectors = [path for path in paths if path in self._forms and self._forms[path].stride is None]
            paths = paths.difference(vectors) | {
                part for path in vectors for part in listing.head_paths(self.module, path)
            }
        else:
            paths = listing.paths_at_depth(run, depth)
        return [name for name in self._forms if self._calls[name].path in paths and not self._calls[name].unchanged]

    def canonical(self, name: str) -> str:
        """The name of the layer that a name or alias stands for."""
        return name if name in self._calls else self.aliases.get(name, name)

    def require(self, name: str, encoder: str) -> None:
        """Raise an error unless there is such a layer.

        Raises:
            UnknownNameError: no module of this name runs.
            InverterError: the output of the module cannot be inverted.
        """
        if name in self._problems:
            raise InverterError(f"{name} of {encoder} cannot be inverted: {self._problems[name]}")
        if name not in self.layers:
            close = get_close_matches(name, [*self.layers, *self.aliases], n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownNameError(
                f"unknown layer of {encoder} {name!r}: {hint}`invert layers --encoder {encoder}` lists them, "
                "with --depth 9 also their parts"
            )

    def features(self, images: Tensor, names: Collection[str], module: nn.Module | None = None) -> dict[str, Tensor]:
        """Run the network on normalised images, and return N×C×h×w by layer, as `Encoder.forward` does."""
        found = capture(module or self.module, images, names)
        size = (images.shape[2], images.shape[3])
        return {name: self._forms[name].features(found[name], size) for name in names}

    def extent(self, name: str) -> Extent | None:
        """The extent of a layer; all that are listed are measured together."""
        if name not in self._extents:
            names = {name, *self.listed()} if self.input_size is None else {name}
            strides = {one: stride for one in names if (stride := self._forms[one].stride)}
            module = self._materialize()
            device = next((parameter.device for parameter in module.parameters()), None)
            self._extents |= dict.fromkeys(names)
            self._extents |= measure_extents(
                lambda images, some: self.features(images.to(device), some, module),
                strides,
                self.input_multiple,
                self.input_size,
            )
        return self._extents[name]

    def dependencies(self, name: str, keys: Iterable[str]) -> list[str]:
        """Which of the `keys` of the network's state the features of a layer depend on at most.

        Those of all modules whose calls have started when that of the layer ends, in the order in which they start. A
        module that is never called belongs to the nearest one around it that is.
        """
        starts: dict[str, int] = {}
        for number, path in enumerate(self._trace.starts):
            starts.setdefault(path, number)
        order: dict[str, int] = {}
        for key in keys:
            owner = key.rpartition(".")[0]
            while owner not in starts:
                owner = owner.rpartition(".")[0]
            if starts[owner] < self._calls[name].started:
                order[key] = starts[owner]
        return sorted(order, key=lambda key: order[key])


class MeasuredLayer(Layer):
    """A layer of a network, whose receptive field is measured when it is first asked for."""

    def __init__(self, owner: NetworkLayers, name: str, form: Form, stage: str) -> None:
        self.__dict__.update(name=name, channels=form.channels, stride=form.stride, stage=stage, owner=owner)

    @property
    def receptive_field(self) -> int | None:
        extent = self.__dict__["owner"].extent(self.name)
        return extent.receptive_field if extent else None

    @property
    def reach(self) -> int | None:
        extent = self.__dict__["owner"].extent(self.name)
        return extent.reach if extent else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "MeasuredLayer":
        return self  # a copy of a decoder does without one of the network
