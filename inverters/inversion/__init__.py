"""An encoder with its decoders, inversion by optimisation, and both as methods with one interface."""
