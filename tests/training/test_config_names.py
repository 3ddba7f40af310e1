"""Configurations that come with the package, by name; through the command line where its output shows the choice."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome

from inverters.errors import ConfigError, UnknownNameError
from inverters.training.config_names import find_config, shipped_configs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_shipped_configuration_has_a_name() -> None:
    assert list(shipped_configs())[:2] == ["finetune", "imagenet"]  # the examples first, then the folder `shipped`
    assert set(shipped_configs().values()) == set((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("name", ["quickstart", "shipped/relu5_2-224"])
def test_a_name_is_found_from_any_folder(name: str) -> None:
    assert find_config(Path(name)) == ROOT / "configs" / f"{name}.yaml"


def test_a_file_is_preferred_to_a_name(elsewhere: Path) -> None:
    (elsewhere / "quickstart").write_text("")
    assert find_config(Path("quickstart")) == Path("quickstart")


def test_a_folder_of_that_name_does_not_hide_it(elsewhere: Path) -> None:
    (elsewhere / "quickstart").mkdir()
    assert find_config(Path("quickstart")).name == "quickstart.yaml"


def test_unknown_names(invert: Callable[..., Outcome]) -> None:
    status, _, err = invert("train", "quikstart")
    assert status == 1
    assert err.startswith("error: unknown configuration 'quikstart': did you mean 'quickstart'? Valid: finetune, ")
    with pytest.raises(UnknownNameError, match=r"there is no such name\. Valid: finetune,"):
        find_config(Path("zzz"))


def test_a_path_is_not_taken_for_a_name(invert: Callable[..., Outcome]) -> None:
    assert invert("train", "mine.yaml").err == "error: mine.yaml: no such file\n"
    with pytest.raises(ConfigError, match=r"^configs/vgg19\.yaml: no such file; invert train vgg19 takes the one that"):
        find_config(Path("configs/vgg19.yaml"))


def test_the_run_is_named_after_the_configuration(invert: Callable[..., Outcome], elsewhere: Path) -> None:
    quick = "layers=relu1_2 trainer.steps=1 data.crop_size=32 data.batch_size=1 data.workers=0"
    result = invert("train", "quickstart", *(f"--set={change}" for change in quick.split()))
    assert result.status == 0, result.err
    assert (elsewhere / "runs/quickstart/checkpoints/vgg19-original/relu1_2/config.json").exists()
