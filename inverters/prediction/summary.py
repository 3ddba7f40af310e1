"""`Summary`: how many images were inverted, and how well."""

from dataclasses import dataclass, field

from inverters.prediction.writers import Failure, Prediction

Sums = dict[str, dict[str, tuple[float, int]]]


@dataclass
class Summary:
    """Counts of images, and sums of their PSNR in dB and of their feature errors.

    Attributes:
        inverted, existing, failed: numbers of images.
        psnr, feature_error: by method and layer, the sum over images, and the number of them.
    """

    inverted: int = 0
    existing: int = 0
    failed: int = 0
    psnr: Sums = field(default_factory=dict)
    feature_error: Sums = field(default_factory=dict)

    def add(self, result: Prediction | Failure) -> None:
        """Count one image."""
        if isinstance(result, Failure):
            self.failed += 1
            return
        if result.existing:
            self.existing += 1
        else:
            self.inverted += 1
        for method in result.metrics.methods if result.metrics else ():
            for layer, psnr in method.psnr.items():
                _add(self.psnr, method.provenance.label, layer, psnr, 1)
            for layer, error in method.feature_errors.items():
                _add(self.feature_error, method.provenance.label, layer, error.value, 1)

    def merge(self, other: "Summary") -> None:
        """Count the images of another summary."""
        self.inverted += other.inverted
        self.existing += other.existing
        self.failed += other.failed
        for sums, others in ((self.psnr, other.psnr), (self.feature_error, other.feature_error)):
            for method, layers in others.items():
                for layer, (total, count) in layers.items():
                    _add(sums, method, layer, total, count)

    def means(self) -> dict[str, dict[str, float]]:
        """The mean PSNR in dB by method and layer."""
        return _means(self.psnr)

    def mean_feature_errors(self) -> dict[str, dict[str, float]]:
        """The mean feature error by method and layer; of edited features there is none."""
        return _means(self.feature_error)


def _add(sums: Sums, method: str, layer: str, total: float, count: int) -> None:
    layers = sums.setdefault(method, {})
    before, images = layers.get(layer, (0.0, 0))
    layers[layer] = (before + total, images + count)


def _means(sums: Sums) -> dict[str, dict[str, float]]:
    return {
        method: {layer: total / count for layer, (total, count) in layers.items()} for method, layers in sums.items()
    }
