"""The running page: its endpoints, what it leaves behind, what it tells of itself; and `invert app`."""

import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Outcome, photographs, publish_tiny
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pages import SIZE, connect, free_port
from pages import page as serving_page
from PIL import Image
from typer.main import get_command

from inverters.app.panes import from_data_uri
from inverters.app.uploads import MAX_BYTES
from inverters.cli.main import app
from inverters.data.images import load_image

CHOICE = ("vgg19 (random)", "closest", True)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_page(publish_tiny(tmp_path_factory.mktemp("checkpoints"))) as address:
        yield address


@pytest.fixture
def client(url: str) -> Client:
    return connect(url)


def test_an_image_is_reconstructed(client: Client, photograph: Path) -> None:
    job = client.submit(handle_file(photograph), *CHOICE, api_name="/reconstruct")
    pane: Any = job.result()
    assert [depth["layer"] for depth in pane["depths"]] == ["relu1_1", "relu2_1"]
    assert all(depth["picture"].startswith("data:image/webp") for depth in pane["depths"])
    assert len(job.outputs()) == 3  # without pictures, with one, with both


def test_two_images_side_by_side(client: Client, photograph: Path) -> None:
    photo = handle_file(photograph)
    pane: Any = client.predict(True, photo, None, *CHOICE, api_name="/compare")
    assert all(depth["picture"] for depth in pane["depths"])
    assert client.predict(False, photo, photo, *CHOICE, api_name="/compare") is None


def test_files_are_data_uris(client: Client, photograph: Path) -> None:
    file: Any = client.predict(handle_file(photograph), *CHOICE, "depth.gif", api_name="/download")
    assert file["name"] == "depth.gif"
    with Image.open(BytesIO(from_data_uri(file["uri"]))) as image:
        assert (image.format, image.n_frames) == ("GIF", 3)  # type: ignore[attr-defined]
    with pytest.raises(AppError, match=r"unknown file 'depth\.exe'"):
        client.predict(handle_file(photograph), *CHOICE, "depth.exe", api_name="/download")


def test_an_optimisation_is_streamed(client: Client, photograph: Path) -> None:
    job = client.submit(handle_file(photograph), *CHOICE, "relu2_1", api_name="/optimise")
    pane, _ = job.result()
    notes = [some["note"] for some, _ in job.outputs()]
    assert "optimisation: 1 of 50 iterations" in " ".join(notes)
    assert notes[-1] == ""
    assert [bool(depth["picture"]) for depth in pane["depths"]] == [False, True]
    with pytest.raises(AppError, match="unknown layer 'relu9_9'"):
        client.predict(handle_file(photograph), *CHOICE, "relu9_9", api_name="/optimise")


def test_features_are_edited(client: Client, photograph: Path) -> None:
    photo, nothing = handle_file(photograph), [0, 0, 0, 0, 0, False, False, "", ""]
    plain: Any = client.predict(photo, *CHOICE, "relu2_1", *nothing, None, 0.5, api_name="/edit")
    assert plain["edits"] == "--layer relu2_1"
    assert plain["pictures"][1]["uri"] == plain["pictures"][2]["uri"]
    changes = [0.5, 0.1, 3, 8, 1, True, False, "1, 2", "0,0,32,32"]
    edited: Any = client.predict(photo, *CHOICE, "relu2_1", *changes, photo, 0.25, api_name="/edit")
    assert edited["edits"] == (
        "--layer relu2_1 --edit mix=other.jpg:0.25 --edit channels=1,2 --edit keep=0,0,32,32 --edit shift=8,0 "
        "--edit drop=0.5 --edit top=3 --edit noise=0.1 --edit binarize --edit again=1"
    )
    assert edited["options"] == {"weights": "random", "checkpoints": "DIR", "size": SIZE}
    with pytest.raises(AppError, match="shift=128,0 moves everything out of the image"):
        client.predict(photo, *CHOICE, "relu2_1", 0, 0, 0, 128, 0, False, False, "", "", None, 0, api_name="/edit")
    with pytest.raises(AppError, match="channels is written channels=N,N,…, with numbers of channels"):
        client.predict(photo, *CHOICE, "relu2_1", 0, 0, 0, 0, 0, False, False, "a", "", None, 0, api_name="/edit")


def test_errors_are_one_line_without_a_path(client: Client, photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(AppError, match=r"^the file is not an image that can be read") as caught:
        client.predict(handle_file(tmp_path / "notes.png"), *CHOICE, api_name="/reconstruct")
    assert "/" not in str(caught.value)
    with pytest.raises(AppError, match="unknown network 'vgg20'"):
        client.predict(handle_file(photograph), "vgg20", "closest", True, api_name="/reconstruct")


def test_files_of_the_server_cannot_be_asked_for(client: Client, url: str) -> None:
    secret = {"path": str(Path(__file__)), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError) as caught:
        client.predict(secret, *CHOICE, api_name="/reconstruct")
    assert str(Path(__file__).parent) not in str(caught.value)
    with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
        urllib.request.urlopen(f"{url}gradio_api/file={__file__}")


def test_too_many_bytes_are_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(Exception, match=r"(?i)size|413"):
        client.predict(handle_file(tmp_path / "large.png"), *CHOICE, api_name="/reconstruct")


def test_two_users_get_their_own_pictures(url: str, tmp_path: Path) -> None:
    files = [photographs(tmp_path / str(seed), 1, seed) / "0.png" for seed in range(2)]
    clients = [connect(url) for _ in files]
    pairs = zip(clients, files, strict=True)
    jobs = [client.submit(handle_file(file), *CHOICE, api_name="/reconstruct") for client, file in pairs]
    for job, file in zip(jobs, files, strict=True):
        pane: Any = job.result()
        assert torch.equal(load_image(from_data_uri(pane["original"])), load_image(file))


def test_the_program_of_a_space_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "space.md").read_text()
    (program,) = re.findall(r"```py\n(.*?)```", page, re.S)
    called: list[list[str]] = []
    monkeypatch.setattr("inverters.cli.main.main", called.append)
    exec(program)
    command = get_command(app).commands["app"]  # type: ignore[attr-defined]
    assert command.make_context("app", called[0][1:]).params["host"] == "0.0.0.0"


def test_nothing_is_left_and_nothing_is_sent(tmp_path: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with serving_page(publish_tiny(tmp_path / "tiny")) as address:
        client = connect(address)
        client.predict(handle_file(photograph), *CHOICE, api_name="/reconstruct")
        assert [*(tmp_path / "temporary").rglob("*.png")]
        assert client.config["analytics_enabled"] is False
    assert [*(tmp_path / "temporary").iterdir()] == []


def test_it_listens_on_this_machine_only_unless_asked(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "inverters",
        "app",
        "--port",
        str(port),
        "--checkpoints",
        str(publish_tiny(tmp_path)),
    ]
    with subprocess.Popen([*command, "--size", "64"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == f"open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends the server\n"
            others = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
            for address in others:
                with pytest.raises(OSError):
                    socket.create_connection((address, port), timeout=1)
            process.terminate()  # not SIGINT, which is ignored where the tests run in the background of a shell
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_a_port_that_is_taken(invert: Callable[..., Outcome], tiny_checkpoints: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = invert("app", "--port", port, "--checkpoints", tiny_checkpoints)
    assert (result.status, result.err) == (
        1,
        f"error: cannot listen on 127.0.0.1, port {port}: take another --port or --host\n",
    )


def test_without_gradio(invert: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = invert("app")
    assert (result.status, result.err) == (1, "error: the page needs gradio: pip install 'inverters[app]'\n")


@pytest.mark.parametrize("arguments", [["--encoder", "vgg91"], ["--checkpoints", "nowhere"], ["--device", "tpu"]])
def test_mistyped_settings(invert: Callable[..., Outcome], arguments: list[str]) -> None:
    result = invert("app", *arguments)
    assert result.status == 1
    assert len(result.err.splitlines()) == 1
