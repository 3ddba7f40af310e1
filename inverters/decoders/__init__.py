"""The decoders: their architectures, and the folders they are published in."""
