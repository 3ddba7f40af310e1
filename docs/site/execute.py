"""`make tutorials`: run the notebooks and keep their outputs, with pictures as small JPEGs."""

import os
import sys
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

TUTORIALS = Path(__file__).parents[1] / "tutorials"
WIDEST = 1200  # pixels
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells of a notebook in `folder`, with the commands of this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=1800, record_timing=False, coalesce_streams=True, resources=place)
    client.execute(env=os.environ | {"PATH": path})
    notebook.metadata = NotebookNode(METADATA)


def tidy(notebook: NotebookNode) -> None:
    """Replace pictures by small JPEGs, and remove warnings, which name paths of this machine."""
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if encoded := data.pop("image/png", None) or data.get("image/jpeg"):
                with Image.open(BytesIO(b64decode(encoded))) as picture:
                    smaller = picture.convert("RGB")
                smaller.thumbnail((WIDEST, WIDEST))
                content = BytesIO()
                smaller.save(content, "JPEG", quality=85)
                data["image/jpeg"] = b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    for file in sorted(TUTORIALS.glob("*.ipynb")):
        tutorial = nbformat.read(file, as_version=4)
        with TemporaryDirectory() as elsewhere:
            execute(tutorial, Path(elsewhere))
        tidy(tutorial)
        nbformat.write(tutorial, file)
