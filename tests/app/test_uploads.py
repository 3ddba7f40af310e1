"""Which uploads are accepted, and that no message names a path."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from inverters.app import uploads
from inverters.app.uploads import load_upload
from inverters.errors import ImageError


def saved(path: Path, width: int, height: int) -> str:
    Image.new("RGB", (width, height), "teal").save(path)
    return str(path)


def test_an_image_is_shrunk(tmp_path: Path) -> None:
    assert load_upload(saved(tmp_path / "a.png", 100, 60), 30).shape == (3, 30, 50)


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (15, 20, "15×20 pixels: each side needs 16 at least"),
        (100, 20, "100×20 pixels: a side may be 4 times the other at most"),
        (300, 300, "300×300 pixels: 0 million at most"),
    ],
)
def test_images_of_unfit_sizes_are_refused(
    width: int, height: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_PIXELS", 50_000)
    with pytest.raises(ImageError, match=message):
        load_upload(saved(tmp_path / "a.png", width, height), 64)


def test_what_is_no_image_is_refused_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = BytesIO()
    Image.effect_noise((64, 64), 50).save(content, "PNG")
    cases = {
        "text": (b"no image", "not an image that can be read"),
        "empty": (b"", "not an image that can be read"),
        "cut": (content.getvalue()[:2000], "cannot read image"),
        "long": (content.getvalue() + bytes(10_000), "the file is too large"),
    }
    monkeypatch.setattr(uploads, "MAX_BYTES", 10_000)
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=message) as caught:
            load_upload(str(tmp_path / name), 64)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(ImageError, match="no longer on the server") as caught:
        load_upload(str(tmp_path / "gone"), 64)
    assert "gone" not in str(caught.value)
    with pytest.raises(ImageError, match="there is no image"):
        load_upload(None, 64)
