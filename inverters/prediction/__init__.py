"""Images in, reconstructions out, on one device or many."""
