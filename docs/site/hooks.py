"""What `make docs` adds to the pages: the command line and the configuration, from the code itself.

Links that leave docs/, which a code host follows, become plain text, and those to notebooks lead to their pages.
"""

import json
import re
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from typer.cli import get_docs_for_click
from typer.main import get_command

from inverters.cli.main import app
from inverters.training.config import TrainConfig

CONFIGS = Path(__file__).parents[2] / "configs"
LARGEST_SHOWN = 1e9  # beyond it, a limit only keeps numbers from overflowing


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the places that pages leave to generated text, and remove links that the site cannot follow."""
    for marker, generate in {"command line": command_line, "configuration": configuration}.items():
        place = f"<!-- generated: {marker} -->"
        if place in markdown:
            markdown = markdown.replace(place, generate())
    markdown = re.sub(r"```mermaid\n(.*?)```", packages, markdown, flags=re.S)
    markdown = re.sub(r"\.ipynb\)(?!\{)", ".md)", markdown)  # but not those to download
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown) if "/" not in page.file.src_uri else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Mark options such as `--size`, which browsers would break after their hyphens."""
    return re.sub(r"<code>(-[^<\s]{1,24})</code>", r'<code class="option">\1</code>', html)


def command_line() -> str:
    """The options of every command, as Typer documents them."""
    command = get_command(app)
    context = command.make_context("invert", ["--help"], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="invert").partition("\n")[2]
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)  # a list of shortened sentences


def packages(diagram: re.Match[str]) -> str:
    """A table in the place of a diagram, whose script the site would have to load from another host."""
    rows = re.findall(r"<b>(.*?)</b>(?:<br>)?(.*?)\"]", diagram[1])
    return "\n".join(["| package | what it does |", "|---|---|", *(f"| `{name}` | {owns} |" for name, owns in rows)])


def configuration() -> str:
    """A table for each section: key, type, default, and the comment of configs/vgg19.yaml, which names every key."""
    said = comments((CONFIGS / "vgg19.yaml").read_text(encoding="utf-8"))
    sections = {
        name: field.annotation
        for name, field in TrainConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    text = "## Top level\n\n" + table(TrainConfig, "", said, set(sections))
    for name, section in sections.items():
        text += f"\n## `{name}`\n\n{(section.__doc__ or '').strip().splitlines()[0]}\n\n"
        text += table(section, f"{name}.", said, set())
    return text


def table(section: type[BaseModel], prefix: str, said: dict[str, str], leave_out: set[str]) -> str:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        if name in leave_out:
            continue
        default = "*required*" if field.is_required() else f"`{plain(field.get_default())}`"
        comment = re.sub(r"[;,] default null, which ", "; `null` ", said[prefix + name])
        comment = re.sub(r"[;,]? *(no )?default .*$|[;,]? no default$", "", comment)
        rows.append(f"| `{prefix}{name}` | {values(properties[name])} | {default} | {comment} |".replace("\\|", "|"))
    return "\n".join(rows) + "\n"


def plain(value: Any) -> str:
    """A default as YAML writes it."""
    return json.dumps(value).replace('"', "")


def values(schema: dict[str, Any]) -> str:
    """What a key accepts, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(values(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    shown = [f"{sign} {schema[key]}" for key, sign in limits.items() if abs(schema.get(key, inf)) < LARGEST_SHOWN]
    kind = {"array": "list", "object": "mapping", "null": "`null`"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    return " ".join([kind, *shown])


def comments(text: str) -> dict[str, str]:
    """The comment of every key of a YAML file of two levels, with the lines that continue it."""
    found: dict[str, str] = {}
    section = key = ""
    for line in text.splitlines():
        content, _, comment = line.partition("#")
        if match := re.match(r"( *)(\w+):", content):
            section = section if match[1] else match[2]
            key = f"{section}.{match[2]}" if match[1] else match[2]
            found[key] = comment.strip()
        elif comment and key:
            found[key] += " " + comment.strip()
    return found
