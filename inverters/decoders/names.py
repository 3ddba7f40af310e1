"""Names and numbers that describe decoders; imports no torch."""

OBJECTIVES = ("pixel", "perceptual", "linear")
VECTOR_STRIDE = 32  # pixels of a position of the grid that a vector is laid out on: 7×7 for images of 224×224
MOST_STAGES = 16
MOST_BLOCKS = 64  # residual blocks or convolutions in a row, and corrections: a card must not ask for any number


def most_stages(stride: int) -> int:
    """How many stages a convolutional decoder can have: one more than its stride can be halved, but at most 16."""
    return min((stride & -stride).bit_length(), MOST_STAGES)
