"""What starts without torch, and the public names. What may import what is a contract of import-linter's.

That contract stands in `pyproject.toml`; `make test` checks it.
"""

import json
import subprocess
import sys
import time

import pytest

import inverters

SLOW = (
    "torch",
    "torchvision",
    "pytorch_lightning",
    "torchmetrics",
    "datasets",
    "matplotlib",
    "pandas",
    "transformers",
    "gradio",
)
NOT_FOR_HELP = (*SLOW, "numpy", "PIL", "yaml", "asyncio")
MAIN = "from inverters.cli.main import main\nmain(sys.argv[1:])"


def run(code: str, *arguments: str, modules: tuple[str, ...] = SLOW) -> tuple[int, set[str]]:
    """The exit status of `code` in a fresh interpreter, and which of `modules` it has loaded."""
    program = f"""\
import json, sys
status = 0
try:
{"".join(f"    {line}{chr(10)}" for line in code.splitlines())}
except SystemExit as exit:
    status = exit.code or 0
print(json.dumps([status, [name for name in {modules} if name in sys.modules]]))
"""
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    status, loaded = json.loads(result.stdout.splitlines()[-1])
    return status, set(loaded)


def test_help_loads_little() -> None:
    assert run(MAIN, "--help", modules=(*NOT_FOR_HELP, "pydantic", "importlib.metadata")) == (0, set())


@pytest.mark.parametrize("command", ["predict", "train", "app"])
def test_the_help_of_a_command_loads_little(command: str) -> None:
    """Typer takes pydantic to read a command's parameters."""
    assert run(MAIN, command, "--help", modules=NOT_FOR_HELP) == (0, set())


@pytest.mark.slow  # not that it takes long, but other processes make it fail
def test_help_takes_less_than_a_third_of_a_second() -> None:
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "inverters", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["predict", "x", "--size", "abc"], 2),
        (["predict"], 2),
        (["predikt"], 2),
        (["predict", "x.png", "--layers", "relu9_9"], 1),
        (["predict", "x.png", "--layers", "relu1_1", "--encoder", "vgg91"], 1),
        (["layers", "--encoder", "vgg91"], 1),
        (["download-weights", "--encoder", "vgg91"], 1),
        (["train", "none.yaml"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_usage_errors_and_mistyped_names_load_no_torch(arguments: list[str], status: int) -> None:
    assert run(MAIN, *arguments) == (status, set())


def test_the_package_and_what_parses_configurations_load_no_torch() -> None:
    code = "import inverters, inverters.training.config_file, inverters.files\ninverters.InverterError"
    assert run(code) == (0, set())


def test_prediction_needs_no_training_libraries() -> None:
    status, loaded = run("import inverters.prediction.predict")
    assert status == 0
    assert "torch" in loaded  # what is loaded does get seen
    assert not loaded & {"pytorch_lightning", "datasets", "torchmetrics", "matplotlib"}


def test_an_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'inverters' has no attribute 'load_invertor'$"):
        inverters.load_invertor  # noqa: B018
    assert not hasattr(inverters, "Inverters")
    with pytest.raises(ImportError):
        from inverters import load_invertor  # noqa: F401


def test_public_names() -> None:
    assert sorted(inverters.__all__) == inverters.__all__
    for name in inverters.__all__:
        assert getattr(inverters, name).__name__ == name
