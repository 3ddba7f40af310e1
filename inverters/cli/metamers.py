"""`invert metamers`."""

from pathlib import Path
from typing import Annotated

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


def metamers(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The photograph.")],
    layer: OneLayer,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    size: Size = "128",
    iterations: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of steps, of two searches.", rich_help_panel=HOW)
    ] = 200,
    seed: Seed = 0,
    objective: Objective = "pixel",
    checkpoints: Checkpoints = None,
    output_dir: OutputDir = Path("metamers"),
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "auto",
) -> None:
    """Find two images with the features of a photograph that differ from each other.

    How far apart they are is what the layer leaves open, whatever decodes it. This takes minutes.
    """
    layer = one_layer(layer, encoder)
    from inverters.data.paths import require_image_paths

    require_image_paths([image])
    from inverters.data.images import load_image, resize_shorter_side
    from inverters.inversion.loading import load_inverter
    from inverters.inversion.photograph_metamers import metamers_of_photograph

    printer = Printer(json, quiet)
    root = find_decoders(checkpoints, printer)
    inverter = load_inverter([layer], encoder, weights, root, device, objective)
    shorter, pixel_values = pixels(size), load_image(image)

    def show(done: int, steps: int, distance: float) -> None:
        printer.step(f"{layer} {done}/{steps}  {distance:.1f} dB apart")

    shown = resize_shorter_side(pixel_values, shorter) if shorter else pixel_values
    found = metamers_of_photograph(inverter, layer, shown, iterations, seed, show)
    folder, made = output_dir / image.stem / layer, found.metamers
    found.save(folder, overwrite)
    printer.line(f"{layer}: two images {made.distance:.1f} dB apart, feature errors {_errors(*made.errors)}")
    printer.line(f"optimisation without regard to the distance: feature error {_errors(made.largest_error)}")
    printer.line(f"wrote {folder / 'metamers.png'}")
    printer.document({**found.as_json(), "folder": str(folder)})


def _errors(*values: float) -> str:
    return " and ".join(f"{value:.3g}" for value in values)
