"""`invert optimize`."""

from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.options import (
    Checkpoints,
    Device,
    Encoder,
    Objective,
    OneLayer,
    Seed,
    Size,
    Weights,
    errors,
    layer_names,
    output,
    pixels,
    progress_bar,
)
from inverters.cli.tables import image_table
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.errors import InverterError
from inverters.inversion.presets import find_preset

SHOWN_ITERATIONS = 20  # a line for each so many, where there is no terminal


def optimize(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to search for again.")],
    layer: OneLayer,
    preset: Annotated[str, typer.Option(help="gatys (L-BFGS) or mahendran-vedaldi (momentum and priors).")] = "gatys",
    iterations: Annotated[int, typer.Option(min=1, help="How many steps to take.")] = 200,
    init: Annotated[str, typer.Option(help="Where to start: noise, grey or decoder.")] = "noise",
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("optimizations"),
    size: Size = "512",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Search for an image with the same features at one layer, which takes minutes. Ctrl-C keeps the best so far."""
    if layer == "all" or len(layer_names(layer, encoder) or ()) != 1:
        raise InverterError(f"--layer takes one layer, not {layer!r}")
    settings = find_preset(preset)
    from inverters.devices import find_device
    from inverters.encoders.registry import create_encoder
    from inverters.inversion.inverter import Inverter
    from inverters.inversion.loading import load_inverter
    from inverters.prediction.predict import optimize

    if init == "decoder":
        inverter = load_inverter([layer], encoder, weights, checkpoints, device, objective)
    else:
        inverter = Inverter(create_encoder(encoder, weights, [layer]), {}, find_device(device))
    with progress_bar() as bar:
        task = bar.add_task("searching", total=iterations)

        def show(_: int, done: int, objective: float) -> None:
            bar.update(task, completed=done, description=f"objective {objective:.3e}")
            if not errors.is_terminal and done % SHOWN_ITERATIONS == 0:
                errors.print(f"{done}/{iterations}  objective {objective:.3e}")

        result = optimize(
            image,
            inverter,
            layer,
            output_dir,
            size=pixels(size),
            settings=settings,
            iterations=iterations,
            init=init,
            seed=seed,
            progress=show,
        )
    output.print(image_table([(result.folder.name, result.psnr)]))
    print(f"wrote {result.folder / 'depth.png'}")
    if result.interrupted:
        errors.print("interrupted: the best image so far was kept")
        raise typer.Exit(130)
