"""Running a network to see which of its modules run, in which order, and what they return."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from inverters.encoders.outputs import Shape, Size, first_tensor
from inverters.errors import InverterError, first_line

BATCH = 2  # images of a trace: shows whether the first dimension counts them


class Call(NamedTuple):
    """One call of a module in a pass.

    Attributes:
        name: `call_name` of the module's path and the number of the call.
        path: of the module, such as `layer3.5`.
        shape: of its output, or None if that is no tensor.
        kind: what the output is, if it is no tensor.
        started: how many calls of all modules had started when it ended.
        unchanged: whether it returned its input as it was, as dropout does in evaluation.
    """

    name: str
    path: str
    shape: Shape | None
    kind: str
    started: int
    unchanged: bool


@dataclass(frozen=True)
class Trace:
    """A pass through a network.

    Attributes:
        calls: in the order in which they ended, without that of the whole network.
        starts: the paths of the modules in the order in which their calls started; "" is the whole network.
    """

    calls: list[Call]
    starts: list[str]


def call_name(path: str, number: int) -> str:
    """The name of a module's call: its path, and from the second call of a pass on the number: `relu`, `relu#2`."""
    return path if number == 1 else f"{path}#{number}"


def capture(module: nn.Module, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
    """Run `module` until the `wanted` calls have ended, and return copies of their outputs.

    Copies, since a ReLU that follows may work in place.

    Raises:
        InverterError: one of the calls did not happen.
    """
    missing, found, numbers = set(wanted), {}, Counter[str]()

    def keep(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        numbers[path] += 1
        name = call_name(path, numbers[path])
        if name in missing:
            missing.remove(name)
            tensor = first_tensor(output)
            if tensor is None:
                raise InverterError(f"{name} returned no tensor, but {type(output).__name__}")
            found[name] = tensor.clone() if missing else tensor
        if not missing:
            raise _PassEnded

    paths = {name.partition("#")[0] for name in wanted}
    handles = [module.get_submodule(path).register_forward_hook(partial(keep, path)) for path in paths]
    try:
        with _module_stack():
            module(images)
    except _PassEnded:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if missing:
        raise InverterError(f"{', '.join(sorted(missing))} did not run in this pass, but did in an earlier one")
    return found


@contextmanager
def _module_stack() -> Iterator[None]:
    """Let `torch.export` forget the modules that an ended pass was in; its tracer waits for each of them to return."""
    mode = get_proxy_mode() if torch.compiler.is_exporting() else None
    stack = getattr(mode.tracer, "module_stack", None) if mode else None
    before = len(stack or ())
    try:
        yield
    finally:
        while stack and len(stack) > before:
            stack.popitem()


class _PassEnded(Exception):
    """Everything that was wanted has been computed."""


def trace(module: nn.Module, size: Size) -> Trace:
    """Run `module` on `BATCH` images of this size, without computing anything where that is possible.

    Raises:
        InverterError: the module does not take such images.
    """
    images = torch.zeros(BATCH, 3, *size)
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    runs = (partial(torch.func.functional_call, module, shapes, images.to("meta")), partial(module, images.to(device)))
    problems = []
    for run in runs:  # the second because not all that a network computes exists without values
        try:
            return _recorded(module, run)
        except Exception as error:  # of any kind, from code of anybody's
            problems.append(first_line(error))
    raise InverterError(f"the network does not take images of {size[1]}×{size[0]} pixels: {problems[-1]}")


@torch.no_grad()
def _recorded(module: nn.Module, run: Any) -> Trace:
    calls: list[Call] = []
    starts: list[str] = []
    numbers = Counter[str]()

    versions: dict[str, list[int]] = {}

    def start(path: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        starts.append(path)
        versions[path] = [one._version for one in inputs if isinstance(one, Tensor)]

    def end(path: str, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        numbers[path] += 1
        tensor = first_tensor(output)
        shape, kind = (None, _kind(output)) if tensor is None else (tuple(tensor.shape), "")
        untouched = versions[path] == [one._version for one in inputs if isinstance(one, Tensor)]
        returned = isinstance(_module, nn.modules.dropout._DropoutNd) or any(output is one for one in inputs)
        calls.append(Call(call_name(path, numbers[path]), path, shape, kind, len(starts), returned and untouched))

    handles = []
    for path, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(partial(start, path)))
        if path:
            handles.append(child.register_forward_hook(partial(end, path)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return Trace(calls, starts)


def _kind(output: Any) -> str:
    """What an output is that is no tensor, for people."""
    if isinstance(output, list | tuple):
        return f"a {type(output).__name__} of {len(output)} values"
    return f"a value of type {type(output).__name__}"
