"""`invert push`."""

from typing import Annotated

import typer

from inverters.cli.options import WHERE, Checkpoints, Json, Quiet, find_decoders
from inverters.cli.printer import Printer


def push(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")],
    checkpoints: Checkpoints = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create a repository that others cannot see.", rich_help_panel=WHERE)
    ] = False,
    license: Annotated[
        str, typer.Option(metavar="NAME", help="License of the decoders, as the Hub names it.", rich_help_panel=WHERE)
    ] = "mit",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Upload decoders with a model card to the Hugging Face Hub.

    All decoders of the folder are sent in one commit. The token is that of `hf auth login`, or $HF_TOKEN.
    """
    printer = Printer(json, quiet)
    root = find_decoders(checkpoints, printer)
    from inverters.sharing.hub import push as upload

    address, count = upload(repository, root, private, license)
    printer.line(f"pushed {count} decoders to {address}")
    printer.document({"address": address, "decoders": count})
