"""The wheel carries what `invert predict` needs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from skimage.data import data_dir

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release would be."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_holds_the_package_and_the_decoders(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = subprocess.run(
        ["git", "ls-files", "inverters", "checkpoints"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {f"inverters/{file}" if file.startswith("checkpoints") else file for file in files} <= names


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_alone_inverts_a_photograph(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which sees the installed libraries but neither this checkout nor its package."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    shutil.copy(Path(data_dir) / "rocket.jpg", tmp_path / "photo.jpg")
    variables = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "INVERTERS_CHECKPOINTS")
    }
    result = subprocess.run(
        [environment / "bin" / "invert", "predict", "photo.jpg", "--size", "64"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "inversions" / "photo" / "depth.png").exists()
    assert (packages / "inverters" / "checkpoints").is_dir()
