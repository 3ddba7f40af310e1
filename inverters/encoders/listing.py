"""Which of a network's modules are listed as its layers, and the short names of some of them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from inverters.encoders.layers import Layer

QUARTERS = 4  # stages of a network whose blocks all have one stride


def default_paths(module: nn.Module) -> set[str]:
    """The paths of the blocks of a network, and of what lies between them.

    Opened are lists of modules, what holds a list of blocks, and what has nothing but one module. A list of blocks has
    at least two modules of one class that consists of further ones.
    """
    return set(_walk(module, ""))


def _walk(module: nn.Module, path: str) -> Iterator[str]:
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if _is_list(child) or any(_has_blocks(one) for one in child.children()):
            yield from _walk(child, inner)
        else:
            yield inner


def _is_list(module: nn.Module) -> bool:
    return type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _has_blocks(module: nn.Module) -> bool:
    """Whether this is a list with several modules of one composite class, which is no list itself."""
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    classes = Counter(type(one) for one in module.children() if _is_composite(one))
    return max(classes.values(), default=0) > 1


def _is_composite(module: nn.Module) -> bool:
    return not isinstance(module, nn.Sequential) and any(True for _ in module.children())


def head_paths(module: nn.Module, path: str) -> list[str]:
    """The paths of the parts of a module that returns vectors, if it has weights in further modules; else its own."""
    part = module.get_submodule(path)
    if not any(True for child in part.children() for _ in child.parameters()):
        return [path]
    return [inner for name, _ in part.named_children() for inner in head_paths(module, f"{path}.{name}")]


def paths_at_depth(paths: Sequence[str], depth: int) -> set[str]:
    """Of these paths those with `depth` parts, and those with fewer that no other path continues."""
    parents = {path[: end - 1] for path in paths for end in _ends(path)}
    return {path for path in paths if path.count(".") + 1 == depth or (path.count(".") < depth and path not in parents)}


def _ends(path: str) -> Iterator[int]:
    """The positions after each dot."""
    return (position + 1 for position, letter in enumerate(path) if letter == ".")


def stages(layers: Mapping[str, Layer], blocks: Sequence[str]) -> dict[str, str]:
    """The stage of each layer, in order of execution: its stride, or for vectors their length.

    Where all grids have one stride, as in a vision transformer, they are divided into four parts with equally many
    blocks.
    """
    found = {
        name: f"{layer.channels} values" if layer.stride is None else f"stride {layer.stride}"
        for name, layer in layers.items()
    }
    if len({layer.stride for layer in layers.values()} - {None}) == 1 and len(blocks) >= QUARTERS:
        quarter, ended = 1, 0
        for name, layer in layers.items():
            if layer.stride is not None:
                found[name] = f"stride {layer.stride}, part {quarter}"
            ended += name in blocks
            quarter = min(QUARTERS, 1 + ended * QUARTERS // len(blocks))
    return found


def aliases(layers: Mapping[str, Layer], listed: Sequence[str], blocks: Sequence[str]) -> dict[str, str]:
    """Short names: `logits` (the last vector), `pooled` (the first of the deepest grid), `block.0`, `block.1`, …

    Listed layers are preferred to others.
    """
    short = {f"block.{number}": name for number, name in enumerate(blocks)}
    names = list(layers)
    grids = [number for number, name in enumerate(names) if layers[name].stride is not None]
    deepest = grids[-1] if grids else -1
    vectors = sorted(names[deepest + 1 :], key=lambda name: name not in listed)
    if vectors:
        short["logits"] = [name for name in vectors if (name in listed) == (vectors[0] in listed)][-1]
    pooled = [name for name in vectors if grids and layers[name].channels == layers[names[deepest]].channels]
    if pooled:
        short["pooled"] = pooled[0]
    return {alias: name for alias, name in short.items() if alias not in layers}


def find_blocks(module: nn.Module, listed: Sequence[str]) -> list[str]:
    """Of the listed layers those that are blocks: composite modules in a list."""
    blocks = []
    for name in listed:
        parent = module.get_submodule(name.rpartition(".")[0])
        if (
            name.rpartition(".")[0]
            and "#" not in name
            and _is_list(parent)
            and _is_composite(module.get_submodule(name))
        ):
            blocks.append(name)
    return blocks
