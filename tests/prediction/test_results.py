"""Results of different settings do not mix: through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import publish_tiny, remove_checksum
from predictions import Run, changes, files, metrics, picture, table

from inverters.inversion.runner import MethodRunner


@pytest.fixture
def options(tiny_checkpoints: Path, tmp_path: Path) -> list[str]:
    """A quick encoder, tiny decoders, results in `out`."""
    publish_tiny(tiny_checkpoints, ("relu2_1",), objective="perceptual")
    return ["--weights", "random", "--checkpoints", str(tiny_checkpoints), "--output-dir", str(tmp_path / "out")]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--objective", "perceptual"], "method (decoder, now perceptual)"),
        (["--methods", "decoder,lbfgs", "--iterations", "1"], "method (decoder, now decoder, lbfgs)"),
        (["--refine", "1"], "method (decoder, now decoder+lbfgs)"),
        (["--size", "16"], "size (512, now 16)"),
        (["--size", "full"], "size (512, now full)"),
        (["--layers", "relu2_1"], "layers (relu1_1,relu2_1, now relu2_1)"),
        (["--layers", "relu2_1", "--size", "16"], "layers (relu1_1,relu2_1, now relu2_1), size (512, now 16)"),
    ],
)
def test_results_made_in_another_way_are_not_overwritten(
    invert: Run, options: list[str], tmp_path: Path, change: list[str], difference: str
) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    invert("predict", source, *options)
    before = changes(folder)
    for skip in ([], ["--skip-existing"]):
        status, out, err = invert("predict", source, *options, *change, *skip)
        assert (status, out) == (1, "")
        assert err == (
            f"error: {source}: {folder} holds other results: {difference}. Use --overwrite or another --output-dir\n"
        )
        assert changes(folder) == before
    assert invert("predict", source, *options, *change, "--overwrite").status == 0
    made = metrics(folder)["methods"]
    names = [
        layer if method == "decoder" else f"{layer}-{method}" for method in made for layer in made[method]["layers"]
    ]
    assert files(folder) == sorted(["depth.png", "metrics.json", *(f"{name}.png" for name in names)])


def test_fewer_corrections_are_other_results(invert: Run, tmp_path: Path) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    publish_tiny(tmp_path / "corrected", corrections=2)
    publish_tiny(tmp_path / "bases")
    options = ["--weights", "random", "--output-dir", tmp_path / "out", "--overwrite"]
    seen = {}
    for limit in ("all", "5", "2", "1", "0"):
        some = [] if limit == "all" else ["--corrections", limit]
        assert invert("predict", source, *options, "--checkpoints", tmp_path / "corrected", *some).status == 0
        seen[limit] = (folder / "relu2_1.png").read_bytes()
        assert metrics(folder)["methods"]["decoder"]["corrections"] == (None if limit == "all" else int(limit))
    assert seen["all"] == seen["5"] == seen["2"] != seen["1"] != seen["0"]
    refused = invert("predict", source, *options[:-1], "--checkpoints", tmp_path / "corrected")
    assert f"{folder} holds other results: corrections (0, now all). Use --overwrite" in refused.err
    invert("predict", source, *options, "--checkpoints", tmp_path / "bases")
    assert (folder / "relu2_1.png").read_bytes() == seen["0"]
    assert invert("predict", source, *options, "--corrections", "-1").status == 2


def test_other_weights_are_told_without_their_digest(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    invert("predict", source, *options)
    publish_tiny(tmp_path / "others", weights="random-1")
    other = ["--weights", "random-1", "--checkpoints", tmp_path / "others", *options[-2:]]
    assert "holds other results: weights (random, now random-1). Use" in invert("predict", source, *other).err
    _perturb(tmp_path / "tiny-checkpoints" / "vgg19-random" / "relu1_1" / "model.safetensors")
    assert "holds other results: the values of the weights. Use" in invert("predict", source, *options).err


def _perturb(weights: Path) -> None:
    remove_checksum(weights.parent)
    from safetensors.torch import load_file, save_file

    save_file({key: value + 1 if key == "mean" else value for key, value in load_file(weights).items()}, weights)


def test_the_results_of_another_image_are_not_overwritten(invert: Run, options: list[str], tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a" / "photo.png"), picture(tmp_path / "b" / "photo.png", seed=1)
    folder = tmp_path / "out" / "photo"
    invert("predict", first, *options)
    status, _, err = invert("predict", second, *options)
    assert status == 1
    assert f"{folder} holds other results: image ({first}, now {second}). Use --overwrite" in err
    assert invert("predict", second, *options, "--overwrite").status == 0
    assert metrics(folder)["image"] == str(second)


def test_a_relative_path_is_the_same_image(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture(tmp_path / "photo.png")
    invert("predict", source, *options)
    monkeypatch.chdir(tmp_path)
    assert invert("predict", "photo.png", *options).status == 0


@pytest.mark.parametrize("content", ['{"image": "photo.png", "layers": {"relu1_1": {"psnr": 1.0}}}', "{", "[]", "3"])
def test_results_of_an_earlier_version_are_not_overwritten(
    invert: Run, options: list[str], tmp_path: Path, content: str
) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(content)
    picture(folder / "relu5_1.png")
    picture(folder / "mine.png")
    status, _, err = invert("predict", source, *options)
    assert status == 1
    assert f"{folder} holds other results: metrics.json is damaged or of an earlier version. Use --overwrite" in err
    assert invert("predict", source, *options, "--overwrite").status == 0
    assert files(folder) == ["depth.png", "metrics.json", "mine.png", "relu1_1.png", "relu2_1.png"]


def test_the_older_metrics_go_first(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"
    invert("predict", source, *options)
    seen: list[list[str]] = []
    from inverters.files import atomic_write

    def watch(path: Path, data: bytes | str) -> None:
        seen.append(files(folder))
        atomic_write(path, data)

    monkeypatch.setattr("inverters.inversion.saved.atomic_write", watch)
    assert invert("predict", source, *options, "--layers", "relu2_1", "--overwrite").status == 0
    assert seen[0] == ["depth.png", "relu2_1.png"]
    assert files(folder) == ["depth.png", "metrics.json", "relu2_1.png"]


@pytest.mark.parametrize("damage", ["a picture is missing", "a picture is cut", "the photograph was replaced"])
def test_only_whole_results_of_the_same_photograph_are_skipped(
    invert: Run, options: list[str], tmp_path: Path, damage: str
) -> None:
    source, folder = picture(tmp_path / "photo.png"), tmp_path / "out" / "photo"

    def existing() -> int:
        return int(json.loads(invert("predict", source, *options, "--skip-existing", "--json").out)["existing"])

    assert [existing(), existing()] == [0, 1]
    if damage == "a picture is missing":
        (folder / "relu1_1.png").unlink()
    elif damage == "a picture is cut":
        (folder / "depth.png").write_bytes((folder / "depth.png").read_bytes()[:-9])
    else:
        picture(source, seed=1)
    assert [existing(), existing()] == [0, 1]


def test_a_photograph_that_is_replaced_while_it_is_inverted(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results are those of the one that was read, so they are not whole for the new one."""
    source = picture(tmp_path / "photo.png")
    run = MethodRunner.run

    def replaced(self: MethodRunner, *arguments: Any) -> Any:
        picture(source, seed=1)
        return run(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MethodRunner, "run", replaced)
        invert("predict", source, *options)
    before = changes(tmp_path / "out" / "photo")
    assert invert("predict", source, *options, "--skip-existing").status == 0
    assert changes(tmp_path / "out" / "photo") != before


def test_results_that_cannot_be_completed_leave_no_pictures(
    invert: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inverters.errors import StorageError
    from inverters.files import atomic_write

    def full(path: Path, data: bytes | str) -> None:
        if path.name == "metrics.json":
            raise StorageError(f"cannot write {path}: No space left on device")
        atomic_write(path, data)

    monkeypatch.setattr("inverters.inversion.saved.atomic_write", full)
    status, _, err = invert("predict", picture(tmp_path / "photo.png"), *options)
    assert status == 1
    assert err == f"error: cannot write {tmp_path / 'out' / 'photo' / 'metrics.json'}: No space left on device\n"
    assert files(tmp_path / "out" / "photo") == []


def test_optimizations_do_not_overwrite_one_another(invert: Run, options: list[str], tmp_path: Path) -> None:
    source = picture(tmp_path / "photo.png")
    run = ["optimize", source, *options, "--layer", "relu2_1", "--iterations", "1"]
    assert invert(*run, "--seed", "1").status == 0
    for change, difference in [
        (["--init", "decoder"], "method (lbfgs, now decoder+lbfgs)"),
        (["--init", "grey"], "method (lbfgs, now lbfgs-grey)"),
        (["--preset", "mahendran-vedaldi"], "method (lbfgs, now mahendran-vedaldi)"),
        (["--seed", "2"], "seed (1, now 2)"),
        (["--seed", "1", "--iterations", "2"], "iterations (1, now 2)"),
    ]:
        status, out, err = invert(*run, *change)
        assert (status, out) == (1, "")
        assert f"holds other results: {difference}. Use --overwrite" in err
    assert invert(*run, "--init", "decoder", "--overwrite", "--quiet") == (0, "", "")
    assert files(tmp_path / "out" / "photo") == ["depth.png", "metrics.json", "relu2_1-decoder+lbfgs.png"]
    document = json.loads(invert(*run, "--init", "decoder", "--json").out)
    assert document["images"][0]["methods"]["decoder+lbfgs"]["init"] == "decoder"


def test_the_table_keeps_the_rows_of_earlier_runs(invert: Run, options: list[str], tmp_path: Path) -> None:
    sources = [picture(tmp_path / f"{name}.png", seed=seed) for seed, name in enumerate("dcba")]
    out = tmp_path / "out"
    invert("predict", *sources[:2], *options)
    assert [row["folder"] for row in table(out)] == ["d", "c"]
    invert("predict", sources[2], *options, "--size", "16", "--layers", "relu2_1")
    rows = table(out)
    assert [row["folder"] for row in rows] == ["b", "c", "d"]
    assert [row["size"] for row in rows] == ["16", "512", "512"]
    assert [bool(row["psnr_relu1_1"]) for row in rows] == [False, True, True]
    for key, value in {"encoder": "vgg19", "weights": "random", "method": "decoder", "objective": "pixel"}.items():
        assert {row[key] for row in rows} == {value}
    (out / "c" / "metrics.json").unlink()
    (out / "unrelated").mkdir()
    methods = ["--methods", "decoder,lbfgs", "--iterations", "1", "--layers", "relu2_1"]
    invert("predict", sources[3], *options, *methods)
    rows = table(out)
    assert [(row["folder"], row["method"]) for row in rows] == [
        *(("a", "decoder"), ("a", "lbfgs"), ("b", "decoder"), ("d", "decoder"))
    ]
    assert (rows[1]["init"], rows[1]["preset"], rows[1]["iterations"], rows[1]["seed"]) == ("noise", "gatys", "1", "0")
