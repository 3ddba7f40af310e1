"""`report.md`: what an evaluation found, for people."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inverters.evaluation.interpretation import interpret, interpret_edits
from inverters.evaluation.records import Record
from inverters.evaluation.results import MIN_IMAGES, Interval, Results
from inverters.evaluation.scores import METRICS, Metric
from inverters.metrics import LARGEST_PSNR

FIGURES = {
    "quality.png": "PSNR and SSIM by layer",
    "detail.png": "Power spectra of the images and of the errors",
    "speed.png": "PSNR over the time for one image",
}
EDITING = (
    "The features of each layer are changed, then decoded. What noise and drop cost shows how robust the code of a "
    "layer is. What top and binarize cost shows how sparse it is, and whether values matter or only which are not "
    "zero. What erase costs shows how local it is: neighbours that saw the box may give a part of it back. Where "
    "little is left to lose, every edit costs little. The feature error compares the features of the decoded image "
    "with those of the original."
)
RANKED = {"psnr": "by PSNR (dB)", "feature_error": "by feature error", "seconds": "by time (s)"}


def as_markdown(results: Results) -> str:
    """An interpretation, the rankings, the figures, a table for each metric, and the settings."""
    parts = [
        "# Benchmark decoders against optimisation and linear baselines",
        " ".join(interpret(results)),
        _setting(results),
        "![Reconstructions: methods as rows, layers as columns](depth.png)",
        "## Summary",
        "The methods at each layer with their means, best first.",
        _table(["layer", *RANKED.values()], [[layer, *_rankings(results, layer)] for layer in results.layers]),
        *(f"![{caption}]({file})" for file, caption in FIGURES.items()),
    ]
    parts += _edits(results)
    for name, metric in results.metrics.items():
        direction = "Higher" if metric.higher_is_better else "Lower"
        parts += [f"## {metric.label}", f"{metric.meaning} {direction} is better.", _means(results, name, metric)]
    settings = json.dumps(results.settings, indent=2, ensure_ascii=False)
    parts += ["## Settings", *remarks(results.settings), *_notes(results), f"```json\n{settings}\n```"]
    return "\n\n".join(parts) + "\n"


def _edits(results: Results) -> list[str]:
    """What edits of the features cost, as sentences, a figure and tables."""
    if not results.edits:
        return []
    parts = ["## Edited features", EDITING, "![PSNR and feature error by layer, for each edit](edits.png)"]
    for method in results.edited_methods:
        parts.append(" ".join(interpret_edits(results, method)))
        for name in ("psnr", "feature_error"):
            parts += [f"{METRICS[name].label} by {method}:", _edit_table(results, method, name)]
    return parts


def _edit_table(results: Results, method: str, metric: str) -> str:
    """A row for each layer, a column for the features as they are and one for each edit."""
    rows = []
    for layer, by_edit in results.edited[method].items():
        plain = results.summary[layer][method].get(metric)
        edited = (by_edit.get(edit, {}).get(metric) for edit in results.edits)
        rows.append([layer, *(_shown(interval, METRICS[metric]) for interval in (plain, *edited))])
    return _table(["layer", "unedited", *results.edits], rows)


def remarks(settings: Mapping[str, Any]) -> list[str]:
    """What the evaluation leaves out, and why; each is a sentence."""
    missing: dict[str, list[str]] = settings["missing_decoders"]
    return [
        *(f"{method} is left out at {', '.join(layers)}: there is no decoder." for method, layers in missing.items()),
        *(f"{METRICS[name].title} is left out: {reason}." for name, reason in settings["left_out"].items()),
        *(f"Skipped image: {reason}." for reason in settings["skipped"]),
    ]


def _setting(results: Results) -> str:
    """The encoder, the images, the device, and what the numbers are."""
    settings = results.settings
    images = settings["images"]
    device = settings["device"]
    if device.startswith("cpu"):
        threads = sorted({record.threads for record in results.records})
        device += f", threads: {' and '.join(map(str, threads))}"
    intervals = (
        "with bootstrap 95 % intervals"
        if images >= MIN_IMAGES
        else f"without intervals, which take at least {MIN_IMAGES} images"
    )
    return (
        f"Encoder: {settings['encoder']}. Images: {images} of `{settings['data']}`, centre crops of "
        f"{settings['size']}×{settings['size']} pixels. Device: {device}. Numbers are means over the images, "
        f"{intervals}."
    )


def _rankings(results: Results, layer: str) -> list[str]:
    """The methods with their means, best first, by each of `RANKED`."""
    return [
        ", ".join(f"{method} {mean:{METRICS[metric].format}}" for method, mean in results.means(layer, metric).items())
        for metric in RANKED
    ]


def _means(results: Results, name: str, metric: Metric) -> str:
    """A table with a row for each layer, a column for each method, and the best mean of each row in bold."""
    rows = []
    for layer, found in results.summary.items():
        best = next(iter(results.means(layer, name).values()), None)
        row = [layer]
        for method in results.methods:
            interval = found.get(method, {}).get(name)
            text = _shown(interval, metric)
            row.append(f"**{text}**" if interval and interval.mean == best else text)
        rows.append(row)
    return _table(["layer", *results.methods], rows)


def _shown(interval: Interval | None, metric: Metric) -> str:
    if interval is None:
        return "–"
    mean = f"{interval.mean:{metric.format}}"
    if interval.low is None:
        return mean
    low, high = (f"{value:{metric.format}}" for value in (interval.low, interval.high))
    return mean if low == high else f"{mean} [{low}, {high}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _notes(results: Results) -> list[str]:
    """What happened to single images, as paragraphs."""
    exact = [record for record in results.records if record.scores["psnr"] is None]
    names = ", ".join(f"{record.name} from {record.layer} by {_made(record)}" for record in exact)
    return [
        *([f"Exact to the last bit, which counts as {LARGEST_PSNR:.0f} dB in means: {names}."] if exact else []),
        *(
            f"{record.name}, {record.layer}, {_made(record)}: {note}."
            for record in results.records
            for note in record.notes
        ),
    ]


def _made(record: Record) -> str:
    return f"{record.method} after {record.edit}" if record.edit else record.method
