"""Results with given scores, for tests of what is made of them."""

from collections.abc import Mapping

from inverters.evaluation.records import Record
from inverters.evaluation.results import Results
from inverters.evaluation.scores import METRICS
from inverters.inversion.method_names import METHODS

Scores = Mapping[str, Mapping[str, float | None]]  # by layer and method
SECONDS = {"decoder": 0.045, "perceptual": 0.048, "linear": 0.02}  # by method; the others take 20


def made_results(psnr: Scores, feature_error: Scores | None = None, images: int = 1) -> Results:
    """Every image has the PSNR of its layer and method; unless it is given, the feature error falls with the PSNR."""
    records = [
        Record(
            image=image,
            name=f"{image}.png",
            layer=layer,
            method=method,
            threads=2,
            scores={
                **dict.fromkeys(METRICS, 0.5),
                "psnr": score,
                "feature_error": feature_error[layer][method] if feature_error else 1 / (score or 100),
                "seconds": SECONDS.get(method, 20.0),
            },
            error_spectrum=[0.1, 0.01],
            notes=[],
        )
        for image in range(images)
        for layer, by_method in psnr.items()
        for method, score in by_method.items()
    ]
    settings = {
        "data": "photographs",
        "images": images,
        "size": 64,
        "encoder": "vgg19",
        "device": "cpu (x86_64, AVX2)",
        "layers": list(psnr),
        "methods": [method for method in METHODS if any(method in by_method for by_method in psnr.values())],
        "missing_decoders": {},
        "seed": 0,
        "left_out": {},
        "skipped": [],
    }
    return Results(settings, records, frequencies=[0.25, 0.5], image_spectrum=[1.0, 0.1])
