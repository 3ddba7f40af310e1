"""`invert optimize`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from inverters.cli.options import (
    HOW,
    Checkpoints,
    Device,
    Encoder,
    Json,
    Objective,
    OneLayer,
    OutputDir,
    Overwrite,
    Quiet,
    Seed,
    Size,
    Weights,
    find_decoders,
    one_layer,
    pixels,
)
from inverters.cli.printer import Printer
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.errors import unknown_name
from inverters.inversion.presets import find_preset

INITS = ("noise", "grey", "decoder")


def optimize(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to reconstruct.")],
    layer: OneLayer,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    size: Size = "512",
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="gatys (L-BFGS) or mahendran-vedaldi (momentum and priors).", rich_help_panel=HOW
        ),
    ] = "gatys",
    iterations: Annotated[int, typer.Option(min=1, metavar="N", help="Number of steps.", rich_help_panel=HOW)] = 200,
    init: Annotated[
        str, typer.Option(metavar="NAME", help="Initial image: noise, grey or decoder.", rich_help_panel=HOW)
    ] = "noise",
    seed: Seed = 0,
    objective: Objective = "pixel",
    checkpoints: Checkpoints = None,
    output_dir: OutputDir = Path("optimizations"),
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "auto",
) -> None:
    """Reconstruct an image from one layer by optimisation.

    This takes minutes. Ctrl-C keeps the best image so far.
    """
    layer = one_layer(layer, encoder)
    settings = find_preset(preset)
    if init not in INITS:
        raise unknown_name("initial image", init, INITS)
    from inverters.data.paths import require_image_paths

    require_image_paths([image])
    from inverters.cli.prediction import print_results, run
    from inverters.devices import find_device
    from inverters.encoders.registry import create_encoder
    from inverters.inversion.inverter import Inverter
    from inverters.inversion.loading import load_inverter
    from inverters.inversion.methods import Decode, Optimize
    from inverters.inversion.runner import make_runner
    from inverters.prediction.inputs import ImageFiles
    from inverters.prediction.pipeline import Pipeline, Reader
    from inverters.prediction.writers import FolderWriter

    printer = Printer(json, quiet)
    if init == "decoder":
        root = find_decoders(checkpoints, printer)
        inverter = load_inverter([layer], encoder, weights, root, device, objective)
    else:
        inverter = Inverter(create_encoder(encoder, weights, [layer]), {}, find_device(device))
    start: Any = Decode(inverter) if init == "decoder" else init
    method = Optimize(settings, iterations, start, seed)
    runner = make_runner(inverter, pixels(size), objective=objective, layers=[layer], optimize=method)
    images = ImageFiles([image])
    writer = FolderWriter(images, [runner.provenance], output_dir, overwrite=overwrite)
    pipeline = Pipeline(Reader(images, writer, runner.shorter_side), [runner], keep_interrupted=True)
    results = run(pipeline, printer)
    print_results(results, output_dir, printer)
    if results.interrupted:
        printer.note("interrupted: the best image so far was kept")
        raise typer.Exit(130)
    if results.summary.failed:
        raise typer.Exit(1)
