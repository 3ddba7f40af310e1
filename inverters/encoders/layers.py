"""`Layer`: the name, shape and receptive field of a layer of an encoder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A layer of an encoder.

    Attributes:
        name: such as `relu4_2`.
        channels: number of feature channels.
        stride: input pixels per feature step; None for a single vector per image.
        receptive_field: side in input pixels of what a feature depends on; None for the whole image.
        stage: the part of the network that the layer belongs to; the last layer of each stage is taken by default.
        reach: input pixels that a feature depends on beyond its own `stride`×`stride` cell, on the side where they are
            more; None where both sides have equally many.
    """

    name: str
    channels: int
    stride: int | None
    receptive_field: int | None
    stage: str
    reach: int | None = None

    @property
    def spatial_stride(self) -> int:
        """The stride, for layers whose features form a grid.

        Raises:
            ValueError: the features are a single vector per image.
        """
        if self.stride is None:
            raise ValueError(f"{self.name} has no stride: its features are a single vector per image")
        return self.stride

    @property
    def halo(self) -> int | None:
        """How many input pixels on each side of its own `stride`×`stride` cell a feature depends on at most."""
        if self.reach is not None:
            return self.reach
        return None if self.receptive_field is None else (self.receptive_field - self.spatial_stride) // 2
