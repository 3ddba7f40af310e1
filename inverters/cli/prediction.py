"""The progress and the results that `predict` and `optimize` print."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inverters.cli.printer import Printer
from inverters.cli.tables import SHOWN_IMAGES, ByMethod, error_table, psnr_table
from inverters.errors import printable
from inverters.inversion.runner import Step
from inverters.inversion.saved import STRIP, ImageMetrics
from inverters.prediction.pipeline import Pipeline
from inverters.prediction.predict import predict
from inverters.prediction.summary import Summary
from inverters.prediction.writers import Failure, Prediction

ITERATIONS = 20  # where there is no terminal, progress is shown after so many,
IMAGES = 100  # after each of so few images,
SECONDS = 30  # and after so much time where there are more


@dataclass
class Results:
    """The results of a run.

    Attributes:
        summary: counts and means.
        first: names and measurements of the first images.
        folder: of the last image, if it has one.
        documents: what `--json` prints, one for each image.
        interrupted: whether Ctrl-C ended an optimisation whose result was kept.
    """

    summary: Summary = field(default_factory=Summary)
    first: list[tuple[str, ImageMetrics]] = field(default_factory=list)
    folder: Path | None = None
    documents: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False

    def add_failures(self, problems: Mapping[str, str]) -> None:
        """Count paths that are no images."""
        for source, reason in problems.items():
            self.summary.add(Failure(source, reason))
            self.documents.append({"image": source, "error": reason})


def run(pipeline: Pipeline, printer: Printer) -> Results:
    """Run the pipeline in this process, with progress and errors on stderr."""
    results = Results()
    images = pipeline.reader.images
    shown = time.monotonic()
    with printer.progress_bar() as bar:
        task = bar.add_task("inverting", total=len(images))

        def show(index: int, step: Step) -> None:
            text = printable(f"{Path(images.source(index)).name}: {_describe(step)}")
            bar.update(task, description=text)
            if len(images) == 1:
                bar.update(task, completed=step.done, total=step.total)
            if (step.layer is None and step.total > 1) or (step.layer and step.done % ITERATIONS == 0):
                printer.step(text)

        pipeline.progress = show
        for done, result in enumerate(predict(pipeline), start=1):
            bar.update(task, completed=done, total=len(images))
            results.summary.add(result)
            if isinstance(result, Failure):
                printer.error(result.reason)
                if printer.json:
                    results.documents.append({"image": result.source, "error": result.reason})
                continue
            _add(results, result, images.name(done - 1), printer)
            if 1 < len(images) <= IMAGES and not result.existing:
                printer.step(f"inverted {images.source(done - 1)}")
            elif len(images) > IMAGES and time.monotonic() - shown > SECONDS:
                shown = time.monotonic()
                printer.step(f"{done} of {len(images)} images")
    return results


def print_results(results: Results, output_dir: Path, printer: Printer) -> None:
    """Print the tables of PSNR and feature errors and where the results are, or the JSON document."""
    summary, means, errors = results.summary, results.summary.means(), results.summary.mean_feature_errors()
    count = summary.inverted + summary.existing
    if means:
        printer.table(psnr_table(results.first, count, means))
    if errors:
        printer.table(error_table(results.first, count, errors))
    if count == 1 and summary.inverted and results.folder:
        printer.line(f"wrote {results.folder / STRIP}")
    elif count:
        counts = f"inverted {summary.inverted} images, {summary.existing} existed, {summary.failed} failed"
        printer.line(f"{counts}; wrote {output_dir}" if summary.inverted else counts)
    printer.document(
        {
            "output_dir": str(output_dir),
            "inverted": summary.inverted,
            "existing": summary.existing,
            "failed": summary.failed,
            "psnr": _rounded(means, "{:.3f}"),
            "feature_error": _rounded(errors, "{:.6g}"),
            "images": results.documents,
        }
    )


def _rounded(values: ByMethod, form: str) -> dict[str, dict[str, float]]:
    return {
        method: {layer: float(form.format(value)) for layer, value in layers.items()}
        for method, layers in values.items()
    }


def _add(results: Results, prediction: Prediction, name: str, printer: Printer) -> None:
    metrics, results.folder = prediction.metrics, prediction.folder
    if metrics is None:
        return
    results.interrupted = metrics.interrupted
    if len(results.first) < SHOWN_IMAGES:
        results.first.append((name, metrics))
    if printer.json:
        folder = prediction.folder and str(prediction.folder)
        results.documents.append({**metrics.as_json(), "folder": folder, "existing": prediction.existing})
    for note in (note for method in metrics.methods for note in method.notes):
        printer.note(f"{name}: {note}")


def _describe(step: Step) -> str:
    if step.layer is None:
        return f"tile {step.done} of {step.total}"
    return f"{step.layer} {step.done}/{step.total}  objective {step.objective:.3e}"
