"""`Summary`: how many images were inverted, and how well."""

from dataclasses import dataclass, field

from inverters.prediction.writers import Failure, Prediction


@dataclass
class Summary:
    """Counts of images, and sums of their PSNR in dB.

    Attributes:
        inverted, existing, failed: numbers of images.
        psnr: by method and layer, the sum over images, and the number of them.
    """

    inverted: int = 0
    existing: int = 0
    failed: int = 0
    psnr: dict[str, dict[str, tuple[float, int]]] = field(default_factory=dict)

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
                self._add(method.provenance.label, layer, psnr, 1)

    def merge(self, other: "Summary") -> None:
        """Count the images of another summary."""
        self.inverted += other.inverted
        self.existing += other.existing
        self.failed += other.failed
        for method, layers in other.psnr.items():
            for layer, (total, count) in layers.items():
                self._add(method, layer, total, count)

    def means(self) -> dict[str, dict[str, float]]:
        """The mean PSNR in dB by method and layer."""
        return {
            method: {layer: total / count for layer, (total, count) in layers.items()}
            for method, layers in self.psnr.items()
        }

    def _add(self, method: str, layer: str, total: float, count: int) -> None:
        layers = self.psnr.setdefault(method, {})
        before, images = layers.get(layer, (0.0, 0))
        layers[layer] = (before + total, images + count)
