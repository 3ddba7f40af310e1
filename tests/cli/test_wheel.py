"""What a release uploads, and that the wheel alone works."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from skimage.data import data_dir

ROOT = Path(__file__).parents[2]
INCLUDED = ("inverters", "checkpoints", "configs")

pytestmark = [pytest.mark.slow, pytest.mark.network]


def tracked(*folders: str) -> set[str]:
    command = ["git", "ls-files", *folders]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True)
    return folder


def test_the_index_takes_both(release: Path) -> None:
    files = sorted(release.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    assert all(file.stat().st_size < 100e6 for file in files)
    check = [sys.executable, "-m", "twine", "check", "--strict", *files]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_wheel_holds_the_package_its_decoders_and_configurations(release: Path) -> None:
    (wheel,) = release.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = tracked(*INCLUDED)
    assert names == {file if file.startswith("inverters/") else f"inverters/{file}" for file in files}


def test_the_sdist_holds_what_git_does(release: Path) -> None:
    """All but what only the repository needs."""
    (sdist,) = release.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    files = tracked()
    assert names - {"PKG-INFO"} <= files
    assert {file for file in files - names if not file.startswith(".")} == set()


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and sees the installed libraries, but not this checkout."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # whose own .pth files are not read
    (wheel,) = release.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    return environment / "bin" / "invert"


@pytest.fixture
def invert(installed: Path, tmp_path: Path) -> Callable[..., str]:
    shutil.copy(Path(data_dir) / "rocket.jpg", tmp_path / "photo.jpg")
    variables = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "INVERTERS_CHECKPOINTS")
    }

    def run(*arguments: str) -> str:
        command = [str(installed), *arguments]
        result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_the_wheel_alone_inverts_a_photograph(invert: Callable[..., str], tmp_path: Path, installed: Path) -> None:
    invert("predict", "photo.jpg", "--size", "64")
    assert (tmp_path / "inversions" / "photo" / "depth.png").exists()
    assert list(installed.parents[1].glob("lib/*/site-packages/inverters/checkpoints"))


def test_the_wheel_alone_lists_layers(invert: Callable[..., str]) -> None:
    assert re.search(r"relu4_2.*yes", invert("layers"))


def test_the_wheel_alone_trains(invert: Callable[..., str], tmp_path: Path) -> None:
    quick = "layers=relu1_2 trainer.steps=2 data.crop_size=32 data.batch_size=1 data.workers=0"
    invert("train", "quickstart", *(f"--set={change}" for change in quick.split()))
    assert (tmp_path / "runs/quickstart/checkpoints/vgg19-original/relu1_2/model.safetensors").exists()
