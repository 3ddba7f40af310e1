"""Every command in the README works as it is printed."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome
from skimage.data import data_dir
from typer.main import get_command

from inverters.cli.main import app
from inverters.decoders.published import MODEL_FILE, available_decoders
from inverters.encoders.vgg_layers import GATYS_LAYERS
from inverters.inversion.methods import DEFAULT_METHODS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
QUICK = {  # appended to a command that would take long
    "train": "--set trainer.steps=2 --set data.crop_size=32 --set data.batch_size=2 --set data.workers=0",
    "optimize": "--iterations 1 --size 64",
    "evaluate": "--iterations 1 --size 64",
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's reader has: the configurations, a photograph, and two folders of them."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(Path(data_dir) / "rocket.jpg", tmp_path / "photo.jpg")
    for name in ("photographs", "holiday"):
        (tmp_path / name).mkdir()
        shutil.copy(Path(data_dir) / "chelsea.png", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_invert_command(invert: Callable[..., Outcome], elsewhere: Path) -> None:
    commands = [shlex.split(line)[1:] for line in SHELL if line.startswith("invert ")]
    assert {command[0] for command in commands} == {"predict", "layers", "train", "optimize", "evaluate"}
    for command in commands:
        if "--refine" in command:
            command += ["--size", "32"]
        if command[0] == "evaluate" and "--layers" not in command:
            command += ["--layers", "relu1_2"]
        result = invert(*command, *QUICK.get(command[0], "").split())
        assert result.status == 0, result.err
    assert (elsewhere / "evaluation" / "report.md").exists()
    assert (elsewhere / "inversions" / "photo" / "depth.png").exists()
    assert (elsewhere / "results" / "photo" / "relu4_2.png").exists()


def test_the_commands_of_the_other_pages_exist() -> None:
    """They need a cluster, or minutes: here only their options are parsed."""
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    lines = "".join(re.findall(r"```sh\n(.*?)```", pages, re.S)).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.partition("invert ")[2]) for line in lines if "invert " in line]
    assert len(commands) >= 3
    for name, *arguments in commands:
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        command.make_context(name, arguments)
    scripts = [line.split()[1] for line in lines if line.startswith("python ")]
    assert {f"benchmarks/{name}.py" for name in ("fidelity", "inversion", "prediction", "training")} == set(scripts)
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("code", PYTHON)
def test_every_python_example(code: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    exec(code, {})
    assert re.search(r"relu4_2: \d\d\.\d dB", capsys.readouterr().out)


def test_make_demo(tmp_path: Path) -> None:
    """In a copy, beside the environment that runs this test, so that it only inverts and does not install."""
    assert "make demo" in SHELL and "make test" in SHELL
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    result = subprocess.run(
        ["make", "demo", "--assume-old=pyproject.toml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "inversions/astronaut/depth.png" in result.stdout
    assert (tmp_path / "inversions" / "astronaut" / "depth.png").exists()


def test_the_table_of_methods_is_what_the_evaluation_found() -> None:
    summary = json.loads((ROOT / "docs" / "evaluation" / "results.json").read_text())["summary"]
    number = r" ([\d.]+) \|"
    rows = re.findall(rf"^\| `(\w+)` \|{number * 4} ([\d.]+) s \| ([\d.]+) s \|$", README, re.M)
    assert [row[0] for row in rows] == list(GATYS_LAYERS)
    for layer, *psnr, decoder, search in rows:
        means = [summary[layer][method]["psnr"]["mean"] for method in DEFAULT_METHODS]
        assert psnr == [f"{mean:.1f}" for mean in means]
        assert decoder == f"{summary[layer]['decoder']['seconds']['mean']:.2f}"
        assert search == f"{summary[layer]['lbfgs']['seconds']['mean']:.0f}"


def test_the_table_of_sharper_decoders_is_what_their_evaluation_found() -> None:
    summary = json.loads((ROOT / "docs" / "perceptual" / "results.json").read_text())["summary"]
    rows = re.findall(r"^\| `(relu._2)` \| `(\w+)` \| ([\d.]+) dB \| ([\d.]+) \| ([\d.]+) \|$", README, re.M)
    assert [row[:2] for row in rows] == [(layer, method) for layer in summary for method in ("decoder", "perceptual")]
    for layer, method, *scores in rows:
        found = {metric: summary[layer][method][metric]["mean"] for metric in ("psnr", "ssim", "feature_error")}
        assert scores == [f"{found['psnr']:.1f}", f"{found['ssim']:.3f}", f"{found['feature_error']:.3f}"]


def test_the_table_of_decoders_is_what_their_cards_say() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) dB \| ([\d.]+) MB \|", README, re.M)
    cards = available_decoders(ROOT / "checkpoints")
    sizes = {layer: (ROOT / "checkpoints" / "vgg19-original" / layer / MODEL_FILE).stat().st_size for layer in cards}
    assert rows == [
        (layer, f"{card.metrics['psnr']:.1f}", f"{sizes[layer] / 1e6:.1f}") for layer, card in cards.items()
    ]


def test_what_is_shipped_is_worth_its_download() -> None:
    assert list(available_decoders(ROOT / "checkpoints")) == [
        f"relu{block}_{i}" for block in range(1, 6) for i in (1, 2)
    ]
    assert list(available_decoders(ROOT / "checkpoints", objective="perceptual")) == ["relu4_2", "relu5_2"]
    assert list(available_decoders(ROOT / "checkpoints", objective="linear")) == list(GATYS_LAYERS)
    sizes = {path: path.stat().st_size for path in (ROOT / "checkpoints").rglob("*.*")}
    assert sum(sizes.values()) < 80e6
    assert max(size for path, size in sizes.items() if path.name == MODEL_FILE) < 16e6
