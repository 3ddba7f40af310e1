"""`invert predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from inverters.cli.options import (
    Checkpoints,
    Device,
    Encoder,
    Layers,
    Objective,
    Size,
    Weights,
    errors,
    layer_names,
    output,
    pixels,
    progress_bar,
)
from inverters.cli.tables import image_table, mean_table
from inverters.encoders.names import DEFAULT_ENCODER
from inverters.errors import ImageError, InverterError

ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}


def predict(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Images, and folders to search through.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH|HUB-ID", help="Or a data set, as data.validation of a configuration.")
    ] = None,
    layers: Layers = None,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
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
    from inverters.inversion.loading import load_inverter

    inverter = load_inverter(names, encoder, weights, checkpoints, "cpu" if bulk else device, objective)
    files, missing = _find_files(paths or [], output_dir)
    options: dict[str, Any] = {"size": pixels(size), "iterations": refine, "tile": tile, "skip_existing": skip_existing}
    if not bulk:
        failed = _predict(files, inverter, output_dir, options)
    elif data is None and not files:
        failed = 0
    else:
        from inverters.prediction.distributed import ImageFiles, ImageRows, predict_all

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
    from inverters.data.paths import find_images

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
    from inverters.prediction.predict import predict
    from inverters.prediction.writers import Failure

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
