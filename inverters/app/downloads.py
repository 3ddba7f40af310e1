"""Files to download: the strip, and animations through the depth."""

from io import BytesIO

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from inverters.app.panes import Depth, Pane, from_data_uri
from inverters.data.images import load_image, to_pillow
from inverters.errors import unknown_name
from inverters.inversion.strip import StripRow, depth_strip

FILES = {"depth.png": "image/png", "depth.gif": "image/gif", "depth.webp": "image/webp"}
MILLISECONDS = 700  # that each depth is shown
CAPTION_HEIGHT = 28  # pixels


def make_file(pane: Pane, name: str) -> bytes:
    """Draw a finished pane as one of `FILES`.

    Raises:
        UnknownNameError: there is no such file.
    """
    if name not in FILES:
        raise unknown_name("file", name, FILES)
    content = BytesIO()
    if name == "depth.png":
        images = {depth["layer"]: _picture(depth) for depth in pane["depths"]}
        psnr = {depth["layer"]: _psnr(depth) for depth in pane["depths"]}
        original = load_image(from_data_uri(pane["original"]))
        header = [pane["network"], f"{pane['objective']} decoders"]
        depth_strip(original, [StripRow("", images, psnr)], [*images], header).save(content, "PNG")
    else:
        first, *others = frames(pane)
        settings = {"lossless": False, "quality": 90} if name == "depth.webp" else {}
        first.save(
            content,
            FILES[name].removeprefix("image/"),
            save_all=True,
            append_images=others,
            duration=MILLISECONDS,
            loop=0,
            **settings,
        )
    return content.getvalue()


def frames(pane: Pane) -> list[Image.Image]:
    """The original, and every depth from the first to the last, with a caption below."""
    pictures = [(load_image(from_data_uri(pane["original"])), "original")]
    pictures += [(_picture(depth), f"{depth['layer']}   {_psnr(depth):.1f} dB") for depth in pane["depths"]]
    return [_captioned(to_pillow(picture), caption) for picture, caption in pictures]


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    frame = Image.new("RGB", (picture.width, picture.height + CAPTION_HEIGHT), "white")
    frame.paste(picture, (0, 0))
    place = (6, picture.height + CAPTION_HEIGHT // 2)
    ImageDraw.Draw(frame).text(place, caption, fill="black", font=ImageFont.load_default(16), anchor="lm")
    return frame


def _picture(depth: Depth) -> Tensor:
    return load_image(from_data_uri(depth["picture"] or ""))


def _psnr(depth: Depth) -> float:
    return float("inf") if depth["psnr"] is None else depth["psnr"]
