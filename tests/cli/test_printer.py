"""Where a command's results, notes and errors go."""

import json

import pytest
from rich.table import Table

from inverters.cli.printer import Printer, errors


def use(printer: Printer) -> None:
    """Print something of every kind."""
    table = Table("layer")
    table.add_row("relu1_1")
    printer.step("1/2")
    with printer.progress_bar() as bar:
        bar.add_task("working", total=2)
    printer.note("skipped a.png")
    printer.error("b.png is broken")
    printer.table(table)
    printer.line("wrote c.png")
    printer.document({"psnr": {"relu1_1": float("inf"), "relu2_1": 20.5}, "values": (1.0, float("nan"))})


def test_by_default_results_go_to_stdout_and_all_else_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    use(Printer())
    out, err = capsys.readouterr()
    assert "relu1_1" in out
    assert out.endswith("wrote c.png\n")
    assert err == "1/2\nskipped a.png\nerror: b.png is broken\n"


def test_json_is_one_document_without_infinities(capsys: pytest.CaptureFixture[str]) -> None:
    use(Printer(json=True))
    out, err = capsys.readouterr()
    assert json.loads(out) == {"psnr": {"relu1_1": None, "relu2_1": 20.5}, "values": [1.0, None]}
    assert err == "skipped a.png\nerror: b.png is broken\n"


def test_quiet_leaves_errors(capsys: pytest.CaptureFixture[str]) -> None:
    use(Printer(quiet=True))
    assert capsys.readouterr() == ("", "error: b.png is broken\n")


def test_quiet_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    use(Printer(json=True, quiet=True))
    out, err = capsys.readouterr()
    assert json.loads(out)["values"] == [1.0, None]
    assert err == "error: b.png is broken\n"


@pytest.mark.parametrize(("quiet", "shown"), [(False, True), (True, False)])
def test_the_progress_bar_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, quiet: bool, shown: bool) -> None:
    assert Printer().progress_bar().disable
    monkeypatch.setattr(type(errors), "is_terminal", True)
    assert Printer(quiet=quiet).progress_bar().disable is not shown
