"""`Layer`: one place of an encoder that features can be taken from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One layer of an encoder.

    Attributes:
        name: what users call it, such as `relu4_2`.
        channels: of its features.
        stride: input pixels per feature step; None where there is one vector for the whole image.
        receptive_field: input pixels that a feature depends on, per side; None where it is the whole image.
        stage: the part of the network that it belongs to. The default layers are the last of each stage.
    """

    name: str
    channels: int
    stride: int | None
    receptive_field: int | None
    stage: str

    @property
    def spatial_stride(self) -> int:
        """The stride of a layer whose features form a grid.

        Raises:
            ValueError: the layer is one vector for the whole image.
        """
        if self.stride is None:
            raise ValueError(f"{self.name} has no stride: it is one vector for the whole image")
        return self.stride

    @property
    def halo(self) -> int | None:
        """Input pixels beyond its own `stride`×`stride` cell that a feature depends on, on each side."""
        return None if self.receptive_field is None else (self.receptive_field - self.spatial_stride) // 2
