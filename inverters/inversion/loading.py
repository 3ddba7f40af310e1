"""`load_inverter`: an encoder and its published decoders."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from inverters.decoders.corrected import CorrectedDecoder
from inverters.decoders.published import decoder_folders, encoder_folder, find_checkpoints, folder_name, load_decoder
from inverters.devices import find_device
from inverters.encoders.names import DEFAULT_ENCODER, check_weights, find_layers, last_of_each_stage, named_weights
from inverters.encoders.registry import create_encoder
from inverters.errors import CheckpointError, InverterError
from inverters.inversion.inverter import Inverter
from inverters.inversion.method_names import decoder_objective


def load_inverter(
    layers: str | Iterable[str] | None = None,
    encoder: str = DEFAULT_ENCODER,
    weights: str | None = None,
    checkpoints: Path | str | None = None,
    device: str = "auto",
    objective: str = "pixel",
    corrections: int | None = None,
) -> Inverter:
    """Load an encoder and its published decoders.

    Args:
        layers: a name from `list_layers(encoder)`, several names, or `"all"` for every layer that has a decoder; None
            takes the last of these of each stage.
        encoder: see `create_encoder`.
        weights: see `create_encoder`; None takes the default of the encoder.
        checkpoints: a folder of published decoders, or `hf://OWNER/NAME[@REVISION]` on the Hugging Face Hub; None takes
            that of `find_checkpoints()`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, see `find_device`.
        objective: `pixel` for decoders trained on the error of the pixels, `perceptual` for those trained on the errors
            of features too, `linear` for those fitted in closed form.
        corrections: how many corrections each decoder applies at most, 0 for the base alone; None applies all.

    Raises:
        UnknownNameError: an encoder, layer, set of weights or objective does not exist.
        CheckpointError: a decoder is missing, damaged, or belongs to another encoder.
        WeightsError: the encoder's weights cannot be found or downloaded.
        InverterError: there is no such device, or `corrections` is negative.
    """
    if corrections is not None and corrections < 0:
        raise InverterError(f"corrections must not be negative: {corrections}")
    root = find_checkpoints(checkpoints)
    names = choose_layers(layers, encoder, weights, root, objective)
    target = find_device(device)
    network = create_encoder(encoder, weights, names)
    folder = root / encoder_folder(encoder, weights)
    decoders = {layer: load_decoder(folder / folder_name(layer, objective), network) for layer in names}
    for decoder in decoders.values():
        if corrections is not None and isinstance(decoder, CorrectedDecoder) and corrections < decoder.active:
            decoder.active, decoder.error_quantiles = corrections, None  # which were measured with all of them
    return Inverter(network, decoders, target)


def load_inverters(
    selection: Mapping[str, Sequence[str]],
    encoder: str,
    weights: str | None,
    checkpoints: Path | str | None,
    device: str,
    corrections: int | None = None,
) -> dict[str, Inverter]:
    """Load an inverter for each objective whose decoders the methods of a selection need.

    Args:
        selection: from `select_methods`.
        encoder, weights, checkpoints, device, corrections: see `load_inverter`.

    Raises:
        InverterError: see `load_inverter`.
    """
    layers: dict[str, list[str]] = {}
    for layer, methods in selection.items():
        for objective in dict.fromkeys(filter(None, map(decoder_objective, methods))):
            layers.setdefault(objective, []).append(layer)
    return {
        objective: load_inverter(names, encoder, weights, checkpoints, device, objective, corrections)
        for objective, names in layers.items()
    }


def choose_layers(
    layers: str | Iterable[str] | None, encoder: str, weights: str | None, root: Path, objective: str
) -> list[str]:
    """The layers that `load_inverter` loads decoders for, in order of execution.

    Args:
        layers, encoder, weights, objective: see `load_inverter`.
        root: a folder of published decoders.

    Raises:
        UnknownNameError, CheckpointError: see `load_inverter`.
    """
    available = decoder_folders(root, encoder, weights, objective)
    if not available:
        check_weights(encoder, named_weights(encoder, weights))
    if layers is None:
        names = last_of_each_stage(available, encoder)
    elif layers == "all":
        names = list(available)
    else:
        names = [layer.name for layer in find_layers([layers] if isinstance(layers, str) else layers, encoder)]
    missing = [layer for layer in names if layer not in available]
    if missing or not names:
        folder = root / encoder_folder(encoder, weights)
        raise CheckpointError(_no_decoder(missing or [encoder], list(available), folder, objective))
    return names


def _no_decoder(missing: Sequence[str], available: Sequence[str], folder: Path, objective: str) -> str:
    kind = "" if objective == "pixel" else f"{objective} "
    relu = [layer.replace("conv", "relu") for layer in missing if layer.startswith("conv")]
    caffe = f"The papers' {missing[0]} is {relu[0]} here. " if relu and relu[0] in available else ""
    return (
        f"no {kind}decoder for {', '.join(missing)} under {folder}. {caffe}Available: "
        f"{', '.join(available) or 'none'}. Train one with `invert train`, or name a folder with --checkpoints"
    )
