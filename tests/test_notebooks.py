"""The notebooks run from top to bottom, their text says nothing that they do not show, and their files are small."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from execute import TUTORIALS, execute, tidy
from IPython.core.inputtransformer2 import TransformerManager
from notebooks import pages

NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
FAST = {"STEPS = 150": "STEPS = 4", "validate_every=25": "validate_every=2", "iterations=20": "iterations=2"}
WHEEL = "inverters-9.0.0-py3-none-any.whl"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def shown(notebook: Any) -> str:
    """All text that the cells of a notebook printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output["data"]["text/plain"] for output in outputs)


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell puts out."""
    return [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """Its outputs have the form of those that it was committed with."""
    notebook = nbformat.read(path, as_version=4)
    committed = kinds(notebook)
    for cell in notebook.cells:
        for slow, fast in FAST.items():
            cell.source = cell.source.replace(slow, fast)
    execute(notebook, tmp_path)
    tidy(notebook)
    assert kinds(notebook) == committed


@each_notebook
def test_the_file_of_a_notebook_is_small(path: Path) -> None:
    assert path.stat().st_size < 300_000


@each_notebook
def test_a_notebook_was_run_in_one_go(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(len(cell.outputs) for cell in cells) > 2
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_the_text_of_a_notebook_measures_nothing_itself(path: Path) -> None:
    """A number with a unit or a decimal in the text stands in an output."""
    notebook = nbformat.read(path, as_version=4)
    printed = shown(notebook)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = re.sub(r"```.*?```|`[^`]+`|A difference of 6 dB", "", text, flags=re.S)
    for number in re.findall(r"\d+(?:\.\d+)?(?= ?(?:dB|%|times|seconds|minutes))|\d+\.\d+", text):
        assert number in printed


@each_notebook
def test_a_notebook_installs_the_wheel_beside_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, as on Colab; the package of this name on the index is another one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    magics: list[tuple[str, str]] = []

    class Shell:
        def run_line_magic(self, name: str, line: str) -> None:
            magics.append((name, line))

    code = TransformerManager().transform_cell(cell.source)
    with pytest.raises(AssertionError, match="upload the wheel"):
        exec(code, {"get_ipython": Shell})
    (tmp_path / WHEEL).touch()
    exec(code, {"get_ipython": Shell})
    assert magics == [("pip", "install --quiet {wheels[-1]}")]


def test_a_notebook_as_a_page() -> None:
    picture = {"output_type": "display_data", "data": {"image/jpeg": "aGVsbG8=", "text/plain": "<Figure>"}}
    outputs = [{"output_type": "stream", "text": ["one\n", "two\n"]}, picture]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "[next](next-one.ipynb) [edits](../edits.md)"]},
        {"cell_type": "code", "source": "1 + 1", "outputs": outputs},
    ]
    made = pages({"cells": cells}, "name")
    assert made["name-0.jpg"] == b"hello"
    assert made["name.md"] == (
        "# Title\n[next](next-one.ipynb) [edits](../edits.md)\n\n```python\n1 + 1\n```\n\n```text\none\ntwo\n```\n\n"
        '![Output of the cell above](name-0.jpg)\n\n[Download this notebook](name.ipynb){: download="name.ipynb" }\n'
    )
