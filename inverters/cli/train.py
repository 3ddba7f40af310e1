"""`invert train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run; see configs/ for examples.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the configuration.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="[default: runs/<config's name>]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
) -> None:
    """Train decoders, and publish them under <output-dir>/checkpoints/."""
    from inverters.training.config_file import load_config

    run = load_config(config, overrides or [])
    from inverters.training.train import train

    for folder in train(run, output_dir or Path("runs") / config.stem, resume):
        print(folder)
