"""Names and folders that stop nothing else, and results that go where they should, through the command line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Outcome, photographs
from filelock import FileLock

from inverters.decoders.card import CARD_FILE
from inverters.evaluation.scores import IMAGE_METRICS

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations start sooner without it."""
    monkeypatch.delitem(IMAGE_METRICS, "agreement")


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str | Path]:
    made = ["--weights", "random", "--checkpoints", tiny_checkpoints, "--device", "cpu", "--layers", "relu1_1"]
    return [*made, "--size", "32", "-o", tmp_path / "out"]


def errors(outcome: Outcome) -> list[str]:
    assert "Traceback" not in outcome.err
    return [line.removeprefix("error: ") for line in outcome.err.splitlines() if line.startswith("error: ")]


def inverted(out: Path) -> list[str]:
    return sorted(path.parent.name for path in out.glob("*/metrics.json"))


@pytest.mark.parametrize("taken", ["0", "0/depth.png/x", "0/relu1_1.png/x"])
def test_a_name_that_is_taken_costs_one_image(
    invert: Run, options: list[str | Path], tmp_path: Path, taken: str
) -> None:
    file = tmp_path / "out" / taken
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    done = invert("predict", photographs(tmp_path / "in", 2), *options)
    (error,) = errors(done)
    assert (done.status, inverted(tmp_path / "out")) == (1, ["1"])
    assert error.startswith(f"{tmp_path}/in/0.png: cannot ")
    assert file.read_text() == "mine"


def test_a_full_disk_ends_the_run(
    invert: Run, options: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    done = invert("predict", photographs(tmp_path / "in", 9), *options)
    assert done.status == 1
    assert len(errors(done)) == 1
    assert errors(done)[0].endswith(": No space left on device")


def test_names_of_tables_and_parents_are_no_folders(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    folder = photographs(tmp_path / "in", 3)
    names = ["metrics.csv.png", "..png", "...png"]  # whose stems are the table, the output folder, and its parent
    for number, name in enumerate(names):
        (folder / f"{number}.png").rename(folder / name)
    done = invert("predict", *(folder / name for name in names), *options)
    assert (done.status, errors(done)) == (0, [])
    assert len(inverted(tmp_path / "out")) == 3
    assert (tmp_path / "out" / "metrics.csv").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "tiny-checkpoints"]


def test_an_unreadable_subfolder_is_named(
    invert: Run, options: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photographs(tmp_path / "in", 1)
    photographs(folder / "closed", 1)
    scan = os.scandir

    def refuse(path: str) -> object:  # permissions do not stop the superuser, who may run the tests
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = invert("predict", folder, *options)
    assert (done.status, inverted(tmp_path / "out")) == (1, ["0"])
    assert errors(done) == [f"cannot read folder {folder}/closed: Permission denied"]
    done = invert("evaluate", "--data", folder, *options, "--methods", "decoder")
    assert errors(done) == [f"cannot read folder {folder}/closed: Permission denied"]  # else its means would differ


def test_names_that_are_not_utf_8(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    folder = photographs(tmp_path / "in", 1)
    (folder / "0.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    assert errors(invert("predict", folder, *options)) == []
    done = invert("evaluate", "--data", folder, *options[:-1], tmp_path / "evaluation", "--methods", "decoder")
    assert (done.status, errors(done)) == (0, [])
    assert "\\xff.png" in (tmp_path / "evaluation" / "results.csv").read_text()


def test_a_damaged_card_of_another_layer_stops_nothing(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    card = tmp_path / "tiny-checkpoints" / "vgg19-random" / "relu2_1" / CARD_FILE
    card.write_text("{")
    photograph = photographs(tmp_path / "in", 1) / "0.png"
    assert invert("predict", photograph, *options).status == 0
    listed = invert("layers", *options[:4])
    assert listed.status == 1
    assert errors(listed)[0].startswith(f"cannot read {card}: ")
    assert "│ relu1_1 │" in listed.out
    (error,) = errors(invert("predict", photograph, *options, "--layers", "relu2_1", "--overwrite"))
    assert error.startswith(f"cannot read {card}: ")


@pytest.mark.parametrize("spelling", ["in/out", "in/../in/out", "link/out", "out-link"])
def test_results_in_the_folder_of_images_are_not_inverted_again(
    invert: Run, options: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "in", 1)
    Path("link").symlink_to("in")
    Path("out-link").symlink_to("in/out")
    Path("in/out").mkdir()
    for source in ("in", "link", "in/../in"):
        done = invert("predict", source, *options[:-1], spelling, "--overwrite")
        assert (done.status, errors(done), inverted(Path("in/out"))) == (0, [], ["0"])


@pytest.mark.parametrize("path", ["~nosuchuser/x", "x" * 300, "x" * 300 + ".png", "in/**.png", "a\0b", "["])
def test_paths_that_cannot_be(invert: Run, options: list[str | Path], path: str) -> None:
    edit, optimize = ["--edit", "drop=0.5"], ["--layer", "relu1_1"]
    commands = [
        ["predict", path],
        ["predict", "--data", path],
        ["evaluate", "--data", path],
        ["edit", path, *edit],
        ["optimize", path, *optimize],
        ["train", path],
        ["cards", path],
        ["layers", "--checkpoints", path],
        ["layers", "--weights", path],
    ]
    for command in commands:
        done = invert(*command, *(options[-2:] if command[0] not in ("layers", "cards") else ()))
        assert done.status in (1, 2), command
        assert len(errors(done)) == (done.status == 1), command


def test_an_empty_name_is_no_data_set(invert: Run, options: list[str | Path]) -> None:
    for command in ("predict", "evaluate"):
        assert errors(invert(command, "--data", "", *options)) == ["the name of a data set is empty"]


def test_a_finished_run_is_not_overwritten(invert: Run, settings: Callable[..., object], tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings(objective="linear", trainer={"steps": 2})))
    assert invert("train", config, "-o", tmp_path / "run", "-q").status == 0
    (error,) = errors(invert("train", config, "-o", tmp_path / "run", "-q"))
    assert error == f"{tmp_path / 'run' / 'checkpoints'} already holds decoders: use another --output-dir"


def test_one_run_at_a_time_writes_into_a_folder(
    invert: Run, options: list[str | Path], settings: Callable[..., object], tmp_path: Path
) -> None:
    out, photograph = tmp_path / "out", photographs(tmp_path / "in", 1) / "0.png"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings()))
    commands = [
        ["predict", photograph, *options],
        ["predict", photograph, *options, "--format", "parquet"],
        ["evaluate", "--data", photograph, *options, "--methods", "decoder"],
        ["train", tmp_path / "run.yaml", "-o", out],
    ]
    out.mkdir()
    with FileLock(out / ".lock"):
        for command in commands:
            (error,) = errors(invert(*command))
            assert error == f"another run writes into {out}: wait until it ends, or name another folder", command
    assert invert(*commands[0]).status == 0


def test_what_killed_runs_leave_is_removed(invert: Run, options: list[str | Path], tmp_path: Path) -> None:
    out, photograph = tmp_path / "out", photographs(tmp_path / "in", 1) / "0.png"
    left = [out / f".{'0' * 32}.part", out / "records" / "0" / f".{'1' * 32}.part"]
    left[0].parent.mkdir()
    left[0].write_text("half")
    assert invert("evaluate", "--data", photograph, *options, "--methods", "decoder").status == 0
    (out / "records" / "0" / "relu1_1.decoder.json").unlink()
    left[1].write_text("half")
    assert invert("evaluate", "--data", photograph, *options, "--methods", "decoder").status == 0
    assert not list(out.rglob(".*"))
