"""The commands that invert images: `invert predict` and `invert optimize`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from inverters.errors import ImageError, InverterError
from inverters.options import (
    Checkpoints,
    Device,
    Encoder,
    Layers,
    Objective,
    Size,
    Weights,
    check_tile,
    errors,
    layer_names,
    output,
    pixels,
    progress_bar,
)
from inverters.presets import find_preset
from inverters.tables import image_table, mean_table

SHOWN_ITERATIONS = 20  # a line for each so many, where there is no terminal
ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}


def predict(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Images, and folders to search through.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH|HUB-ID", help="Or a data set, as data.validation of a configuration.")
    ] = None,
    layers: Layers = None,
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("inversions"),
    format: Annotated[
        Literal["png", "parquet"], typer.Option(help="A folder for each image, or parquet files of many.")
    ] = "png",
    size: Size = "512",
    tile: Annotated[
        int | None,
        typer.Option(
            callback=check_tile,
            metavar="PIXELS",
            help="Invert in squares of this side.  [default: 1024 for large images]",
        ),
    ] = None,
    refine: Annotated[int, typer.Option(min=0, metavar="N", help="Go on with N steps of L-BFGS from each result.")] = 0,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Pass over what is there already.")] = False,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many devices share the images, on each node.")] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="How many machines share them.")] = 1,
    split: Annotated[str, typer.Option(help="Split of a hub data set.")] = "validation",
    image_column: Annotated[str, typer.Option(help="Column of a data set that holds the images.")] = "image",
) -> None:
    """Reconstruct images from every layer, and measure what was lost."""
    if not paths and data is None:
        raise typer.BadParameter("name images and folders, or a data set with --data")
    if paths and data is not None:
        raise typer.BadParameter("name images and folders, or a data set with --data, but not both")
    names = layer_names(layers, encoder)
    bulk = data is not None or format == "parquet" or devices * num_nodes > 1
    if bulk and device not in ACCELERATORS:
        raise InverterError(f"--device {device} cannot be shared out. Valid: {', '.join(ACCELERATORS)}")
    from inverters.inverter import load_inverter

    inverter = load_inverter(names, encoder, weights, checkpoints, "cpu" if bulk else device, objective)
    files, missing = _find_files(paths or [], output_dir)
    options: dict[str, Any] = {"size": pixels(size), "iterations": refine, "tile": tile, "skip_existing": skip_existing}
    if not bulk:
        failed = _predict(files, inverter, output_dir, options)
    elif data is None and not files:
        failed = 0
    else:
        from inverters.bulk import ImageFiles, ImageRows, predict_all

        images = ImageFiles(files) if data is None else ImageRows(data, split, image_column)
        shared: dict[str, Any] = {"accelerator": ACCELERATORS[device], "devices": devices, "num_nodes": num_nodes}
        summary = predict_all(images, inverter, output_dir, format=format, **shared, **options)
        if summary is None:  # another process speaks for all
            return
        failed = summary.failed
        if summary.psnr:
            output.print(mean_table(summary.psnr))
        print(f"inverted {summary.inverted} images, {summary.existing} were there, {failed} failed; wrote {output_dir}")
    if failed or missing:
        raise typer.Exit(1)


def _find_files(paths: Sequence[Path], output_dir: Path) -> tuple[list[Path], int]:
    """Each file once, as it was first named, but no earlier results; and how many paths there is nothing at."""
    from inverters.images import find_images

    files: dict[Path, Path] = {}
    missing = 0
    for path in paths:
        try:
            for file in find_images(path):
                if file == path or output_dir.absolute() not in file.absolute().parents:
                    files.setdefault(file.absolute(), file)
        except ImageError as error:
            missing += 1
            errors.print(f"error: {error}", markup=False)
    return list(files.values()), missing


def _predict(files: Sequence[Path], inverter: Any, output_dir: Path, options: dict[str, Any]) -> int:
    """Inverts in this process, shows what becomes of each image, and returns how many failed."""
    from inverters.outputs import Failure
    from inverters.prediction import predict

    done, failed, existing = [], 0, 0
    with progress_bar() as bar:
        task = bar.add_task("inverting", total=len(files))

        def show(file: Path, tiles_done: int, tiles: int) -> None:
            if tiles > 1:
                bar.update(task, description=f"{file.name}: tile {tiles_done} of {tiles}")
                if not errors.is_terminal:
                    errors.print(f"{file.name}: tile {tiles_done} of {tiles}", markup=False)

        for result in predict(files, inverter, output_dir, progress=show, **options):
            bar.advance(task)
            if isinstance(result, Failure):
                failed += 1
                errors.print(f"error: {result.reason}", markup=False)
                continue
            done.append(result)
            existing += result.existing
            if not errors.is_terminal and len(files) > 1 and not result.existing:
                errors.print(f"inverted {result.source}", markup=False)
    if done:
        output.print(image_table([(item.folder.name, item.psnr) for item in done]))
        where = done[0].folder / "depth.png" if len(done) == 1 else output_dir
        print(f"{existing} of {len(done)} were there; wrote {where}" if existing else f"wrote {where}")
    return failed


def optimize(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to search for again.")],
    layer: Annotated[str, typer.Option(metavar="NAME", help="Layer whose features are to match, such as relu4_2.")],
    preset: Annotated[str, typer.Option(help="gatys (L-BFGS) or mahendran-vedaldi (momentum and priors).")] = "gatys",
    iterations: Annotated[int, typer.Option(min=1, help="How many steps to take.")] = 200,
    init: Annotated[str, typer.Option(help="Where to start: noise, grey or decoder.")] = "noise",
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    objective: Objective = "pixel",
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("optimizations"),
    size: Size = "512",
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    device: Device = "auto",
) -> None:
    """Search for an image with the same features at one layer, which takes minutes. Ctrl-C keeps the best so far."""
    if layer == "all" or len(layer_names(layer, encoder) or ()) != 1:
        raise InverterError(f"--layer takes one layer, not {layer!r}")
    settings = find_preset(preset)
    from inverters.devices import find_device
    from inverters.encoder import VGGEncoder
    from inverters.inverter import Inverter, load_inverter
    from inverters.prediction import optimize

    if init == "decoder":
        inverter = load_inverter([layer], encoder, weights, checkpoints, device, objective)
    else:
        inverter = Inverter(VGGEncoder([layer], encoder, weights), {}, find_device(device))
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
