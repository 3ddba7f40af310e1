"""`invert predict --format parquet`, through the command line."""

from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import photographs, publish_tiny
from PIL import Image
from predictions import Run, changes, files
from skimage.metrics import peak_signal_noise_ratio

from inverters.prediction import parquet

LAYERS = ("relu1_1", "relu2_1")
NAMES = [f"images-0000{number}-of-00003.parquet" for number in range(3)]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of two images."""
    monkeypatch.setattr(parquet, "SHARD", 2)


@pytest.fixture
def options(tiny_checkpoints: Path) -> list[str]:
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--format", "parquet"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs, and a file that is none, in their midst."""
    folder = photographs(tmp_path / "photographs", 5)
    (folder / "2a.png").write_text("no image")
    return folder


def test_files_hold_what_folders_hold(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    invert("predict", folder, *options[:-2], "--output-dir", tmp_path / "folders")
    done = invert("predict", folder, *options, "--output-dir", out)
    problems = [line for line in done.err.splitlines() if not line.startswith("inverted ")]
    assert (done.status, problems) == (1, [f"error: cannot read {folder}/2a.png: not an image of a known format"])
    assert done.out.splitlines()[-1] == f"inverted 5 images, 0 existed, 1 failed; wrote {out}"
    assert files(out) == NAMES

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


def test_complete_files_are_skipped(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["predict", folder, *options, "--output-dir", out, "--skip-existing"]
    invert(*arguments)
    (out / NAMES[1]).unlink()
    before = changes(out)
    assert invert(*arguments).out.splitlines()[-1] == f"inverted 1 images, 4 existed, 1 failed; wrote {out}"
    after = changes(out)
    assert [name for name in NAMES if after[name] != before.get(name)] == [NAMES[1]]
    nothing_left = invert(*arguments)
    assert nothing_left == (0, "inverted 0 images, 6 existed, 0 failed\n", "")


def test_files_of_photographs_that_were_replaced_are_not_skipped(
    invert: Run, options: list[str], folder: Path, tmp_path: Path
) -> None:
    arguments = ["predict", folder, *options, "--output-dir", tmp_path / "out", "--skip-existing"]
    invert(*arguments)
    Image.new("RGB", (48, 40), "red").save(folder / "3.png")
    Image.new("RGB", (48, 40), "red").save(folder / "2a.png")  # could not be read before
    assert invert(*arguments).out.splitlines()[-1].startswith("inverted 4 images, 2 existed, 0 failed")
    assert invert(*arguments) == (0, "inverted 0 images, 6 existed, 0 failed\n", "")


def test_several_methods_are_columns(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    publish_tiny(Path(options[3]), ("relu2_1",), objective="perceptual")
    out = tmp_path / "out"
    invert("predict", folder, *options, "--output-dir", out, "--methods", "decoder,perceptual")
    pictures = ["relu1_1", "relu2_1", "relu2_1-perceptual"]
    scores = [f"{score}_{name}" for score in ("psnr", "feature_error", "percentile") for name in pictures]
    expected = ["name", "source", "width", "height", "image", *pictures, *scores]
    assert pq.read_schema(out / NAMES[0]).names == expected


def test_row_groups_hold_many_images(
    invert: Run, options: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SHARD", 6)
    invert("predict", folder, *options, "--output-dir", tmp_path / "one")
    (path,) = (tmp_path / "one").iterdir()
    assert (pq.ParquetFile(path).num_row_groups, pq.read_table(path).num_rows) == (1, 5)
    monkeypatch.setattr(parquet, "GROUP_BYTES", sum(file.stat().st_size for file in folder.iterdir()))
    invert("predict", folder, *options, "--output-dir", tmp_path / "few")
    (path,) = (tmp_path / "few").iterdir()
    assert 1 < pq.ParquetFile(path).num_row_groups < 5
    assert pq.read_table(path)["name"].to_pylist() == ["0", "1", "2", "3", "4"]


def test_each_file_is_opened_once_to_be_skipped(
    invert: Run, options: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["predict", folder, *options, "--output-dir", tmp_path / "out", "--skip-existing", "--quiet"]
    invert(*arguments)
    opened: list[Path] = []

    class Counted(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(parquet.pq, "ParquetFile", Counted)
    monkeypatch.setattr(parquet.pq, "read_schema", lambda *_: pytest.fail("opens a file again"))
    assert invert(*arguments) == (0, "", "")
    assert sorted(path.name for path in opened) == NAMES


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--size", "16"], "size (512, now 16)"),
        (["--layers", "relu1_1"], "layers (relu1_1,relu2_1, now relu1_1)"),
        (["--refine", "1"], "method (decoder, now decoder+lbfgs)"),
    ],
)
def test_files_made_in_another_way_are_not_overwritten(
    invert: Run, options: list[str], folder: Path, tmp_path: Path, change: list[str], difference: str
) -> None:
    out = tmp_path / "out"
    arguments = ["predict", folder, *options, "--output-dir", out]
    invert(*arguments)
    before = changes(out)
    for skip in ([], ["--skip-existing"]):
        status, stdout, err = invert(*arguments, *change, *skip)
        assert (status, stdout) == (1, "")
        assert err == (
            f"error: {out / NAMES[0]} holds other results: {difference}. Use --overwrite or another --output-dir\n"
        )
    assert changes(out) == before
    assert "inverted 5 images" in invert(*arguments, *change, "--overwrite").out
    assert files(out) == NAMES


def test_files_of_other_images_are_not_mixed(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    others = photographs(tmp_path / "others", 6, seed=1)
    invert("predict", folder, *options, "--output-dir", out)
    err = invert("predict", others, *options, "--output-dir", out, "--skip-existing").err
    assert f"{NAMES[0]} holds other results: image {folder / '0.png'}. Use --overwrite" in err
    (folder / "3.png").unlink()
    (folder / "4.png").unlink()
    err = invert("predict", folder, *options, "--output-dir", out, "--skip-existing").err
    assert f"{NAMES[0]} holds other results: another number of images. Use --overwrite" in err
    assert invert("predict", folder, *options, "--output-dir", out, "--overwrite").status == 1
    assert files(out) == ["images-00000-of-00002.parquet", "images-00001-of-00002.parquet"]


def test_a_damaged_file_is_not_overwritten(invert: Run, options: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / NAMES[1]).write_text("damaged")
    err = invert("predict", folder, *options, "--output-dir", out).err
    assert f"{NAMES[1]} holds other results: it is damaged or of an earlier version. Use --overwrite" in err


def test_a_full_disk_is_one_line_and_leaves_no_part(
    invert: Run, options: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet.pq.ParquetWriter, "write_table", full)
    status, _, err = invert("predict", folder, *options, "--output-dir", tmp_path / "out", "--quiet")
    assert status == 1
    assert err == f"error: cannot write {tmp_path / 'out' / NAMES[0]}: No space left on device\n"
    assert files(tmp_path / "out") == []
