"""See and measure what each layer of a convolutional network still knows about an image."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inverters.data.images import load_image
    from inverters.decoders.convolutional import ConvDecoder
    from inverters.encoders.base import Encoder
    from inverters.encoders.network import NetworkEncoder, Preprocessing
    from inverters.encoders.registry import create_encoder
    from inverters.errors import InverterError
    from inverters.inversion.inversion import Inversion
    from inverters.inversion.invert import invert
    from inverters.inversion.inverter import Inverter
    from inverters.inversion.loading import load_inverter

_MODULES = {
    "ConvDecoder": "inverters.decoders.convolutional",
    "Encoder": "inverters.encoders.base",
    "Inversion": "inverters.inversion.inversion",
    "Inverter": "inverters.inversion.inverter",
    "InverterError": "inverters.errors",
    "NetworkEncoder": "inverters.encoders.network",
    "Preprocessing": "inverters.encoders.network",
    "create_encoder": "inverters.encoders.registry",
    "invert": "inverters.inversion.invert",
    "load_image": "inverters.data.images",
    "load_inverter": "inverters.inversion.loading",
}

__all__ = [
    "ConvDecoder",
    "Encoder",
    "Inversion",
    "Inverter",
    "InverterError",
    "NetworkEncoder",
    "Preprocessing",
    "create_encoder",
    "invert",
    "load_image",
    "load_inverter",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import inverters` does not load torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'inverters' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
