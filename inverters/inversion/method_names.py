"""The names of the methods. The command line lists them without importing torch."""

from inverters.errors import unknown_name

DECODER_METHODS = {"decoder": "pixel", "perceptual": "perceptual", "linear": "linear"}  # by name, their objective
REFINED = "+lbfgs"
METHODS = (*DECODER_METHODS, "lbfgs", *(f"{name}{REFINED}" for name in DECODER_METHODS))
DEFAULT_METHODS = ("decoder", "linear", "lbfgs", "decoder+lbfgs")  # what an evaluation compares unless told otherwise


def decoder_objective(method: str) -> str | None:
    """The objective of the decoder that a method needs; None for one that needs no decoder.

    Raises:
        UnknownNameError: there is no such method.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    return DECODER_METHODS.get(method.removesuffix(REFINED))
