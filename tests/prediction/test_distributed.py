"""`invert predict` on several devices, on data sets and into parquet files, through the command line."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from conftest import Outcome, photographs
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from inverters.prediction.predict import parquet as shards

Run = Callable[..., Outcome]
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


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, less what differs between two runs."""
    rows = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def changes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.ddp
def test_two_processes_write_every_image_once(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert invert("predict", folder, *options, "--output-dir", one).status == 1
    command = [sys.executable, "-m", "inverters", "predict", folder, *options, "--output-dir", two, "--devices", "2"]

    def run() -> subprocess.CompletedProcess[str]:
        without_srun = {**os.environ, "PATH": ""}  # where there is one, Lightning hints at it
        arguments = [*map(str, command), "--skip-existing"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env=without_srun)

    done = run()
    assert done.returncode == 1
    assert done.stderr == f"error: cannot read {folder}/2a.png: not an image of a known format\n"
    assert done.stdout.splitlines()[-1] == f"inverted 5 images, 0 were there, 1 failed; wrote {two}"
    assert table(two) == table(one)
    files = {path.relative_to(one) for path in one.rglob("*.png")}
    assert len(files) == 5 * 3
    assert files == {path.relative_to(two) for path in two.rglob("*.png")}
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)

    (two / "3" / "metrics.json").unlink()  # as an interruption leaves it: that is written last
    before = changes(two)
    done = run()
    assert done.stdout.splitlines()[-1] == f"inverted 1 images, 4 were there, 1 failed; wrote {two}"
    after = changes(two)
    again = {str(file.relative_to(two)) for file in (two / "3").iterdir()} | {"metrics.csv"}
    assert {file for file in after if after[file] != before.get(file)} == again
    assert table(two) == table(one)


def test_what_is_there_is_passed_over_only_if_made_in_the_same_way(
    invert: Run, options: list[str], folder: Path, tmp_path: Path
) -> None:
    arguments = ["predict", folder, *options, "--output-dir", tmp_path / "out"]
    first = invert(*arguments, "--skip-existing")
    before, rows = changes(tmp_path / "out"), table(tmp_path / "out")
    second = invert(*arguments, "--skip-existing")
    assert first.err.count("inverted ") == 5 and "inverted " not in second.err
    assert second.out.splitlines()[-1] == f"5 of 5 were there; wrote {tmp_path / 'out'}"
    after = changes(tmp_path / "out")
    assert [file for file in after if after[file] != before[file]] == ["metrics.csv"]
    assert table(tmp_path / "out") == rows
    for change in (["--size", "16"], ["--layers", "relu1_1"], ["--refine", "1"]):
        assert invert(*arguments, "--skip-existing", *change).err.count("inverted ") == 5


def test_results_are_not_inverted_again(
    invert: Run, options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for _ in range(2):
        done = invert("predict", ".", *options)
        assert done.err.count("inverted ") == 5
    assert invert("predict", "inversions/0/depth.png", *options, "--output-dir", "inversions").status == 0


def test_parquet_files_hold_what_the_folders_hold(
    invert: Run, options: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 2)
    monkeypatch.setattr(shards.ParquetShards, "chunk", 2)
    out = tmp_path / "out"
    invert("predict", folder, *options, "--output-dir", tmp_path / "folders")
    arguments = ["predict", folder, *options, "--output-dir", out, "--format", "parquet"]
    done = invert(*arguments)
    assert (done.status, done.err) == (1, f"error: cannot read {folder}/2a.png: not an image of a known format\n")
    names = [f"images-0000{number}-of-00003.parquet" for number in range(3)]
    assert sorted(path.name for path in out.iterdir()) == names

    rows = datasets.load_dataset(
        "parquet", data_files=str(out / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["name"] == ["0", "1", "2", "3", "4"]
    assert rows["source"] == [str(folder / f"{number}.png") for number in range(5)]
    for row in rows:
        assert np.array_equal(row["image"], Image.open(row["source"]))
        assert row["image"].size == (row["width"], row["height"])
        for layer in LAYERS:
            assert np.array_equal(row[layer], Image.open(tmp_path / "folders" / row["name"] / f"{layer}.png"))
            expected = peak_signal_noise_ratio(np.asarray(row["image"]), np.asarray(row[layer]))
            assert row[f"psnr_{layer}"] == pytest.approx(expected, abs=1e-3)

    (out / names[1]).unlink()
    before = changes(out)
    again = invert(*arguments, "--skip-existing")
    assert again.out.splitlines()[-1] == f"inverted 1 images, 4 were there, 1 failed; wrote {out}"
    after = changes(out)
    assert [name for name in names if after[name] != before.get(name)] == [names[1]]
    (folder / "2a.png").unlink()
    all_there = ["predict", folder, *options, "--output-dir", tmp_path / "all", "--format", "parquet"]
    assert invert(*all_there).status == 0
    nothing_left = invert(*all_there, "--skip-existing")
    assert (nothing_left.status, nothing_left.err) == (0, "")
    assert nothing_left.out == f"inverted 0 images, 5 were there, 0 failed; wrote {tmp_path / 'all'}\n"
    (folder / "2a.png").write_text("no image")
    assert invert(*arguments, "--skip-existing", "--size", "16").out.endswith(
        f"inverted 5 images, 0 were there, 1 failed; wrote {out}\n"
    )


def test_a_data_set(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    pictures = [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.iterdir())]
    features = datasets.Features({"photo": datasets.Image()})
    path = tmp_path / "set.parquet"
    datasets.Dataset.from_dict({"photo": pictures}, features=features).to_parquet(path)
    done = invert("predict", "--data", path, "--image-column", "photo", *options, "--output-dir", tmp_path / "out")
    assert (done.status, done.err) == (1, "error: cannot read image: not an image of a known format\n")
    names = ["00000000", "00000001", "00000002", "00000004", "00000005"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "metrics.csv"]
    assert json.loads((tmp_path / "out" / names[3] / "metrics.json").read_text())["image"] == f"{path} row 4"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "name images and folders, or a data set with --data"),
        (["photo.png", "--data", "set.parquet"], 2, "but not both"),
        (["--data", "missing.parquet"], 1, "error: no such file or folder: missing.parquet\n"),
        (
            ["photo.png", "--devices", "2", "--device", "cuda:1"],
            1,
            "error: --device cuda:1 cannot be shared out.",
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
