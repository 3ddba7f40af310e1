"""`invert train`."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from inverters.cli.options import HOW, WHERE, Quiet
from inverters.cli.printer import Printer
from inverters.cli.tables import training_table


def train(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="The configuration of the run: a YAML file, or the name of one that comes with inverters, "
            "such as quickstart or vgg19.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the configuration.", rich_help_panel=HOW),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the output folder.", rich_help_panel=HOW)
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="Folder for the results.",
            show_default="runs/<config's name>",
            rich_help_panel=WHERE,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train decoders.

    The decoder of each layer that is best in validation is published under <output-dir>/checkpoints/.
    """
    from inverters.training.config_file import load_config
    from inverters.training.config_names import find_config

    printer = Printer(quiet=quiet)
    with warnings.catch_warnings(record=True, action="always", category=FutureWarning) as old_keys:
        run = load_config(find_config(config), overrides or [])
    for warning in old_keys:
        printer.note_once(f"warning: {warning.message}")
    from inverters.training.train import train

    trained = train(run, output_dir or Path("runs") / config.stem, resume, quiet)
    if trained:  # else another process speaks for all
        printer.table(training_table(list(trained.values())))
    for folder in trained:
        printer.line(str(folder))
