"""The command line: parses, calls, prints. Torch and what needs it are imported by the commands, not by this module."""

import os
import shlex
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from inverters.errors import InverterError
from inverters.layers import INPUT_MULTIPLE, find_layers, layer_table, network
from inverters.presets import find_preset
from inverters.tables import decibels, image_table, layer_rows, method_table

SHOWN_ITERATIONS = 20  # a line for each so many, where there is no terminal

app = typer.Typer(
    help="See and measure what each layer of a VGG still knows about an image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
output = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Each of a user's mistakes is one line on stderr and status 1; Ctrl-C is status 130."""
    try:
        app(arguments)
    except InverterError as error:
        if os.environ.get("INVERTERS_DEBUG") == "1":
            raise
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def _size(value: str) -> str:
    if value != "full" and not (value.isdecimal() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is neither a number of pixels nor 'full'")
    return value


def _pixels(size: str) -> int | None:
    return None if size == "full" else int(size)


def _tile(value: int | None) -> int | None:
    if value is not None and (value < 1 or value % INPUT_MULTIPLE):
        raise typer.BadParameter(f"{value} is not a multiple of {INPUT_MULTIPLE}")
    return value


def _version(wanted: bool) -> None:
    if wanted:
        print(f"inverters {version('inverters')}")
        raise typer.Exit


Layers = Annotated[
    str, typer.Option(metavar="NAMES|all", help="Layers, such as relu1_2,relu4_2; or all with a decoder.")
]
Encoder = Annotated[str, typer.Option(help="The network: vgg16, vgg16_bn, vgg19 or vgg19_bn.")]
Weights = Annotated[str, typer.Option(help="Its weights: original, a name of torchvision's, random, or a file.")]
Checkpoints = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Published decoders.  [default: $INVERTERS_CHECKPOINTS, else those shipped]"),
]
Size = Annotated[
    str, typer.Option(callback=_size, metavar="PIXELS|full", help="Shrink to this shorter side, or do not.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


@app.callback()
def invert(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See and measure what each layer of a VGG still knows about an image."""


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run; see configs/ for examples.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the configuration.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="[default: runs/<config's name>]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
) -> None:
    """Train decoders, and publish them under <output-dir>/checkpoints/."""
    from inverters.config import load_config

    run = load_config(config, overrides or [])
    from inverters.training import train

    for folder in train(run, output_dir or Path("runs") / config.stem, resume):
        print(folder)


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, and folders to search through.")],
    layers: Layers = "all",
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("inversions"),
    size: Size = "512",
    tile: Annotated[
        int | None,
        typer.Option(
            callback=_tile, metavar="PIXELS", help="Invert in squares of this side.  [default: 1024 for large images]"
        ),
    ] = None,
    refine: Annotated[int, typer.Option(min=0, metavar="N", help="Go on with N steps of L-BFGS from each result.")] = 0,
    device: Device = "auto",
) -> None:
    """Reconstruct images from every layer, and measure what was lost."""
    names = _names(layers, encoder)
    from inverters.errors import ImageError
    from inverters.images import find_images
    from inverters.inverter import load_inverter
    from inverters.prediction import Failure, predict

    inverter = load_inverter(names, encoder, weights, checkpoints, device)
    files: dict[Path, Path] = {}  # each file once, as it was first named
    failed = 0
    for path in paths:
        try:
            for file in find_images(path):
                files.setdefault(file.absolute(), file)
        except ImageError as error:
            failed += 1
            errors.print(f"error: {error}", markup=False)
    done = []
    with _progress_bar() as bar:
        task = bar.add_task("inverting", total=len(files))

        def show(file: Path, tiles_done: int, tiles: int) -> None:
            if tiles > 1:
                bar.update(task, description=f"{file.name}: tile {tiles_done} of {tiles}")
                if not errors.is_terminal:
                    errors.print(f"{file.name}: tile {tiles_done} of {tiles}", markup=False)

        for result in predict(list(files.values()), inverter, output_dir, _pixels(size), refine, tile, show):
            bar.advance(task)
            if isinstance(result, Failure):
                failed += 1
                errors.print(f"error: {result.reason}", markup=False)
            else:
                done.append(result)
                if not errors.is_terminal and len(files) > 1:
                    errors.print(f"inverted {result.source}", markup=False)
    if done:
        output.print(image_table([(item.folder.name, item.psnr) for item in done]))
        where = done[0].folder / "depth.png" if len(done) == 1 else output_dir
        print(f"wrote {where}")
    if failed:
        raise typer.Exit(1)


@app.command()
def optimize(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to search for again.")],
    layer: Annotated[str, typer.Option(metavar="NAME", help="Layer whose features are to match, such as relu4_2.")],
    preset: Annotated[str, typer.Option(help="gatys (L-BFGS) or mahendran-vedaldi (momentum and priors).")] = "gatys",
    iterations: Annotated[int, typer.Option(min=1, help="How many steps to take.")] = 200,
    init: Annotated[str, typer.Option(help="Where to start: noise, grey or decoder.")] = "noise",
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("optimizations"),
    size: Size = "512",
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    device: Device = "auto",
) -> None:
    """Search for an image with the same features at one layer, which takes minutes. Ctrl-C keeps the best so far."""
    if not (names := _names(layer, encoder)) or len(names) > 1:
        raise InverterError(f"--layer takes one layer, not {layer!r}")
    settings = find_preset(preset)
    from inverters.devices import find_device
    from inverters.encoder import VGGEncoder
    from inverters.inverter import Inverter, load_inverter
    from inverters.prediction import optimize

    if init == "decoder":
        inverter = load_inverter([layer], encoder, weights, checkpoints, device)
    else:
        inverter = Inverter(VGGEncoder([layer], encoder, weights), {}, find_device(device))
    with _progress_bar() as bar:
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
            size=_pixels(size),
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


@app.command()
def layers(
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
) -> None:
    """List the layers of an encoder, and which have a decoder."""
    table = layer_table(encoder)
    from inverters.checkpoint import decoders_at_hand, find_checkpoints
    from inverters.weights import check_weights

    check_weights(encoder, weights)
    cards = decoders_at_hand(find_checkpoints(checkpoints), encoder, weights)
    output.print(layer_rows(table, {name: card.metrics.get("psnr") for name, card in cards.items()}))


@app.command()
def download_weights(encoder: Encoder = "vgg19", weights: Weights = "IMAGENET1K_V1") -> None:
    """Fetch an encoder's weights beforehand, for machines without a network."""
    from inverters.weights import load_weights

    load_weights(encoder, weights, depth=len(network(encoder)))
    print(f"{weights} of {encoder} is at hand")


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(metavar="PATH|HUB-ID", help="Images, as data.validation of a configuration.")],
    layers: Layers = "all",
    methods: Annotated[
        str, typer.Option(metavar="NAMES", help="What to compare: decoder, linear, lbfgs, decoder+lbfgs.")
    ] = "decoder,linear,lbfgs,decoder+lbfgs",
    iterations: Annotated[int, typer.Option(help="Steps of the searches by L-BFGS.")] = 200,
    limit: Annotated[int | None, typer.Option(help="How many images to take.  [default: all]")] = None,
    size: Annotated[int, typer.Option(help="Pixels of the centre crops' sides.")] = 224,
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("evaluation"),
    seed: Annotated[int, typer.Option(help="Of the searches' initial noise and of the intervals.")] = 0,
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set.")] = "validation",
    image_column: Annotated[str, typer.Option(help="Column that holds the images.")] = "image",
    device: Device = "auto",
) -> None:
    """Compare decoders with searching for the image, and with the best linear map; continues where it was stopped."""
    names = _names(layers, encoder)
    from inverters import evaluation

    with _progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)

        def show(progress: evaluation.Progress) -> None:
            cell, left = progress.cell, timedelta(seconds=round(progress.seconds_left))
            line = f"{cell.name}  {cell.layer}  {cell.method}: {decibels(cell.scores['psnr'])} dB, {left} left"
            bar.update(task, total=progress.total, completed=progress.done, description=line)
            if not errors.is_terminal:
                errors.print(f"{progress.done}/{progress.total}  {line}", markup=False)

        results = evaluation.evaluate(
            data,
            layers=names,
            methods=[method.strip() for method in methods.split(",")],
            iterations=iterations,
            limit=limit,
            size=size,
            output_dir=output_dir,
            seed=seed,
            encoder=encoder,
            weights=weights,
            checkpoints=checkpoints,
            device=device,
            split=split,
            image_column=image_column,
            command=shlex.join(["invert", *sys.argv[1:]]),
            progress=show,
        )
    for image in results.settings["skipped"]:
        errors.print(f"skipped {image}", markup=False)
    for metric, reason in results.settings["left_out"].items():
        errors.print(f"left out {metric}: {reason}", markup=False)
    means = {
        layer: {method: found["psnr"].mean if "psnr" in found else None for method, found in by_method.items()}
        for layer, by_method in results.summary.items()
    }
    output.print(method_table(means))
    print(f"wrote {output_dir / 'report.md'}")


@app.command()
def cards(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The photograph to show the decoders on.")],
    encoder: Encoder = "vgg19",
    weights: Weights = "original",
    checkpoints: Checkpoints = None,
) -> None:
    """Write the README.md of a folder of decoders: tables from their cards, and pictures."""
    layer_table(encoder)
    from inverters.cards import write_cards

    print(f"wrote {write_cards(image, checkpoints, encoder, weights)}")


def _progress_bar() -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )


def _names(layers: str, encoder: str) -> list[str] | None:
    """The layers of a comma-separated list; None for `all`."""
    if layers == "all":
        layer_table(encoder)
        return None
    names = [name.strip() for name in layers.split(",")]
    return [layer.name for layer in find_layers(names, encoder)]
