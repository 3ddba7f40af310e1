"""The documentation keeps what it says: commands run, links lead somewhere, tables repeat what was measured."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import Outcome, publish_tiny
from hub_server import TOKEN
from PIL import Image
from skimage.data import data_dir
from typer.main import get_command

import inverters
from inverters.cli.layer_arguments import join_layers
from inverters.cli.main import app
from inverters.decoders.published import MODEL_FILE, available_decoders
from inverters.encoders.names import perceptual_layers

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("checkpoints/*.md"))
}
PAGES |= {  # the text of notebooks; tests/test_notebooks.py runs their cells
    str(path.relative_to(ROOT)): "\n\n".join(
        "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown"
    )
    for path in ROOT.glob("docs/tutorials/*.ipynb")
}
README, ONNX = PAGES["README.md"], "docs/onnx.md"  # the code of the latter reads a file that its commands write
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
SITE_REFERENCE = {
    "cli": [f"invert {name}" for name in COMMANDS],
    "configuration": [f"{name}.{key}" for name, key in (("data", "train"), ("trainer", "steps"), ("loss", "through"))],
    "python": [f'id="inverters.{name}"' for name in inverters.__all__],
}
QUICK = {  # appended to the README's commands
    "predict": "--size 64",
    "edit": "--size 64",
    "optimize": "--iterations 1 --size 64",
    "evaluate": "--iterations 1 --size 64",
    "train": "--set trainer.steps=2 --set data.crop_size=32 --set data.batch_size=2 --set data.workers=0 "
    "--set data.validation=holiday --set optimizer.algorithm=adamw",
    "layers": "",
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def lines(page: str) -> list[str]:
    """The shell commands of a page, without comments."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in text.splitlines()]


def commands(page: str) -> list[list[str]]:
    """The arguments of every `invert` in the shell commands of a page."""
    return [shlex.split(line.partition("invert ")[2]) for line in lines(page) if re.search(r"(^| )invert ", line)]


def code_spans(page: str) -> list[str]:
    """What stands between backticks in the running text of a page."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.S))]


def options(command: Any) -> set[str]:
    return {"--help"} | {option for parameter in command.params for option in parameter.opts}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the reader has: the configurations, a photograph, and folders of them."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(Path(data_dir) / "rocket.jpg", tmp_path / "photo.jpg")
    for name in ("photographs", "holiday"):
        (tmp_path / name).mkdir()
        with Image.open(Path(data_dir) / "chelsea.png") as image:
            image.reduce(3).save(tmp_path / name / "cat.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_readme_run(invert: Callable[..., Outcome], elsewhere: Path) -> None:
    """One after the other, as a reader would, on small images and with few steps."""
    runnable = [arguments for arguments in commands(README) if arguments[0] in QUICK]
    assert {"predict", "train"} <= {arguments[0] for arguments in runnable}
    for arguments in runnable:
        name, *rest = arguments
        if name == "evaluate" and not {"--layers", "--layer"} & set(rest):
            rest += ["--layers", "relu1_2"]
        result = invert(name, *rest, *QUICK[name].split())
        assert result.status == 0, f"invert {shlex.join(arguments)}: {result.err}"
    assert (elsewhere / "inversions" / "photo" / "depth.png").exists()


def test_the_commands_of_the_page_on_edits_run(invert: Callable[..., Outcome], elsewhere: Path) -> None:
    """On the photographs that the page makes, at one layer."""
    page = PAGES["docs/edits.md"]
    subprocess.run([sys.executable, "-c", blocks(page, "python")[0]], cwd=elsewhere, check=True)
    shutil.copy("astronaut.png", "photographs")
    for name, *arguments in commands(page):
        rest = [argument.replace("relu2_2,relu4_2,relu5_2", "relu2_2") for argument in arguments]
        rest += ["--layers", "relu1_2", "--size", "160"] if name == "evaluate" else []
        result = invert(name, *rest)
        assert result.status == 0, f"invert {shlex.join(arguments)}: {result.err}"
    assert (elsewhere / "mix" / "astronaut" / "relu2_2-mix.gif").exists()
    assert (elsewhere / "evaluation" / "edits.png").exists()


def test_the_commands_of_the_page_on_networks_run(invert: Callable[..., Outcome], elsewhere: Path) -> None:
    """With a smaller network and random weights in the place of ResNet-50, whose weights are downloaded."""
    page = PAGES["docs/networks.md"]
    (elsewhere / "my_network.py").write_text(blocks(page, "python")[0])
    tiny = {"timm/resnet50": "timm/test_resnet", "layer2.3": "layer2.0"}
    for name, *arguments in commands(page):
        rest, own = [tiny.get(one, one) for one in arguments], "my_network:encoder" in " ".join(arguments)
        if name == "train":
            rest += [] if own else ["--set=encoder.name=timm/test_resnet", "--set=layers=layer2.0,logits"]
            rest += [] if own else ["--set=encoder.weights=random"]
            rest += shlex.split(QUICK["train"])
        else:
            rest += [] if own else ["--weights", "random"]
            rest += shlex.split(QUICK[name]) if name != "evaluate" else ["--size", "32"]
        result = invert(name, *rest)
        assert result.status == 0, f"invert {name} {shlex.join(rest)}: {result.err}"
    assert (elsewhere / "inversions" / "photo" / "depth.png").exists()
    assert (elsewhere / "mine" / "photo" / "depth.png").exists()
    assert (elsewhere / "resnet50" / "report.md").exists()


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_options_that_they_are_shown_with(page: str) -> None:
    for name, *arguments in commands(PAGES[page]):
        COMMANDS[name].make_context(name, join_layers(arguments))
    for span in code_spans(PAGES[page]):
        words = span.split()
        if words[0] == "invert" and len(words) > 1 and not words[1].startswith("-"):
            used = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
            assert used <= options(COMMANDS[words[1]]), span


def test_options_that_the_readme_names_exist() -> None:
    known = set().union(*map(options, COMMANDS.values())) | {"--version", "--install-completion"}
    named = {word.partition("=")[0] for span in code_spans(README) for word in span.split() if span.startswith("--")}
    assert {word for word in named if word.startswith("--")} <= known


@pytest.mark.parametrize("page", PAGES)
def test_links_and_scripts_exist(page: str) -> None:
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", PAGES[page])
    for link in links:
        assert re.match(r"[a-z]+:", link) or (folder / link).exists(), link
    for line in lines(PAGES[page]):
        for word in re.findall(r"(?:benchmarks|configs)/[\w/.-]+", line):
            assert (ROOT / word).exists(), line
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.M), line


@pytest.mark.usefixtures("hub")
def test_the_commands_of_the_page_on_the_hub_run(
    invert: Callable[..., Outcome], elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the upload on, with small decoders."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    page, root = PAGES["docs/hub.md"], publish_tiny(elsewhere / "runs/vgg19/checkpoints", ("relu4_2",), "original")
    shutil.copy("photo.jpg", root / "vgg19-original" / "pixel.jpg")
    for name, *arguments in sorted(commands(page), key=lambda command: command[0] != "push"):
        result = invert(name, *arguments, *QUICK.get(name, "").split())
        assert result.status == 0, f"invert {shlex.join(arguments)}: {result.err}"
    assert (elsewhere / "inversions" / "photo" / "relu4_2.png").exists()
    exec(blocks(page, "py")[0], {})  # in this process, which knows the local Hub


@pytest.mark.slow
def test_the_page_on_onnx_needs_no_torch(invert: Callable[..., Outcome], elsewhere: Path) -> None:
    """Its commands and its code, at a shallow layer, which is exported faster."""
    page = PAGES[ONNX].replace("relu4_2", "relu1_1")
    for name, *arguments in commands(page):
        result = invert(name, *arguments)
        assert result.status == 0, f"invert {shlex.join(arguments)}: {result.err}"
    code = "import sys\nsys.modules['torch'] = sys.modules['inverters'] = None\n" + "".join(blocks(page, "python"))
    result = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    inversion = inverters.invert("photo.jpg", "relu1_1", device="cpu")
    assert result.stdout == f"relu1_1: {inversion.psnr['relu1_1']:.1f} dB\n"


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "python") and page != ONNX])
def test_python_examples_run(page: str, elsewhere: Path) -> None:
    """One after the other in a process of their own; each may use the names of those before it."""
    code = "\n".join(blocks(PAGES[page], "python"))
    result = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_make_demo(tmp_path: Path) -> None:
    """In a copy, beside the environment that runs this test, so that it only inverts and does not install."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    result = subprocess.run(
        ["make", "demo", "--assume-old=pyproject.toml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "inversions/astronaut/depth.png" in result.stdout
    assert (tmp_path / "inversions" / "astronaut" / "depth.png").exists()


@pytest.mark.parametrize(("target", "installed"), [("demo", "."), ("test", '".[dev]"')])
def test_the_demo_installs_less_than_the_tests(target: str, installed: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--dry-run", target]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    installs = [line for line in result.stdout.splitlines() if "pip install" in line]
    assert [line.partition("--editable ")[2] for line in installs] == [installed]


def tables(page: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Every table as rows of cells by header, with the text before it; cells without formatting."""
    for found in re.finditer(r"(?:^\|.*\|\n)+", page, re.M):
        header, _, *rows = [
            [re.sub(r"[`*]", "", cell).strip() for cell in row[1:-1].split("|")] for row in found[0].splitlines()
        ]
        yield page[: found.start()], [dict(zip(header, row, strict=True)) for row in rows]


def rounded_like(cell: str, value: float) -> str:
    """`value` with as many decimals as the number in the cell, and its unit."""
    number = re.search(r"[\d,]*\d(?:\.(\d+))?", cell)
    assert number, f"no number in {cell!r}"
    return cell.replace(number[0], f"{value:,.{len(number[1] or '')}f}", 1)


METRICS = {"psnr": "psnr", "ssim": "ssim", "ms-ssim": "ms_ssim", "feature error": "feature_error", "seconds": "seconds"}


def measured(row: dict[str, str], header: str, summary: dict[str, Any]) -> float | None:
    """What an evaluation found for a cell: a metric of the row's method, or the PSNR or the time of a column's."""
    found = summary.get(row["layer"], {})
    if header.lower() in METRICS and row.get("method", "decoder") in found:
        return found[row.get("method", "decoder")][METRICS[header.lower()]]["mean"]
    method, takes, _ = header.partition(" takes")
    return found[method]["seconds" if takes else "psnr"]["mean"] if method in found else None


def test_tables_of_results_repeat_their_evaluation() -> None:
    """A table with a column `layer` belongs to the evaluation under `docs/` that was last named before it."""
    checked = 0
    for before, rows in tables(README):
        named = [name for name in re.findall(r"docs/(\w+)", before) if (ROOT / "docs" / name / "results.json").exists()]
        if not named or "layer" not in rows[0] or "size" in rows[0]:
            continue
        summary = json.loads((ROOT / "docs" / named[-1] / "results.json").read_text())["summary"]
        for row in rows:
            for header, cell in row.items():
                if (value := measured(row, header, summary)) is not None:
                    assert cell == rounded_like(cell, value), f"{row['layer']}, {header}, docs/{named[-1]}"
                    checked += 1
    assert checked > 0


def test_tables_of_decoders_repeat_their_cards() -> None:
    """These have the columns `layer`, `PSNR` and `size`, and a row for each decoder."""
    shipped = {
        folder: available_decoders(ROOT / "checkpoints", encoder)
        for encoder, folder in (("vgg19", "vgg19-original"), ("efficientnet-lite0", "efficientnet-lite0-imagenet"))
    }
    seen = set()
    for page in ("README.md", *(page for page in PAGES if page.startswith("docs/"))):
        for _, rows in tables(PAGES[page]):
            if not {"layer", "PSNR", "size"} <= rows[0].keys():
                continue
            folder = next(name for name, cards in shipped.items() if rows[0]["layer"] in cards)
            cards = shipped[folder]
            seen.add(folder)
            assert [row["layer"] for row in rows] == list(cards)
            for row in rows:
                file = ROOT / "checkpoints" / folder / row["layer"] / MODEL_FILE
                assert row["PSNR"] == rounded_like(row["PSNR"], cards[row["layer"]].metrics["psnr"])
                assert row["size"] == rounded_like(row["size"], file.stat().st_size / 1e6)
    assert seen == set(shipped)


def test_what_is_shipped_is_worth_its_download() -> None:
    assert list(available_decoders(ROOT / "checkpoints")) == [
        f"relu{block}_{i}" for block in range(1, 6) for i in (1, 2)
    ]
    assert list(available_decoders(ROOT / "checkpoints", objective="perceptual")) == ["relu4_2", "relu5_2"]
    assert list(available_decoders(ROOT / "checkpoints", objective="linear")) == list(perceptual_layers("vgg19"))
    sizes = {path: path.stat().st_size for path in (ROOT / "checkpoints").rglob("*.*")}
    assert sum(sizes.values()) < 97e6
    assert max(size for path, size in sizes.items() if path.name == MODEL_FILE) < 16e6


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    """Without a warning; its reference names every command, every key and every public name."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    reference = {page: (tmp_path / "reference" / page / "index.html").read_text() for page in SITE_REFERENCE}
    for page, names in SITE_REFERENCE.items():
        assert [name for name in names if name not in reference[page]] == []
    for file in tmp_path.rglob("*.html"):
        html = file.read_text()
        assert not re.search(r'(?:src|<link[^>]*href)="https?://', html), file  # nothing is loaded from other hosts
        for link in re.findall(r'(?:src|href)="(?!\w+:|#|/)([^"#?]+)', html):
            assert (file.parent / unquote(link)).exists(), (file, link)
