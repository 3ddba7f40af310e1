"""From a configuration to published decoders."""
