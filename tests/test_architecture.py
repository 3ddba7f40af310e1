"""What may import what: the table of rows, and what starts without torch."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inverters

PACKAGE = Path(inverters.__file__).parent

ROWS = {
    "errors": -1,  # which every module may import, those of row 0 too
    **dict.fromkeys(["files", "layers"], 0),
    **dict.fromkeys(["config", "devices", "images", "interruption", "losses", "tiles", "weights"], 1),
    "config_file": 1.5,
    **dict.fromkeys(["decoder", "discriminator", "encoder", "metrics", "presets", "results", "sources"], 2),
    **dict.fromkeys(["checkpoint", "crops", "figures", "linear", "logs", "measurement"], 3),
    **dict.fromkeys(["module", "optimization", "photographs", "plots", "progress", "report"], 3),
    "outputs": 3.2,  # from `figures`
    "resumption": 3.3,
    "engine": 3.3,  # from `progress`
    "shards": 3.3,  # from `outputs`
    "data": 3.3,  # from `crops`
    "inverter": 3.3,  # from `checkpoint`
    "search": 3.5,  # from `inverter` and `optimization`
    "methods": 3.5,  # what `evaluation` compares: decoders (`inverter`) and `optimization`
    **dict.fromkeys(["cards", "evaluation", "prediction", "tables", "training"], 4),
    "bulk": 4.5,  # what `prediction` does, by Lightning
    "options": 4.5,
    "cli_invert": 5,
    "cli": 5.5,
}
SHELL = {"__init__", "__main__"}  # they hand on names, or run the command line
WITHOUT_TORCH = ("errors", "layers", "files", "config", "config_file", "cli", "cli_invert", "options")
SLOW = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "datasets", "matplotlib", "pandas", "transformers")


def imports(tree: ast.AST) -> Iterator[str]:
    """The full names of what a piece of code imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "inverters" else (module,)


def parse(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))


def modules() -> list[str]:
    return sorted({path.stem for path in PACKAGE.rglob("*.py")} - SHELL)


def test_the_package_is_flat() -> None:
    assert all(path.parent == PACKAGE for path in PACKAGE.rglob("*.py"))
    assert len(modules()) > 10


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_from_rows_above_its_own(name: str) -> None:
    assert name in ROWS, f"{name}.py has no row: give it one here and in the design"
    for imported in imports(parse(name)):
        if imported.partition(".")[0] == "inverters":
            assert imported.count(".") == 1, f"{name}.py imports {imported}, not a module of the package"
            other = imported.removeprefix("inverters.")
            assert ROWS[other] < ROWS[name], f"{name}.py of row {ROWS[name]} imports {other}.py of row {ROWS[other]}"


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_modules_that_start_without_torch(name: str) -> None:
    """Nor do they import it by way of another module, unless inside of a function or for types alone."""
    seen, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        seen.add(module)
        tree = parse(module)
        for node in ast.walk(tree):
            for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = []
        names = set(imports(tree))
        assert not {imported.partition(".")[0] for imported in names} & set(SLOW), f"by way of {module}.py"
        waiting += {imported.removeprefix("inverters.") for imported in names if "inverters." in imported} - seen


def run(code: str, *arguments: str) -> tuple[int, set[str]]:
    """The exit status of `code` in a fresh interpreter, and which slow libraries it has loaded."""
    program = f"""\
import json, sys
status = 0
try:
{"".join(f"    {line}{chr(10)}" for line in code.splitlines())}
except SystemExit as exit:
    status = exit.code or 0
print(json.dumps([status, [name for name in {SLOW} if name in sys.modules]]))
"""
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    status, loaded = json.loads(result.stdout.splitlines()[-1])
    return status, set(loaded)


MAIN = "from inverters.cli.main import main\nmain(sys.argv[1:])"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["predict", "x", "--size", "abc"], 2),
        (["predict"], 2),
        (["predikt"], 2),
        (["predict", "x.png", "--layers", "relu9_9"], 1),
        (["predict", "x.png", "--layers", "relu1_1", "--encoder", "vgg91"], 1),
        (["layers", "--encoder", "vgg91"], 1),
        (["train", "none.yaml"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_help_and_usage_errors_load_no_torch(arguments: list[str], status: int) -> None:
    assert run(MAIN, *arguments) == (status, set())


def test_the_package_and_its_errors_load_no_torch() -> None:
    assert run("import inverters, inverters.training.config_file, inverters.files\ninverters.InverterError") == (
        0,
        set(),
    )


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
