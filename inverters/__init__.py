"""See and measure what each layer of a convolutional network still knows about an image."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inverters.decoder import FeatureDecoder
    from inverters.encoder import VGGEncoder
    from inverters.errors import InverterError
    from inverters.images import load_image
    from inverters.inverter import Inverter, load_inverter

__all__ = ["FeatureDecoder", "Inverter", "InverterError", "VGGEncoder", "load_image", "load_inverter"]

_HOMES = {
    "FeatureDecoder": "decoder",
    "Inverter": "inverter",
    "InverterError": "errors",
    "VGGEncoder": "encoder",
    "load_image": "images",
    "load_inverter": "inverter",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import inverters` does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'inverters' has no attribute {name!r}")
    return getattr(import_module(f"inverters.{_HOMES[name]}"), name)
