"""`FeatureError`: how well features agree, and where that stands among photographs. It needs no torch."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

UNUSUAL = 95  # percentile from which on a reconstruction is flagged


class FeatureError(NamedTuple):
    """How far the features of a reconstruction are from those of the image.

    Attributes:
        value: see `metrics.feature_error`.
        percentile: how many of 100 photographs have a smaller one with the same decoder; None if that is unknown.
    """

    value: float
    percentile: float | None = None

    @property
    def unusual(self) -> bool:
        """Whether it is larger than nearly all of the photographs' errors: the image is unlike those."""
        return self.percentile is not None and self.percentile >= UNUSUAL

    @property
    def verdict(self) -> str:
        """`usual`, or `worse than 97 % of photographs`; empty if the percentile is unknown."""
        if self.percentile is None:
            return ""
        if not self.unusual:
            return "usual"
        share = "all" if self.percentile >= 100 else f"{int(self.percentile)} % of"
        return f"worse than {share} photographs"


def locate(error: float, quantiles: Sequence[float] | None) -> FeatureError:
    """An error with its percentile, where quantiles are known and the error is defined."""
    return FeatureError(error, percentile(error, quantiles) if quantiles and math.isfinite(error) else None)


def percentile(error: float, quantiles: Sequence[float]) -> float:
    """How many of 100 photographs have a smaller feature error.

    Args:
        error: of a reconstruction.
        quantiles: evenly spaced from the smallest to the largest, between which is interpolated.
    """
    above = bisect_left(quantiles, error)
    if above in (0, len(quantiles)):
        return 100.0 if above else 0.0
    low, high = quantiles[above - 1 : above + 1]
    return 100 * (above - 1 + (error - low) / (high - low)) / (len(quantiles) - 1)
