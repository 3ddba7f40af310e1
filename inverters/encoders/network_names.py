"""What names of networks look like; imports no torch."""

import re

LITE0, LITE0_LICENSE = "efficientnet-lite0", "Apache-2.0"
LIBRARIES = ("timm", "torchvision")
OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")  # MODULE:FUNCTION


def is_network(encoder: str) -> bool:
    """Whether this is `efficientnet-lite0`, or looks like `timm/MODEL`, `torchvision/MODEL` or `MODULE:FUNCTION`."""
    library, slash, model = encoder.partition("/")
    return encoder == LITE0 or bool(slash and model and library in LIBRARIES) or is_own(encoder)


def is_own(encoder: str) -> bool:
    """Whether this looks like `MODULE:FUNCTION`, which is imported and called."""
    return bool(OWN.fullmatch(encoder))
