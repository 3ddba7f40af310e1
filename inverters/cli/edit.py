"""`invert edit`."""

from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.options import (
    HOW,
    Checkpoints,
    Corrections,
    Device,
    Encoder,
    Json,
    Layers,
    Objective,
    OutputDir,
    Overwrite,
    Quiet,
    Seed,
    Size,
    Weights,
    find_decoders,
    layer_names,
    pixels,
)
from inverters.cli.printer import Printer
from inverters.encoders.names import DEFAULT_ENCODER, find_layers
from inverters.inversion.edit_names import check_layer, forms, parse_edit, sweep


def edit(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image whose features are edited.")],
    *,
    layers: Layers = None,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    size: Size = "512",
    edits: Annotated[
        list[str],
        typer.Option(
            "--edit",
            metavar="NAME=VALUE",
            help=f"Once for each edit, in this order: {', '.join(forms())}.",
            rich_help_panel=HOW,
        ),
    ],
    seed: Seed = 0,
    objective: Objective = "pixel",
    corrections: Corrections = None,
    checkpoints: Checkpoints = None,
    output_dir: OutputDir = Path("edits"),
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "auto",
) -> None:
    """Change the features of an image, and show what decoders make of them.

    Boxes and shifts are in pixels of the image as it is inverted, see --size. mix=other.jpg:0..1:5 makes a row of
    pictures and a GIF. docs/edits.md shows every edit.
    """
    parsed = [parse_edit(text) for text in edits]
    sweep(parsed)  # raises where there are two ranges
    names = layer_names(layers, encoder)
    for layer in find_layers(names, encoder) if names and names != "all" else ():
        for one in parsed:
            check_layer(one, layer)
    from inverters.data.paths import require_image_paths

    require_image_paths([image, *(one.other for one in parsed if one.other)])
    from inverters.cli.prediction import print_results, run
    from inverters.inversion.editing import edit_runners
    from inverters.inversion.loading import load_inverter
    from inverters.inversion.runner import make_runner
    from inverters.prediction.inputs import ImageFiles
    from inverters.prediction.pipeline import Pipeline, Reader
    from inverters.prediction.writers import FolderWriter

    printer = Printer(json, quiet)
    root = find_decoders(checkpoints, printer)
    inverter = load_inverter(names, encoder, weights, root, device, objective, corrections)
    plain = make_runner(inverter, pixels(size), objective=objective, corrections=corrections)
    runners = [plain, *edit_runners(plain, parsed, seed)]
    images = ImageFiles([image])
    writer = FolderWriter(images, [runner.provenance for runner in runners], output_dir, overwrite=overwrite)
    results = run(Pipeline(Reader(images, writer, plain.shorter_side), runners), printer)
    print_results(results, output_dir, printer)
    if results.summary.failed:
        raise typer.Exit(1)
