"""`report.md`: what came out of an evaluation, for people."""

import json
from collections.abc import Sequence

from inverters.evaluation.results import METRICS, Interval, Metric, Results

FIGURES = {  # by the metric whose table each one follows
    "ssim": ("quality.png", "PSNR and SSIM over depth"),
    "resolved_detail": ("detail.png", "Resolved detail over depth, and the power spectra of the errors"),
    "seconds": ("speed.png", "PSNR over the time that an image takes"),
}
RANKED = {"psnr": "by PSNR (dB)", "feature_error": "by feature error", "seconds": "by time (s)"}


def as_markdown(results: Results) -> str:
    """The rankings, a table for each metric, the figures, and how it all was made."""
    settings = results.settings
    parts = [
        f"# Reconstructions from {settings['encoder']}, compared",
        f"{settings['images']} images of `{settings['data']}`, centre crops of {settings['size']}×{settings['size']} "
        f"pixels, on {settings['device']}. Numbers are means over the images, with their bootstrap 95 % intervals.",
        "![Reconstructions: methods as rows, layers as columns](depth.png)",
        "## What came out",
        *([_comparison(results)] if len(results.methods) > 1 else []),
        _table(["layer", *RANKED.values()], [[layer, *_rankings(results, layer)] for layer in results.layers]),
    ]
    for name, metric in results.metrics.items():
        direction = "Higher" if metric.higher_is_better else "Lower"
        parts += [f"## {metric.label}", f"{metric.meaning} {direction} is better.", _means(results, name, metric)]
        if name in FIGURES:
            file, caption = FIGURES[name]
            parts.append(f"![{caption}]({file})")
    parts += [
        "## How it was made",
        *_remarks(results),
        f"```json\n{json.dumps(settings, indent=2, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _comparison(results: Results) -> str:
    """At which layers pixels and features rank the methods alike, and at which not."""
    verdicts: dict[str, list[str]] = {}
    for layer in results.layers:
        by_pixels, by_features = (_ranking(results, layer, metric) for metric in ("psnr", "feature_error"))
        if by_pixels == by_features:
            verdict = "alike"
        elif by_pixels == by_features[::-1]:
            verdict = "exactly the other way round"
        else:
            verdict = "differently"
        verdicts.setdefault(verdict, []).append(layer)
    found = "; ".join(f"{verdict} at {', '.join(layers)}" for verdict, layers in verdicts.items())
    return f"By their pixels (PSNR) and by their features (feature error) the methods rank {found}. Best first:"


def _rankings(results: Results, layer: str) -> list[str]:
    """The methods with their means, best first, by each of `RANKED`."""
    return [
        ", ".join(
            f"{method} {results.summary[layer][method][metric].mean:{METRICS[metric].format}}"
            for method in _ranking(results, layer, metric)
        )
        for metric in RANKED
    ]


def _ranking(results: Results, layer: str, metric: str) -> list[str]:
    """The methods that have a mean, best first."""
    means = {name: found[metric].mean for name, found in results.summary[layer].items() if metric in found}
    return sorted(means, key=means.__getitem__, reverse=METRICS[metric].higher_is_better)


def _means(results: Results, name: str, metric: Metric) -> str:
    """A table with a row for each layer, a column for each method, and the best mean of each row in bold."""
    rows = []
    for layer, found in results.summary.items():
        best = [found[method][name].mean for method in _ranking(results, layer, name)[:1]]
        row = [layer]
        for intervals in found.values():
            interval = intervals.get(name)
            text = _shown(interval, metric)
            row.append(f"**{text}**" if interval and interval.mean in best else text)
        rows.append(row)
    return _table(["layer", *results.methods], rows)


def _shown(interval: Interval | None, metric: Metric) -> str:
    if interval is None:
        return "–"
    mean, low, high = (f"{value:{metric.format}}" for value in interval[:3])
    return mean if low == high else f"{mean} [{low}, {high}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _remarks(results: Results) -> list[str]:
    """What a reader must know beside the settings, as paragraphs: what was left out, and what went wrong."""
    remarks = [
        f"{METRICS[name].title} was left out: {reason}." for name, reason in results.settings["left_out"].items()
    ]
    remarks += [f"Not an image of the set: {reason}." for reason in results.settings["skipped"]]
    exact = [record for record in results.records if record.scores["psnr"] is None]
    if exact:
        places = ", ".join(f"{record.name} from {record.layer} by {record.method}" for record in exact)
        remarks.append(f"Exact to the last bit, and so without a PSNR and not in its means: {places}.")
    return remarks + [
        f"{record.name}, {record.layer}, {record.method}: {note}."
        for record in results.records
        for note in record.notes
    ]
