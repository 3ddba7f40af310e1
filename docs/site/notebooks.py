"""The notebooks as pages of the site: text, code, and the outputs that their files hold."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PICTURES = {"image/jpeg": "jpg", "image/png": "png"}


def on_files(files: Files, config: Any) -> Files:
    """Add a page and its pictures for each notebook, which itself remains to be downloaded."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(file.content_string)
        for name, content in pages(notebook, Path(file.src_uri).stem).items():
            files.append(File.generated(config, f"{Path(file.src_uri).parent}/{name}", content=content))
    return files


def pages(notebook: dict[str, Any], stem: str) -> dict[str, str | bytes]:
    """The files that show a notebook, by name: a page in Markdown, and the pictures that it shows."""
    text, pictures = "", dict[str, bytes]()
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text += source + "\n\n"
            continue
        text += f"```python\n{source}\n```\n\n"
        for output in cell["outputs"]:
            data = output.get("data", {})
            if kind := next((kind for kind in PICTURES if kind in data), None):
                name = f"{stem}-{len(pictures)}.{PICTURES[kind]}"
                pictures[name] = b64decode("".join(data[kind]))
                text += f"![Output of the cell above]({name})\n\n"
            else:
                text += f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```\n\n"
    download = f'[Download this notebook]({stem}.ipynb){{: download="{stem}.ipynb" }}\n'
    return {f"{stem}.md": text + download, **pictures}
