"""What the numbers of an evaluation mean, in three sentences."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from inverters.evaluation.results import Results
from inverters.evaluation.scores import METRICS
from inverters.inversion.method_names import REFINED

MAX_LISTED = 5  # values in a sentence; of more layers it gives the range

Key = TypeVar("Key", bound=Hashable)


def interpret(results: Results) -> list[str]:
    """Which method is closest, what optimisation gains, and where features and pixels disagree.

    Where no layer has two methods to compare: PSNR, feature error and time by layer. Exact reconstructions have no
    PSNR and take no part.
    """
    layers = [layer for layer in results.layers if len(results.means(layer, "psnr")) > 1]
    if not layers:
        return [sentence for metric in ("psnr", "feature_error", "seconds") if (sentence := _by_layer(results, metric))]
    return [_closest(results, layers), _gains(results) or _leads(results, layers), _disagreement(results, layers)]


def interpret_edits(results: Results, method: str) -> list[str]:
    """What each edit changes in the PSNR of a method that is a decoder, over depth."""
    sentences = []
    for edit in results.edits:
        changes = {
            layer: by_edit[edit]["psnr"].mean - results.summary[layer][method]["psnr"].mean
            for layer, by_edit in results.edited[method].items()
            if "psnr" in by_edit.get(edit, {}) and "psnr" in results.summary[layer][method]
        }
        if changes:
            sentences.append(f"{edit} changes the PSNR by {_listed(changes, '+.1f', 'dB')}.")
    return sentences


def _by_layer(results: Results, metric: str) -> str | None:
    found = {layer: next(iter(means.values())) for layer in results.layers if (means := results.means(layer, metric))}
    title, unit, form, *_ = METRICS[metric]
    method = f" of {results.methods[0]}" if len(results.methods) == 1 else ""
    return f"{title}{method}: {_listed(found, form, unit)}." if found else None


def _closest(results: Results, layers: Sequence[str]) -> str:
    closest = _grouped({layer: next(iter(results.means(layer, "psnr"))) for layer in layers})
    (first, where), *others = closest.items()
    clauses = [f"{first} is closest to the image at {_range(where, results.layers)}"]
    clauses += [f"{method} at {_range(where, results.layers)}" for method, where in others]
    return f"By PSNR, {_joined(clauses)}."


def _gains(results: Results) -> str | None:
    """What optimisation changes where it starts from a decoder; None if the two are not compared."""
    clauses = []
    for method in results.methods:
        means = {layer: results.means(layer, "psnr") for layer in results.layers}
        gains = {
            layer: found[method + REFINED] - found[method]
            for layer, found in means.items()
            if {method, method + REFINED} <= found.keys()
        }
        if gains:
            start = "the decoder" if method == "decoder" else f"the {method} decoder"
            clauses.append(f"started from {start} changes its PSNR by {_listed(gains, '+.1f', 'dB')}")
    return f"Optimisation {'; '.join(clauses)}." if clauses else None


def _leads(results: Results, layers: Sequence[str]) -> str:
    means = {layer: list(results.means(layer, "psnr").values()) for layer in layers}
    leads = {layer: first - second for layer, (first, second, *_) in means.items()}
    return f"The lead over the next method is {_listed(leads, '.1f', 'dB')}."


def _disagreement(results: Results, layers: Sequence[str]) -> str:
    """Where the method with the closest features is not the one with the closest pixels."""
    best = {
        layer: (next(iter(results.means(layer, "feature_error"))), next(iter(results.means(layer, "psnr"))))
        for layer in layers
    }
    clauses = [
        f"at {_range(where, results.layers)} {features} has the closest features but {pixels} the closest pixels"
        for (features, pixels), where in _grouped(best).items()
        if features != pixels
    ]
    if not clauses:
        return f"The closest features go with the closest pixels at {_range(layers, results.layers)}."
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}: there, closer features do not mean closer pixels."


def _listed(values: Mapping[str, float], form: str, unit: str) -> str:
    """`1.2 dB at relu1_2 and 0.3 dB at relu2_2`, or the range where there are many layers."""
    shown = {layer: f"{value:{form}} {unit}".rstrip().replace("-", "−") for layer, value in values.items()}
    if len(values) <= MAX_LISTED:
        return _joined([f"{text} at {layer}" for layer, text in shown.items()])
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    return f"{shown[low]} (at {low}) to {shown[high]} (at {high})"


def _range(layers: Sequence[str], order: Sequence[str]) -> str:
    """`relu1_2, relu2_2 and relu4_2`, or `relu1_2 to relu3_2` where three or more follow each other."""
    runs: list[list[str]] = []
    for layer in layers:
        if runs and order.index(layer) == order.index(runs[-1][-1]) + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    shown = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else run for run in runs]
    return _joined([text for run in shown for text in run])


def _joined(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _grouped(values: Mapping[str, Key]) -> dict[Key, list[str]]:
    """The layers by value."""
    groups: dict[Key, list[str]] = {}
    for layer, value in values.items():
        groups.setdefault(value, []).append(layer)
    return groups
