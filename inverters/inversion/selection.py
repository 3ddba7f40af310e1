"""Which methods can invert which layers: those that need no decoder, or for which a decoder is published."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from inverters.decoders.published import decoder_folders, encoder_folder, find_checkpoints
from inverters.encoders.names import (
    check_weights,
    find_layers,
    last_of_each_stage,
    named_weights,
    perceptual_layers,
    show_layers,
)
from inverters.errors import CheckpointError
from inverters.inversion.loading import choose_layers
from inverters.inversion.method_names import decoder_objective


def select_methods(
    methods: Sequence[str],
    layers: str | Iterable[str] | None,
    encoder: str,
    weights: str | None,
    checkpoints: Path | str | None,
) -> dict[str, list[str]]:
    """The layers to invert, shallowest first, and at each those of `methods` that have the decoder they need.

    Args:
        methods: names of methods.
        layers: names of layers. `"all"` stands for every layer that one of the methods has a decoder for, None for the
            last of these in each stage. Methods without decoders can invert every layer; None then stands for the
            layers of the encoder's perceptual loss.
        encoder, weights, checkpoints: see `load_inverter`.

    Raises:
        UnknownNameError: a method, layer, encoder or set of weights does not exist.
        CheckpointError: a layer is left without a method.
    """
    objectives = {method: decoder_objective(method) for method in methods}
    needed = sorted({objective for objective in objectives.values() if objective})
    root = find_checkpoints(checkpoints) if needed else None
    if root and len(needed) == len(set(objectives.values())) == 1:
        return {layer: list(methods) for layer in choose_layers(layers, encoder, weights, root, needed[0])}
    available = {objective: decoder_folders(root, encoder, weights, objective) for objective in needed if root}
    decoded = {layer for folders in available.values() for layer in folders}
    if layers is None:
        names = last_of_each_stage(decoded, encoder) if root else list(perceptual_layers(encoder))
    elif layers == "all":
        names = [layer.name for layer in find_layers(decoded if root else show_layers(encoder), encoder)]
    else:
        names = [layer.name for layer in find_layers([layers] if isinstance(layers, str) else layers, encoder)]
    selection = {
        layer: [method for method, objective in objectives.items() if not objective or layer in available[objective]]
        for layer in names
    }
    without = [layer for layer, some in selection.items() if not some]
    if root and (without or not names):
        check_weights(encoder, named_weights(encoder, weights))
        found = ", ".join(f"{objective} ({', '.join(folders) or 'none'})" for objective, folders in available.items())
        raise CheckpointError(
            f"no decoder for {', '.join(without) or encoder} under {root / encoder_folder(encoder, weights)}. "
            f"Available: {found}. Train one with `invert train`, or name other --layers or --checkpoints"
        )
    return selection


def missing_decoders(methods: Sequence[str], selection: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """By method the layers that it cannot invert; methods that can invert all layers are absent."""
    missing = {method: [layer for layer, some in selection.items() if method not in some] for method in methods}
    return {method: layers for method, layers in missing.items() if layers}
