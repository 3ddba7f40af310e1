"""`invert predict`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inverters.cli.image_arguments import find_files
from inverters.cli.options import (
    DEVICES,
    HOW,
    WHAT,
    WHERE,
    Checkpoints,
    Corrections,
    Device,
    Encoder,
    ImageColumn,
    Json,
    Layers,
    Objective,
    OutputDir,
    Overwrite,
    Quiet,
    Size,
    Split,
    Weights,
    find_decoders,
    layer_names,
    pixels,
)
from inverters.cli.printer import Printer, errors
from inverters.decoders.names import OBJECTIVES
from inverters.encoders.names import DEFAULT_ENCODER, input_multiple
from inverters.errors import InverterError, unknown_name
from inverters.inversion.method_names import DECODER_METHODS, REFINED, decoder_objective

if TYPE_CHECKING:
    from inverters.inversion.provenance import Provenance
    from inverters.prediction.inputs import Images
    from inverters.prediction.writers import Writer

ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}
DEFAULT_ITERATIONS = 200


def predict(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Images, and folders that are searched for images."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|HUB-ID",
            help="A data set instead: parquet or webdataset files, or one from the Hugging Face Hub.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    split: Split = "validation",
    image_column: ImageColumn = "image",
    layers: Layers = None,
    encoder: Encoder = DEFAULT_ENCODER,
    weights: Weights = None,
    size: Size = "512",
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Methods side by side, such as decoder,perceptual,lbfgs,decoder+lbfgs.",
            show_default="the decoders of --objective",
            rich_help_panel=HOW,
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Steps of the methods that optimise.",
            show_default=str(DEFAULT_ITERATIONS),
            rich_help_panel=HOW,
        ),
    ] = None,
    objective: Objective = "pixel",
    refine: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Continue from each decoder's reconstruction with N steps of L-BFGS.",
            rich_help_panel=HOW,
        ),
    ] = 0,
    corrections: Corrections = None,
    checkpoints: Checkpoints = None,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Side of the tiles that bound the memory.",
            show_default="1024 for images of more than 2 megapixels",
            rich_help_panel=HOW,
        ),
    ] = None,
    output_dir: OutputDir = Path("inversions"),
    format: Annotated[
        Literal["png", "parquet"],
        typer.Option(help="A folder of PNGs for each image, or parquet files of many images.", rich_help_panel=WHERE),
    ] = "png",
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Add enlarged crops and differences to the strip depth.png.", rich_help_panel=WHERE
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Skip images that have the same results already.", rich_help_panel=WHERE),
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Devices to use on each node.", rich_help_panel=DEVICES)
    ] = 1,
    num_nodes: Annotated[
        int, typer.Option(min=1, max=65_536, metavar="N", help="Nodes to use.", rich_help_panel=DEVICES)
    ] = 1,
) -> None:
    """Reconstruct images from the features of every layer, and measure what was lost."""
    if not paths and data is None:
        raise typer.BadParameter("name images and folders, or a data set with --data")
    if paths and data is not None:
        raise typer.BadParameter("name images and folders, or a data set with --data, but not both")
    if details and format == "parquet":
        raise typer.BadParameter("--details needs --format png: parquet files have no strips")
    names, steps = _methods(methods, iterations, objective, refine)
    chosen = layer_names(layers, encoder)
    if tile is not None and (tile < 1 or tile % input_multiple(encoder)):
        raise typer.BadParameter(f"--tile: {tile} is not a multiple of {input_multiple(encoder)}")
    distributed = devices * num_nodes > 1
    if distributed and device not in ACCELERATORS:
        raise InverterError(f"--device {device} is one device: with --devices use one of {', '.join(ACCELERATORS)}")

    printer = Printer(json, quiet)
    files, problems = find_files(paths or [], output_dir)
    if not distributed or not files:
        _print_problems(problems, printer)
    if paths and not files:
        raise typer.Exit(1)
    images = _open_images(files, data, split, image_column, errors.is_terminal and not quiet)

    from inverters.cli.prediction import Results, print_results, run
    from inverters.inversion.runner import load_runners
    from inverters.inversion.selection import missing_decoders, select_methods
    from inverters.prediction.pipeline import Pipeline, Reader

    root = find_decoders(checkpoints, printer)
    selection = select_methods(names, chosen, encoder, weights, root)
    if not distributed:
        _print_missing(missing_decoders(names, selection), printer)
    place = "cpu" if distributed else device
    runners = load_runners(names, selection, encoder, weights, root, place, pixels(size), steps, corrections)
    provenances = [runner.provenance for runner in runners]
    writer = _make_writer(format, images, provenances, output_dir, details, overwrite)
    pipeline = Pipeline(Reader(images, writer, runners[0].shorter_side, skip_existing), runners, tile=tile)
    if distributed:
        from inverters.prediction.distributed import predict_distributed

        summary = predict_distributed(
            pipeline, accelerator=ACCELERATORS[device], devices=devices, num_nodes=num_nodes, quiet=quiet
        )
        if summary is None:  # another process prints for all
            return
        _print_problems(problems, printer)
        _print_missing(missing_decoders(names, selection), printer)
        results = Results(summary)
    else:
        results = run(pipeline, printer)
    results.add_failures(problems)
    print_results(results, output_dir, printer)
    if results.summary.failed:
        raise typer.Exit(1)


def _methods(methods: str | None, iterations: int | None, objective: str, refine: int) -> tuple[list[str], int]:
    """The names of the methods, and the iterations of those that optimise."""
    if methods is None:
        if iterations is not None:
            raise typer.BadParameter("--iterations belongs to --methods; with --objective, use --refine N")
        if objective not in OBJECTIVES:
            raise unknown_name("objective", objective, OBJECTIVES)
        (name,) = (method for method, found in DECODER_METHODS.items() if found == objective)
        return [f"{name}{REFINED}" if refine else name], refine or DEFAULT_ITERATIONS
    if refine or objective != "pixel":
        raise typer.BadParameter("--methods replaces --objective and --refine: name perceptual, or decoder+lbfgs")
    names = list(dict.fromkeys(name for name in re.split(r"[,\s]+", methods) if name))
    for name in names:
        decoder_objective(name)  # raises where there is no such method
    if not names:
        raise typer.BadParameter("--methods names no method")
    if iterations is not None and all(name in DECODER_METHODS for name in names):
        raise typer.BadParameter(f"--iterations: none of {', '.join(names)} optimises")
    return names, iterations or DEFAULT_ITERATIONS


def _print_problems(problems: Mapping[str, str], printer: Printer) -> None:
    for problem in problems.values():
        printer.error(problem)


def _print_missing(missing: Mapping[str, Sequence[str]], printer: Printer) -> None:
    for method, layers in missing.items():
        printer.note(f"{method} has no decoder for {', '.join(layers)}: left out there")


def _open_images(files: Sequence[Path], data: str | None, split: str, column: str, progress: bool) -> "Images":
    if data is None:
        from inverters.prediction.inputs import ImageFiles

        return ImageFiles(files)
    from inverters.prediction.rows import ImageRows

    return ImageRows(data, split, column, progress)


def _make_writer(
    format: str, images: "Images", provenances: "Sequence[Provenance]", output_dir: Path, details: bool, overwrite: bool
) -> "Writer":
    if format == "parquet":
        from inverters.prediction.parquet import ParquetWriter

        return ParquetWriter(images, provenances, output_dir, overwrite=overwrite)
    from inverters.prediction.writers import FolderWriter

    return FolderWriter(images, provenances, output_dir, details=details, overwrite=overwrite)
