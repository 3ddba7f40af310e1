"""What an ONNX file needs before it is made: a name, and an extra; imports no torch."""

from importlib.util import find_spec
from pathlib import Path

from inverters.errors import InverterError, OutputError

REQUIRED = ("onnx", "onnxscript", "onnxruntime")


def require_onnx(path: Path) -> None:
    """Raise an error unless `path` is a name for an ONNX file, and one can be made.

    Raises:
        OutputError: it does not end in `.onnx`.
        InverterError: onnx, onnxscript or onnxruntime is missing.
    """
    if path.suffix != ".onnx":
        raise OutputError(f"{path} is no name of an ONNX file: call it {path.with_suffix('.onnx')}")
    if missing := [name for name in REQUIRED if find_spec(name) is None]:
        raise InverterError(f"exporting needs {', '.join(missing)}: pip install 'inverters[onnx]'")
