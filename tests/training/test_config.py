import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Outcome
from hooks import comments
from pydantic import BaseModel

from inverters.encoders.names import list_layers
from inverters.errors import ConfigError
from inverters.training.config import TrainConfig
from inverters.training.config_file import load_config

CONFIGS = Path(__file__).parents[2] / "configs"

LAUGHS = "".join(["a0: &a0 [ha]\n", *(f"a{n + 1}: &a{n + 1} [{f'*a{n}, ' * 9}]\n" for n in range(9))]).encode()
GOOD = """\
layers: [relu1_2]
data: {train: photographs, validation: others}
trainer: {steps: 10}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(GOOD)
    return file


def mistakes(path: Path, *overrides: str) -> list[str]:
    """The lines of the error, without the file's name, which each of them begins with."""
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def mistake(path: Path, *overrides: str) -> str:
    (line,) = mistakes(path, *overrides)
    return line


# What is right


def test_the_smallest_config(path: Path) -> None:
    config = load_config(path)
    assert config.layers == ["relu1_2"]
    assert config.data.train == ["photographs"]
    assert config.trainer.steps == 10
    assert config.encoder.name == "vgg19"
    assert config.optimizer.learning_rate == 1e-3
    assert config.decoder.stages == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[relu4_2, relu1_2]", ["relu1_2", "relu4_2"]),  # shallowest first
        ("relu1_2,relu4_2", ["relu1_2", "relu4_2"]),
        ("relu4_2 , relu1_2,relu4_2", ["relu1_2", "relu4_2"]),
        ("conv1_1", ["conv1_1"]),
        ("all", list(list_layers("vgg19"))),
    ],
)
def test_layers(path: Path, value: str, expected: list[str]) -> None:
    assert load_config(path, [f"layers={value}"]).layers == expected
    path.write_text(GOOD.replace("[relu1_2]", value))
    assert load_config(path).layers == expected


def test_all_layers_of_another_encoder(path: Path) -> None:
    layers = load_config(path, ["layers=all", "encoder.name=vgg16_bn"]).layers
    assert layers == list(list_layers("vgg16_bn"))
    assert "relu3_3" in layers
    assert "relu3_4" not in layers


def test_stages(path: Path) -> None:
    path.write_text(GOOD + "decoder: {stages: {8: [[64, 2], [32, 0]], 1: [[16, 1]]}}\n")
    assert load_config(path).decoder.stages == {8: [(64, 2), (32, 0)], 1: [(16, 1)]}
    config = load_config(path, ["decoder.stages.8=[[4, 1]]", "decoder.stages.2=[[8, 1], [8, 1]]"])
    assert config.decoder.stages == {8: [(4, 1)], 1: [(16, 1)], 2: [(8, 1), (8, 1)]}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.learning_rate=1e-4", 1e-4),  # to YAML a string
        ("optimizer.learning_rate=3", 3.0),
        ("optimizer.learning_rate=2.5E-3", 2.5e-3),
        ("data.train=[a, b]", ["a", "b"]),
        ("data.train=a=b.parquet", ["a=b.parquet"]),
        ("data.streaming=true", True),
        ("data.validation_limit=null", None),
        ("data.validation_limit=7", 7),
        ("trainer.precision=bf16-mixed", "bf16-mixed"),
        ("data.scale=[0.6, 1]", (0.6, 1.0)),
        ("seed=3", 3),
    ],
)
def test_set(path: Path, override: str, expected: Any) -> None:
    value: Any = load_config(path, ["data.validation_limit=5", override])
    for name in override.partition("=")[0].split("."):
        value = getattr(value, name)
    assert value == expected


def test_the_last_set_wins(path: Path) -> None:
    assert load_config(path, ["seed=1", "seed=2"]).seed == 2


def test_merge_keys(path: Path) -> None:
    path.write_text("data: &data {train: a, validation: b}\nlayers: relu1_2\ntrainer: {steps: 1}\n")
    base = path.read_text()
    path.write_text(
        base.replace("data: &data", "data:\n  <<: {crop_size: 64, workers: 3}\n  crop_size: 96\n  <<: &data")
    )
    config = load_config(path)
    assert (config.data.train, config.data.crop_size, config.data.workers) == (["a"], 96, 3)


# What is wrong


def test_all_mistakes_at_once(path: Path) -> None:
    path.write_text("""\
encoder: {name: vgg19, wieghts: original}
layers: [relu1_2, relu1_22, fc7]
decoder: {stages: {3: [[8, 1]]}}
loss: {pixel: -1, feature: .nan}
data: {train: a, validaton: b, batch_size: 0, workers: x, streaming: maybe}
optimiser: {learning_rate: 1e-4}
optimizer: {ema_decay: 1.0}
trainer: {precision: bf16, devices: 1.5}
seed: -1
""")
    found = mistakes(path)
    assert [line.partition(": ")[0] for line in found] == [
        "encoder.wieghts", "layers.1", "layers.2", "decoder.stages.3", "loss.pixel", "loss.feature", "data.validation",
        "data.streaming", "data.batch_size", "data.workers", "data.validaton", "optimizer.ema_decay",
        "trainer.steps", "trainer.precision", "trainer.devices", "seed", "optimiser",
    ]  # fmt: skip
    for expected in (
        "encoder.wieghts: unknown key; did you mean 'weights'?",
        "decoder.stages.3: no layer of vgg19 has this stride. Valid: 1, 2, 4, 8, 16, 32 (got 3)",
        "loss.pixel: Input should be greater than or equal to 0 (got -1)",
        "data.validation: missing",
        "data.validaton: unknown key; did you mean 'validation'?",
        "trainer.steps: missing",
        "trainer.precision: Input should be 'auto', '32-true' or 'bf16-mixed' (got 'bf16')",
        "optimiser: unknown key; did you mean 'optimizer'?",
    ):
        assert expected in found
    assert found[1].startswith("layers.1: unknown layer of vgg19 'relu1_22': did you mean 'relu1_2'? Valid: conv1_1, ")
    assert found[2].startswith("layers.2: unknown layer of vgg19 'fc7': there is no such name. Valid: conv1_1, ")


def test_an_unknown_key_without_a_neighbour(path: Path) -> None:
    assert mistake(path, "loss.zzz=1").startswith("loss.zzz: unknown key; valid keys: pixel, feature, ")
    assert mistake(path, "zzz.pixel=1") == f"zzz: unknown key; valid keys: {', '.join(TrainConfig.model_fields)}"


def test_an_unknown_encoder(path: Path) -> None:
    line = mistake(path, "encoder.name=vgg91")
    assert line.startswith("encoder.name: unknown encoder 'vgg91': did you mean 'vgg19'? Valid: vgg16, vgg16_bn, vgg19")
    assert mistake(path, "encoder.name=vgg91", "layers=all").startswith("encoder.name: unknown encoder")
    assert mistakes(path, "encoder.name=vgg91", "layers=fc7")[1].startswith("layers.0: unknown layer of vgg19 'fc7'")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("layers=relu3_4", "layers.0: unknown layer of vgg16 'relu3_4': did you mean 'relu3_3'? Valid: "),
        ("layers=", "layers: Input should be a valid list"),
        ("layers=[]", "layers: List should have at least 1 item"),
        ("layers='relu1_2,'", "layers.1: unknown layer of vgg16 '': "),
        ("layers=[1]", "layers.0: Input should be a valid string (got 1)"),
        ("layers={a: 1}", "layers: Input should be a valid list"),
        ("data.train=[]", "data.train: List should have at least 1 item"),
        ("data=3", "data: Input should be a valid dictionary or instance of DataConfig (got 3)"),
        ("decoder.stages.4=[[1,1],[1,1],[1,1],[1,1]]", "decoder.stages: stride 4 has 4 stages; possible are 1 to 3"),
        ("decoder.stages.4=[]", "decoder.stages: stride 4 has 0 stages; possible are 1 to 3"),
        ("decoder.stages.-1=[[1, 1]]", "decoder.stages.-1: Input should be greater than 0 (got '-1')"),
        ("decoder.stages.64=[[1, 1]]", "decoder.stages.64: no layer of vgg16 has this stride. Valid: 1, 2, 4, 8, 16"),
        ("data.crop_size=100", "data.crop_size: must be a multiple of 32 (got 100)"),
        ("decoder.correction_sizes.64=[8, 1]", "decoder.correction_sizes.64: no layer of vgg16 has this stride."),
        ("decoder.corrections=-1", "decoder.corrections: Input should be greater than or equal to 0 (got -1)"),
        ("data.scale=[0.5, 1.5]", "data.scale.1: Input should be less than or equal to 1 (got 1.5)"),
        ("data.scale=[1.0, 0.5]", "data.scale: the smaller factor comes first: [0.5, 1.0]"),
        ("decoder.stages.4=[[0, 1]]", "decoder.stages.4.0.0: Input should be greater than 0 (got 0)"),
        ("decoder.stages.4=[[1, -1]]", "decoder.stages.4.0.1: Input should be greater than or equal to 0 (got -1)"),
        ("decoder.stages.4=[[1]]", "decoder.stages.4.0.1: missing"),
        ("loss={pixel: 0, feature: 0}", "loss: pixel, feature and perceptual are all 0: nothing ties a reconstruction"),
        ("objective=perceptual", "loss: objective is perceptual, but feature, perceptual and adversarial are all 0"),
        ("loss.perceptual=0.1", "loss.perceptual: must be 0 for objective pixel; set objective: perceptual to train"),
        ("loss.feature=1", "loss.feature: must be 0 for objective pixel; set objective: perceptual to train with it"),
        ("loss.adversarial=1", "loss.adversarial: must be 0 for objective pixel; set objective: perceptual to train"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: Input should be greater than 0 (got 0)"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate: Input should be a finite number (got inf)"),
        ("optimizer.learning_rate=1e+300", "optimizer.learning_rate: Input should be less than or equal to 1"),
        ("trainer.steps=1.0e+300", "trainer.steps: Unable to parse input string as an integer, exceeded maximum"),
        ("data.crop_size=65536", "data.crop_size: Input should be less than or equal to 65535 (got 65536)"),
        ("data.workers=2000", "data.workers: Input should be less than or equal to 1024 (got 2000)"),
        ("decoder.stages.4=[[100000000, 1]]", "decoder.stages.4.0.0: Input should be less than or equal to 8192"),
        ("decoder.stages.4=[[1, 100000000]]", "decoder.stages.4.0.1: Input should be less than or equal to 64"),
        ("decoder.corrections=65", "decoder.corrections: Input should be less than or equal to 64 (got 65)"),
        ("seed=true", "seed: Input should be a number (got True)"),
        ("trainer.steps=true", "trainer.steps: Input should be a number (got True)"),
        ("optimizer.learning_rate=false", "optimizer.learning_rate: Input should be a number (got False)"),
        ("linear.kernel_size=true", "linear.kernel_size: Input should be a number (got True)"),
        ("decoder.stages.4=[[true, 1]]", "decoder.stages.4.0.0: Input should be a number (got True)"),
        ("data.streaming=1", "data.streaming: Input should be a valid boolean (got 1)"),
        ("decoder.compress=1.0", "decoder.log_compress: Input should be a valid boolean (got 1.0)"),
        ("seed=-9223372036854775809", "seed: Input should be greater than or equal to 0 (got -9223372036854775809)"),
        (f"seed=0x{'f' * 5000}", "seed: Input should be less than 4294967296 (got an integer of 20000 bits)"),
        (f"seed='{'1' * 5000}'", "seed: Unable to parse input string as an integer, exceeded maximum size (got '111"),
        (f"seed={'1' * 4000}", f"seed: Input should be less than 4294967296 (got {'1' * 80}…)"),
        (f"optimizer.learning_rate=1{'0' * 400}", "optimizer.learning_rate: Input should be a valid number (got 1000"),
        ("seed=4294967296", "seed: Input should be less than 4294967296 (got 4294967296)"),
        ("trainer.steps=0", "trainer.steps: Input should be greater than 0 (got 0)"),
        ("trainer.steps=1.5", "trainer.steps: Input should be a valid integer, got a number with a fractional part"),
    ],
)  # fmt: skip
def test_mistakes(path: Path, override: str, expected: str) -> None:
    assert mistake(path, "encoder.name=vgg16", override).startswith(expected)


def test_two_wrong_strides(path: Path) -> None:
    line = mistake(path, "decoder.stages.1=[]", "decoder.stages.2=[[1, 1], [1, 1], [1, 1]]")
    assert "stride 1 has 0 stages; possible are 1 to 1; stride 2 has 3 stages; possible are 1 to 2" in line


def test_bad_sets_are_reported_together(path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(path, ["seed", "=3", "seed=[", "seed=2024-99-99", "layers.x=1", "seed=-1"])
    lines = str(error.value).splitlines()
    assert lines[:4] == [
        "--set seed: not of the form key=value, such as --set data.batch_size=8",
        "--set =3: not of the form key=value, such as --set data.batch_size=8",
        "--set seed=[: '[' is not a YAML value",
        "--set seed=2024-99-99: '2024-99-99' is not a YAML value",
    ]
    assert lines[4] == "--set layers.x=1: layers is not a section"
    assert lines[-1] == f"{path}: seed: Input should be greater than or equal to 0 (got -1)"


def test_sets_that_are_too_deep_or_too_long(path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(path, ["seed=" + "[" * 3000 + "]" * 3000, "seed=" + "1" * 5000, "seed" * 100])
    assert str(error.value).splitlines() == [
        f"--set seed={'[' * 75}…: '{'[' * 80}…' is not a YAML value",
        f"--set seed={'1' * 75}…: '{'1' * 80}…' is not a YAML value",
        f"--set {'seed' * 20}…: not of the form key=value, such as --set data.batch_size=8",
    ]


def test_several_mistakes_in_sections_that_depend_on_others(path: Path) -> None:
    assert mistakes(path, "decoder.stages={3: [[1, 1]], 5: [[1, 1]]}", "loss={feature: 1, perceptual: 1}") == [
        *(
            f"decoder.stages.{n}: no layer of vgg19 has this stride. Valid: 1, 2, 4, 8, 16, 32 (got {n})"
            for n in (3, 5)
        ),
        *(
            f"loss.{key}: must be 0 for objective pixel; set objective: perceptual to train with it (got 1.0)"
            for key in ("feature", "perceptual")
        ),
    ]


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_a_renamed_key_is_still_accepted(path: Path) -> None:
    """In the file, from --set, and whichever of the two comes from --set wins."""
    assert load_config(path, ["decoder.compress=true"]).decoder.log_compress
    for given, other in (("compress", "log_compress"), ("log_compress", "compress")):
        path.write_text(GOOD + f"decoder: {{{given}: true}}\n")
        assert load_config(path).decoder.log_compress
        assert not load_config(path, [f"decoder.{other}=false"]).decoder.log_compress
        assert not load_config(path, [f"decoder.{given}=false"]).decoder.log_compress
    path.write_text(GOOD + "decoder: {log_compress: true, compress: true}\n")
    assert mistake(path) == "decoder.compress: unknown key; did you mean 'log_compress'?"
    values = yaml.safe_load(GOOD) | {"decoder": {"compress": True}}
    config = TrainConfig.model_validate(values)
    assert config.decoder.log_compress
    assert values["decoder"] == {"compress": True}
    assert TrainConfig.model_validate(config.model_dump()) == config


def test_a_renamed_key_warns(path: Path, invert: Callable[..., Outcome]) -> None:
    """In one line for the file and one for --set, before anything else happens."""
    path.write_text(GOOD + "decoder: {compress: true}\n")
    with pytest.warns(FutureWarning, match=r"run.yaml: decoder.compress is deprecated: write decoder.log_compress$"):
        load_config(path)
    bad = ("--set", "data.train=/absent", "-o", path.parent / "run")
    lines = invert("train", path, "--set", "decoder.compress=true", *bad).err.splitlines()
    assert lines[:-1] == [
        f"warning: {place}: decoder.compress is deprecated: write decoder.log_compress" for place in (path, "--set")
    ]
    assert "warning" not in invert("train", path, "--quiet", *bad).err


def test_the_weights_are_by_default_those_of_the_encoder(path: Path) -> None:
    assert load_config(path).encoder.chosen_weights == "original"
    assert load_config(path, ["encoder.name=vgg16"]).encoder.chosen_weights == "IMAGENET1K_V1"
    assert load_config(path, ["encoder.weights=random"]).encoder.chosen_weights == "random"


def test_a_key_that_stands_twice(path: Path) -> None:
    path.write_text(GOOD + "seed: 1\nlayers: [relu2_2]\n")
    assert mistake(path) == "not valid YAML: line 5, column 1: key 'layers' stands twice"
    path.write_text(GOOD.replace("train: photographs", "train: a, train: b"))
    assert mistake(path) == "not valid YAML: line 2, column 18: key 'train' stands twice"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"layers: [relu1_2", "not valid YAML: line 1, column 17: expected ',' or ']', but got '<stream end>'"),
        (
            b"layers: !!python/object:os.system {}",
            "not valid YAML: line 1, column 9: could not determine a constructor",
        ),
        (b"seed: 2024-99-99", "not valid YAML: month must be in 1..12"),
        (b"seed: " + b"[" * 3000 + b"]" * 3000, "not valid YAML: too deeply nested"),
        (b"seed: " + b"1" * 5000, "not valid YAML: Exceeds the limit (4300 digits) for integer string conversion"),
        (b"seed: !!bool x", "not valid YAML: a value does not fit its tag"),
        (b"seed: !!set [1]", "not valid YAML: a value does not fit its tag"),
        (b"seed: !!timestamp x", "not valid YAML: a value does not fit its tag"),
        (b"seed: &a [*a]", "not valid YAML: its aliases make more than 100,000 values of it"),
        (LAUGHS, "not valid YAML: its aliases make more than 100,000 values of it"),
        (b"#" * 1_000_001, "cannot be read: it has more than 1,000,000 bytes"),
        (b"? [a]\n: 1", "not valid YAML: line 1, column 3: found unhashable key"),
        (b"a: \x00", "not valid YAML: unacceptable character #x0000"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not a text file: 'utf-8' codec can't decode byte 0x89 in position 0"),
        (b"", "holds no keys; see configs/quickstart.yaml for an example"),
        (b"# nothing\n", "holds no keys; see configs/quickstart.yaml for an example"),
        (b"- layers\n", "holds no keys; see configs/quickstart.yaml for an example"),
        (b"1: 2\n" + GOOD.encode(), "1: Keys should be strings (got 1)"),
    ],
)
def test_files_that_are_no_config(path: Path, content: bytes, expected: str) -> None:
    path.write_bytes(content)
    assert mistake(path).startswith(expected)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert mistake(tmp_path / "none.yaml") == "no such file"
    assert mistake(tmp_path) == "cannot be read: Is a directory"


def test_many_keys_and_many_mistakes_take_no_time(path: Path) -> None:
    path.write_text(GOOD + "".join(f"k{number}: 1\n" for number in range(20_000)))
    started = time.perf_counter()
    assert mistakes(path)[20:] == ["and 19980 more mistakes"]
    assert time.perf_counter() - started < 20


# The shipped files


def sections() -> dict[str, type[BaseModel]]:
    fields = {name: field.annotation for name, field in TrainConfig.model_fields.items()}
    return {name: kind for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def schema() -> dict[str, Any]:
    """Every key, such as `data.train`, with its default; `...` where it has none."""
    keys = {f"{name}.{key}": field for name, kind in sections().items() for key, field in kind.model_fields.items()}
    keys |= {name: field for name, field in TrainConfig.model_fields.items() if name not in sections()}
    return {key: ... if field.is_required() else field.get_default() for key, field in keys.items()}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_configs_are_valid(path: Path) -> None:
    assert load_config(path).layers
    assert all(comments(path.read_text()).get(key) for key in ("data.crop_size", "trainer.steps"))


def test_there_are_shipped_configs() -> None:
    assert {"quickstart.yaml", "vgg19.yaml", "imagenet.yaml"} <= {path.name for path in CONFIGS.glob("*.yaml")}


@pytest.mark.parametrize("key", schema())
def test_every_key_is_explained(key: str) -> None:
    comment = comments((CONFIGS / "vgg19.yaml").read_text()).get(key)
    assert comment, f"{key} has no comment in configs/vgg19.yaml"
    default = schema()[key]
    stated = re.search(r"\bdefault (\[[^]]*\]|[^\s,;]+)", comment)
    if default is ...:
        assert stated is None
    else:
        assert stated is not None, f"the comment of {key} states no default"
        value = yaml.safe_load(stated[1])
        assert (type(default)(value) if isinstance(default, float | tuple) else value) == default
