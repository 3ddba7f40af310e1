"""Names that describe decoders; imports no torch."""

OBJECTIVES = ("pixel", "perceptual", "linear")
