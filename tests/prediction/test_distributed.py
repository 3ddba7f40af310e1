"""`invert predict` on several devices, of folders and of data sets, through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from conftest import photographs
from predictions import Run, changes, metrics, picture, table

from inverters.inversion.loading import load_inverter
from inverters.inversion.runner import make_runner
from inverters.prediction.distributed import predict_distributed
from inverters.prediction.inputs import ImageFiles
from inverters.prediction.pipeline import Pipeline, Reader
from inverters.prediction.writers import FolderWriter

LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture
def options(tiny_checkpoints: Path) -> list[str]:
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--device", "cpu"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs, and a file that is none, in their midst."""
    folder = photographs(tmp_path / "photographs", 5)
    (folder / "2a.png").write_text("no image")
    return folder


@pytest.mark.ddp
def test_two_processes_write_every_image_once(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert invert("predict", folder, *options, "--output-dir", one).status == 1
    missing = tmp_path / "missing.png"
    paths = [folder, missing]
    command = [sys.executable, "-m", "inverters", "predict", *paths, *options, "--output-dir", two, "--devices", "2"]

    def run() -> subprocess.CompletedProcess[str]:
        without_srun = {**os.environ, "PATH": ""}  # where there is one, Lightning hints at it
        arguments = [*map(str, command), "--skip-existing"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env=without_srun)

    done = run()
    assert done.returncode == 1
    problems = [
        f"error: cannot read {folder}/2a.png: not an image of a known format",
        f"error: no such file or folder: {missing}",
    ]
    assert done.stderr.splitlines() == problems
    assert done.stdout.splitlines()[-1] == f"inverted 5 images, 0 existed, 2 failed; wrote {two}"
    assert table(two) == table(one)
    written = {path.relative_to(one) for path in one.rglob("*.png")}
    assert len(written) == 5 * 3
    assert written == {path.relative_to(two) for path in two.rglob("*.png")}
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in written)

    (two / "3" / "metrics.json").unlink()  # as an interruption leaves it: that is written last
    before = changes(two)
    done = run()
    assert done.stdout.splitlines()[-1] == f"inverted 1 images, 4 existed, 2 failed; wrote {two}"
    after = changes(two)
    again = {str(file.relative_to(two)) for file in (two / "3").iterdir()} | {"metrics.csv"}
    assert {file for file in after if after[file] != before.get(file)} == again
    assert table(two) == table(one)

    command.append("--quiet")
    done = run()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == problems


def test_existing_results_are_skipped(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["predict", folder, *options, "--output-dir", out, "--skip-existing"]
    first = invert(*arguments)
    before, rows = changes(out), table(out)
    second = invert(*arguments)
    assert first.err.count("inverted ") == 5 and "inverted " not in second.err
    assert second.out.splitlines()[-1] == "inverted 0 images, 5 existed, 1 failed"
    assert second.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    after = changes(out)
    assert [file for file in after if after[file] != before[file]] == ["metrics.csv"]
    assert table(out) == rows
    (out / "3" / "metrics.json").unlink()
    assert "inverted 1 images, 4 existed, 1 failed" in invert(*arguments).out
    assert table(out) == rows


def test_results_are_not_inverted_again(
    invert: Run, options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for _ in range(2):
        done = invert("predict", ".", *options)
        assert done.err.count("inverted ") == 5
    assert invert("predict", "inversions/0/depth.png", *options, "--output-dir", "inversions").status == 0


def test_a_data_set(
    invert: Run, options: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.iterdir())]
    features = datasets.Features({"photo": datasets.Image()})
    path = tmp_path / "set.parquet"
    datasets.Dataset.from_dict({"photo": pictures}, features=features).to_parquet(path)
    capsys.readouterr()  # the progress of that
    done = invert("predict", "--data", path, "--image-column", "photo", *options, "--output-dir", tmp_path / "out")
    assert done.status == 1
    problems = [line for line in done.err.splitlines() if not line.startswith("inverted ")]
    assert problems == [f"error: {path} row 3: cannot read image: not an image of a known format"]
    names = ["00000000", "00000001", "00000002", "00000004", "00000005"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "metrics.csv"]
    assert metrics(tmp_path / "out" / names[3])["image"] == f"{path} row 4"


def test_a_folder_as_a_data_set_names_its_files(invert: Run, options: list[str], tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.png")
    bad = tmp_path / "photos" / "b.png"
    bad.write_text("no image")
    done = invert("predict", "--data", bad.parent, *options, "--output-dir", tmp_path / "out")
    assert done.status == 1
    problems = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert problems == [f"error: {bad.parent} row 1: cannot read {bad}: not an image of a known format"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "name images and folders, or a data set with --data"),
        (["photo.png", "--data", "set.parquet"], 2, "but not both"),
        (["--data", "missing.parquet"], 1, "error: no such file or folder: missing.parquet\n"),
        (
            ["photo.png", "--devices", "2", "--device", "cuda:1"],
            1,
            "error: --device cuda:1 is one device",
        ),
        (["photo.png", "--format", "png", "--devices", "0"], 2, "--devices"),
    ],
)
def test_what_cannot_be(invert: Run, tiny_checkpoints: Path, arguments: list[str], status: int, message: str) -> None:
    done = invert("predict", "--weights", "random", "--checkpoints", tiny_checkpoints, *arguments)
    assert done.status == status
    assert message in " ".join(done.err.replace("│", " ").split()) + "\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_more_devices_than_there_are(invert: Run, tiny_checkpoints: Path, folder: Path) -> None:
    done = invert(
        *("predict", folder, "--weights", "random", "--checkpoints", tiny_checkpoints),
        *("--device", "cuda", "--devices", "8"),
    )
    assert done.status == 1
    assert done.err.startswith("error: cannot run on 8 devices of accelerator 'gpu': ")
    assert done.err.count("\n") == 1


def test_the_sums_of_several_processes_stay_off_the_device(
    options: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MPS has no float64: any tensor of that type on the device is refused."""
    to = torch.Tensor.to

    def without_float64(self: torch.Tensor, *arguments: object, **keywords: object) -> torch.Tensor:
        if self.dtype == torch.float64 and any(isinstance(one, torch.device) for one in arguments):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return to(self, *arguments, **keywords)

    monkeypatch.setattr(torch.Tensor, "to", without_float64)
    inverter = load_inverter(weights="random", checkpoints=options[3])
    runner = make_runner(inverter)
    images = ImageFiles(sorted(folder.glob("[0-9].png")))
    writer = FolderWriter(images, [runner.provenance], tmp_path / "out")
    summary = predict_distributed(Pipeline(Reader(images, writer, 512), [runner]), accelerator="cpu", devices=1)
    assert summary is not None
    assert (summary.inverted, summary.existing, summary.failed) == (5, 0, 0)
    rows = table(tmp_path / "out")
    for layer in ("relu1_1", "relu2_1"):
        mean = sum(float(row[f"psnr_{layer}"]) for row in rows) / 5
        assert summary.means()["decoder"][layer] == pytest.approx(mean, abs=1e-3)
