"""Names and numbers that describe decoders; imports no torch."""

from pathlib import Path

OBJECTIVES = ("pixel", "perceptual", "linear")
CHECKPOINTS_VARIABLE = "INVERTERS_CHECKPOINTS"
HUB = "hf:"
VECTOR_STRIDE = 32  # pixels of a position of the grid that a vector is laid out on: 7×7 for images of 224×224
MOST_STAGES = 16
MOST_BLOCKS = 64  # residual blocks or convolutions in a row, and corrections: a card must not ask for any number


def most_stages(stride: int) -> int:
    """How many stages a convolutional decoder can have: one more than its stride can be halved, but at most 16."""
    return min((stride & -stride).bit_length(), MOST_STAGES)


def is_on_hub(checkpoints: str | Path) -> bool:
    """Whether this is an address of the Hugging Face Hub, `hf://OWNER/NAME[@REVISION]`, and no folder."""
    return str(checkpoints).startswith(f"{HUB}/")
