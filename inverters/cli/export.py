"""`invert export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from inverters.cli.options import (
    WHAT,
    WHERE,
    Checkpoints,
    Corrections,
    Encoder,
    Json,
    Objective,
    OneLayer,
    Overwrite,
    Quiet,
    Weights,
    find_decoders,
    one_layer,
)
from inverters.cli.printer import Printer
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.errors import OutputError
from inverters.sharing.onnx_names import require_onnx


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="File to write.")],
    layer: OneLayer,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    part: Annotated[
        Literal["encoder", "decoder", "both"],
        typer.Option(help="Images to features, features to images, or both in a row.", rich_help_panel=WHAT),
    ] = "both",
    objective: Objective = "pixel",
    corrections: Corrections = None,
    checkpoints: Checkpoints = None,
    license: Annotated[
        str, typer.Option(metavar="NAME", help="License of the decoder, noted in the file.", rich_help_panel=WHERE)
    ] = "mit",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an encoder's layer and its decoder as an ONNX file.

    The file needs no PyTorch: docs/onnx.md inverts a photograph with onnxruntime and numpy alone.
    """
    name = one_layer(layer, encoder)
    require_onnx(file)
    if file.exists() and not overwrite:
        raise OutputError(f"{file} exists: replace it with --overwrite, or take another name")
    printer = Printer(json, quiet)
    import torch

    from inverters.encoders.registry import create_encoder
    from inverters.inversion.inverter import Inverter
    from inverters.inversion.loading import load_inverter
    from inverters.sharing.onnx import export as write

    if part == "encoder":
        inverter = Inverter(create_encoder(encoder, weights, [name]), {}, torch.device("cpu"))
    else:
        root = find_decoders(checkpoints, printer)
        inverter = load_inverter(name, encoder, weights, root, "cpu", objective, corrections)
    printer.step(f"exporting {name} of {encoder}")
    difference = write(inverter, name, file, part, license)
    printer.line(f"wrote {file}: {file.stat().st_size / 1e6:.1f} MB, within {difference:.0e} of PyTorch")
    printer.document({"file": str(file), "layer": name, "part": part, "difference": difference})
