"""The result that the page opens with: a photograph of scikit-image's, whose reconstructions ship as small pictures.

They are shown at once, and replaced by exact ones as soon as these have been computed. After decoders have been
replaced, `python -m inverters.app.opening` makes them anew.
"""

import base64
import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from skimage.data import data_dir
from torch import Tensor

from inverters.app.networks import Network, find_networks
from inverters.app.panes import Pane, from_data_uri
from inverters.app.studio import Choice, Studio
from inverters.app.uploads import load_upload
from inverters.decoders.published import available_decoders
from inverters.files import atomic_write, make_folder

FOLDER = Path(__file__).parent / "opening"
PHOTOGRAPH = str(Path(data_dir) / "astronaut.png")  # NASA's portrait of Eileen Collins, public domain
SIZE = 384  # pixels
QUALITY = 85  # of the WebP files
KEPT = ("psnr", "ssim", "feature_error", "verdict")


@cache
def photograph(size: int) -> Tensor:
    """The photograph, 3×H×W in [0, 1]."""
    return load_upload(PHOTOGRAPH, size)


def opening(studio: Studio, choice: Choice) -> Pane:
    """The pane of the photograph: with the shipped pictures if these decoders made them, and else without."""
    pane = studio.empty(photograph(studio.size), choice)
    shipped = json.loads((FOLDER / "depths.json").read_text())
    if (studio.size, choice.objective, describe(studio.network(choice))) != (SIZE, "closest", shipped["decoders"]):
        return pane
    for depth in pane["depths"]:
        picture = base64.b64encode((FOLDER / f"{depth['layer']}.webp").read_bytes()).decode()
        depth["picture"] = f"data:image/webp;base64,{picture}"
        depth.update(shipped["depths"][depth["layer"]])
    return pane


def describe(network: Network) -> dict[str, Any]:
    """What tells decoders from later ones: by layer the encoder's fingerprint, steps of training and metrics."""
    cards = available_decoders(network.root, network.encoder, network.weights)
    return {layer: [card.fingerprint[:16], card.steps, card.metrics] for layer, card in cards.items()}


def make() -> None:
    """Compute the pictures of the shipped decoders, and write them."""
    network = find_networks()[0]
    pane = Studio([network], SIZE, "auto").finished(photograph(SIZE), Choice(network.label))
    make_folder(FOLDER)
    for old in FOLDER.glob("*.webp"):
        old.unlink()
    for depth in pane["depths"]:
        content = BytesIO()
        with Image.open(BytesIO(from_data_uri(depth["picture"] or ""))) as picture:
            picture.save(content, "WEBP", quality=QUALITY, method=6)
        atomic_write(FOLDER / f"{depth['layer']}.webp", content.getvalue())
    depths = {depth["layer"]: {key: depth[key] for key in KEPT} for depth in pane["depths"]}  # type: ignore[literal-required]
    text = json.dumps({"decoders": describe(network), "depths": depths}, indent=1)
    atomic_write(FOLDER / "depths.json", text + "\n")


if __name__ == "__main__":
    make()
