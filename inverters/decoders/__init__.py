"""What inverts: decoder architectures, and the folders in which trained decoders are published."""
