"""The page in Chromium: what a user does, on a screen and on a phone, without an error in the browser's console."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome
from pages import SIZE
from pages import page as serving_page
from PIL import Image
from skimage.data import data_dir

from inverters.app.opening import photograph
from inverters.data.images import save_png

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.browser
WIDTHS = {"screen": (1280, 800), "phone": (390, 844)}
LAYERS = 10


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_page() as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def open_page(request: pytest.FixtureRequest, chromium: Any, url: str) -> Iterator[Any]:
    """Opens the page with a fragment; at the end there must have been no error, and no request to another server."""
    width, height = WIDTHS[request.param]
    context = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    problems: list[str] = []

    def opened(fragment: str = "", address: str = url) -> Any:
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on(
            "request", lambda sent: sent.url.startswith((url, address, "data:", "blob:")) or problems.append(sent.url)
        )
        tab.goto(address + fragment)
        wait_for_pictures(tab)
        return tab

    yield opened
    context.close()
    assert problems == []


def wait_for_pictures(tab: Any) -> None:
    """Wait until every depth has a picture, and the last is drawn."""
    tab.wait_for_function(
        f"document.querySelectorAll('.thumbnails img:not(.missing)').length == {LAYERS}"
        " && document.querySelector('.viewer .note').textContent == ''",
        timeout=60_000,
    )


def first_picture(tab: Any) -> str:
    return str(tab.locator(".thumbnails img").first.get_attribute("src"))


def wait_for_change(tab: Any, first: str) -> None:
    """Wait until the first depth no longer has the picture `first`."""
    changed = "(first) => document.querySelector('.thumbnails img').getAttribute('src') != first"
    tab.wait_for_function(changed, arg=first, timeout=60_000)


def shown(tab: Any) -> str:
    drawn(tab)
    return str(tab.locator(".viewer .depth output").text_content())


def drawn(tab: Any) -> None:
    """Wait until the large view is drawn."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixel(tab: Any, x: float, y: float, stage: int = 0) -> list[int]:
    """The colour of the large view at these fractions of its sides."""
    drawn(tab)
    return list(
        tab.evaluate(
            """([x, y, stage]) => {
                const canvas = document.querySelectorAll(".viewer canvas")[stage];
                const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1];
                return [...canvas.getContext("2d").getImageData(...at).data];
            }""",
            [x, y, stage],
        )
    )


def test_the_slider_moves_through_the_depth_without_the_server(open_page: Any) -> None:
    tab = open_page()
    requests: list[str] = []
    tab.on("request", lambda sent: sent.url.startswith("data:") or requests.append(sent.url))
    slider = tab.get_by_role("slider", name="Depth in the network")
    before = pixel(tab, 0.6, 0.5)
    slider.fill("9")
    assert shown(tab) == "relu5_2"
    assert pixel(tab, 0.6, 0.5) != before
    slider.focus()
    tab.keyboard.press("ArrowLeft")
    assert shown(tab) == "relu5_1"
    tab.evaluate("document.activeElement.blur()")
    tab.keyboard.press("ArrowLeft")
    assert shown(tab) == "relu4_2"
    curve = tab.locator(".viewer .curve")
    curve.click(position={"x": curve.bounding_box()["width"] * 36 / 300, "y": 60})
    assert shown(tab) == "relu1_1"
    assert slider.input_value() == "0"
    assert "dB · SSIM" in tab.locator(".viewer figcaption").first.text_content()
    assert requests == []


def test_the_state_is_in_the_address(open_page: Any) -> None:
    tab = open_page("#layer=relu3_1&right=difference")
    assert shown(tab) == "relu3_1"
    assert tab.get_by_role("button", name="Difference").get_attribute("aria-pressed") == "true"
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("location.hash.includes('layer=relu3_2')")


def test_wipe_difference_zoom_and_field(open_page: Any) -> None:
    tab = open_page("#layer=relu5_2")
    wipe = tab.get_by_role("slider", name="Wipe between original and reconstruction")
    middle = pixel(tab, 0.4, 0.5)
    wipe.focus()
    tab.keyboard.press("Home")
    reconstruction = pixel(tab, 0.4, 0.5)
    assert wipe.get_attribute("aria-valuenow") == "0"
    tab.get_by_role("button", name="Difference").click()
    difference = pixel(tab, 0.4, 0.5)
    assert len({tuple(middle), tuple(reconstruction), tuple(difference)}) == 3
    tab.get_by_role("button", name="Reconstruction").click()
    for _ in range(4):
        tab.get_by_role("button", name="Zoom in").click()
    enlarged = [pixel(tab, x, 0.5) for x in (0.5, 0.501)]
    assert enlarged[0] == enlarged[1]  # both lie in one pixel of the image
    view = pixel(tab, 0.45, 0.45)
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowRight")
    assert pixel(tab, 0.45, 0.45) == view  # the place stays
    tab.get_by_role("button", name="Show the whole image").click()
    tab.locator(".viewer canvas").first.hover(position={"x": 150, "y": 150})
    assert "whole image" in tab.locator(".viewer .field").text_content()


def test_an_upload_replaces_the_photograph(open_page: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tab = open_page()
    width = {"screen": 130, "phone": 140}[request.node.callspec.params["open_page"]]  # no result is there yet
    Image.open(Path(data_dir) / "chelsea.png").resize((width, 100)).save(tmp_path / "cat.png")
    before, first = pixel(tab, 0.3, 0.5), first_picture(tab)
    tab.locator(".controls input[type=file]").first.set_input_files(tmp_path / "cat.png")
    wait_for_change(tab, first)
    wait_for_pictures(tab)
    assert pixel(tab, 0.3, 0.5) != before
    tab.get_by_label("sharpest").first.check()
    tab.wait_for_function("document.querySelector('.viewer figcaption').textContent.includes('perceptual')")
    assert "objective=sharpest" in tab.url


def test_downloads_open(open_page: Any, tmp_path: Path) -> None:
    tab = open_page("#layer=relu5_2")
    tab.get_by_text("Download", exact=True).click()
    for button, name, frames in (
        ("This picture", "relu5_2.png", 1),
        ("Strip", "depth.png", 1),
        ("GIF", "depth.gif", 1 + LAYERS),
        ("WebP", "depth.webp", 1 + LAYERS),
    ):
        with tab.expect_download() as download:
            tab.get_by_role("button", name=button, exact=True).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert getattr(image, "n_frames", 1) == frames
    with Image.open(tmp_path / "relu5_2.png") as image:
        assert image.size == (SIZE, SIZE)
        centre = image.convert("RGB").getpixel((SIZE * 3 // 4, SIZE // 2))
    tab.locator(".viewer .wipe").first.focus()
    tab.keyboard.press("Home")
    box = tab.locator(".viewer .frame").first.bounding_box()
    side = min(box["width"], box["height"])
    assert pixel(tab, 0.5 + (0.25 + 0.5 / SIZE) * side / box["width"], 0.5 + 0.5 / SIZE * side / box["height"])[:3] == [
        *centre
    ]


def test_optimisation_runs_stops_and_is_closed(open_page: Any) -> None:
    tab = open_page("#layer=relu2_1")
    tab.get_by_role("button", name="Ask optimisation").click()
    tab.wait_for_function("document.querySelector('.viewer .note').textContent.includes('of 50 iterations')")
    tab.get_by_role("button", name="Stop").click()
    captions = tab.locator(".viewer figcaption")
    tab.wait_for_function("document.querySelectorAll('.viewer figcaption')[1].textContent.includes('dB')")
    errors = [float(error) for error in re.findall(r"feature error ([\d.]+)", " ".join(captions.all_text_contents()))]
    assert errors[1] < errors[0]
    assert "--methods decoder+lbfgs" in tab.locator(".code pre").nth(1).text_content()
    tab.get_by_role("button", name="Close").click()
    second = tab.locator(".viewer .stage").nth(1)
    second.wait_for(state="hidden")
    tab.get_by_role("button", name="Ask optimisation").click()
    second.wait_for(state="visible")
    tab.get_by_label("sharpest").first.check()  # what was optimised is no longer shown
    second.wait_for(state="hidden")
    wait_for_pictures(tab)
    tab.wait_for_timeout(1000)
    assert second.is_hidden()


def test_side_by_side(open_page: Any) -> None:
    tab = open_page("#layer=relu5_2")
    tab.get_by_label("Side by side").check()
    tab.wait_for_function("document.querySelectorAll('.viewer figcaption')[1].textContent.includes('dB')")
    wait_for_pictures(tab)
    captions = tab.locator(".viewer figcaption").all_text_contents()
    assert ["perceptual" in caption for caption in captions] == [False, True]
    tab.get_by_role("slider", name="Depth in the network").fill("0")
    drawn(tab)
    assert all(text.startswith("relu1_1") for text in tab.locator(".viewer figcaption").all_text_contents())
    tab.get_by_label("Side by side").uncheck()
    tab.locator(".viewer .stage").nth(1).wait_for(state="hidden")


def test_the_code_gives_what_is_shown(
    open_page: Any, invert: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = open_page("#layer=relu4_2&objective=sharpest")
    tab.wait_for_function("document.querySelector('.viewer figcaption').textContent.includes('perceptual')")
    python, command = tab.locator(".code pre").all_text_contents()
    save_png(photograph(SIZE), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(python, namespace)
    psnr = tab.locator(".viewer figcaption").first.text_content().partition("· ")[2].partition(" dB")[0]
    assert f"{namespace['result'].psnr['relu4_2']:.1f}" == psnr
    program, *arguments = shlex.split(command)
    assert program == "invert"
    assert invert(*arguments).status == 0
    metrics = json.loads((tmp_path / "inversions" / "photo" / "metrics.json").read_text())
    assert f"{metrics['methods']['perceptual']['layers']['relu4_2']['psnr']:.1f}" == psnr


def test_features_are_changed(open_page: Any) -> None:
    tab = open_page()
    tab.get_by_role("tab", name="Change the features").click()
    tab.locator(".edited figcaption", has_text="as it is").wait_for()
    captions = tab.locator(".edited figcaption")
    plain = captions.nth(1).text_content()
    tab.get_by_label("Values set to zero").first.fill("0.5")
    tab.wait_for_function("document.querySelector('.edited pre').textContent.includes('--edit drop=0.5')")
    assert captions.nth(1).text_content() == plain
    assert captions.nth(2).text_content().partition("·")[2] != plain.partition("·")[2]


def test_everything_has_a_name_and_nothing_overflows(open_page: Any) -> None:
    tab = open_page()
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll(".viewer :is(button, input, canvas, svg, [role=slider])")]
            .filter((some) => !(some.getAttribute("aria-label") || some.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_nothing_moves_from_depth_to_depth(open_page: Any) -> None:
    tab = open_page()
    slider = tab.get_by_role("slider", name="Depth in the network")
    boxes = set()
    canvas = tab.locator(".viewer canvas").first
    for depth in range(LAYERS):
        slider.fill(str(depth))
        if depth % 2:
            canvas.hover(position={"x": 90, "y": 90})
        drawn(tab)
        parts = [".viewer .frame", ".viewer .curve", ".viewer .buttons"]
        boxes.add(str([tab.locator(part).first.evaluate("(some) => some.offsetTop") for part in parts]))
    assert len(boxes) == 1


def test_the_page_opens_with_pictures_at_once(chromium: Any) -> None:
    with serving_page(size=384) as address:
        tab = chromium.new_page()
        tab.goto(address)
        tab.locator(".viewer figcaption", has_text="dB").first.wait_for(timeout=10_000)
        assert tab.locator(".thumbnails img:not(.missing)").count() == LAYERS
        wait_for_change(tab, first_picture(tab))  # Python would abort if a thread still computed at exit
        tab.close()
