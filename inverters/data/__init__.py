"""Photographs in: the image convention, where images come from, crops, and Lightning's data module."""
