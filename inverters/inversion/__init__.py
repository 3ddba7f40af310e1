"""An encoder and its decoders together, inversion by optimisation, and the methods that both make up."""
