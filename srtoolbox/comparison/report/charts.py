"""Draws the charts of a study: quality against cost, training curves, sweeps, differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.style import INK, Look, in_style, looks, new_figure
from srtoolbox.comparison.report.tables import Differences
from srtoolbox.comparison.store import Entry
from srtoolbox.comparison.stored_files import Damage, RecordFile, check_value
from srtoolbox.engine.evaluation.records import mean
from srtoolbox.utils.console import names_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_COST_AXES = (
    ("params", 1e-6, "parameters (M)"),
    ("flops", 1e-9, "GFLOPs per frame"),
    ("latency", 1e3, "ms per frame"),
)
_MAX_STEPS_WITH_MARKERS = 24
_GOLDEN_RATIO = 0.618034
_MOST_DOTS = 200  # of a method; more are drawn as pixels, so that a report of 10⁵ images opens

# Entries of a training log that are not losses of the generator.
_NO_LOSSES = ("step", "lr", "it/s", "data wait", "memory")
_NO_LOSS_PREFIXES = ("grad_", "lr_", "l_d", "out_d")

Curve = tuple[np.ndarray, ...]  # x values, and the mean, lowest and highest value at each


@in_style()
def draw_tradeoff(scores: Scores, dataset: str) -> Figure | None:
    """Draws quality against parameters, FLOPs and latency; returns None if no costs are known.

    A method of cost 0, such as interpolation without parameters, is a horizontal line. Means are
    those of the table. Above the panels are the names of methods whose mean is not finite.
    """
    metric = scores.shown_metrics[0]
    quality, not_shown = {}, []
    for method in scores.methods:
        values = [means.get(metric) for means in scores.seed_means(method, dataset)]
        value = mean(values, scores.direction(metric) < 0)
        if value is not None and np.isfinite(value):
            quality[method] = value
        elif value is not None:
            not_shown.append(method)
    costs = {method: scores.cost(scores.entries[method][0]) for method in quality}
    if not any(costs.values()):
        return None
    look = looks(scores.methods)
    figure = new_figure(10.5, 3.7)
    panels = figure.subplots(1, len(_COST_AXES), sharey=True)
    for axis, (key, factor, label) in zip(panels, _COST_AXES, strict=True):
        for method, value in quality.items():
            x, style = costs[method].get(key), look[method]
            if x == 0:
                axis.axhline(value, color=style.color, linewidth=1.1, linestyle=(0, (4, 2)))
                axis.plot([], [], label=method, color=style.color, linestyle=(0, (4, 2)))
            elif x is not None:
                mark = {"marker": style.marker, "markersize": 8, "markeredgewidth": 0.8}
                mark |= {"color": style.color, "markeredgecolor": "white", "linestyle": ""}
                axis.plot([x * factor], [value], label=method, **mark)
        _logarithmic(axis, "x", [c[key] * factor for c in costs.values() if c.get(key)])
        axis.set(xlabel=label)
        axis.grid(visible=True)
        axis.margins(y=0.12)
    if len(scores.datasets) > 1:
        panels[0].set_title(dataset)
    panels[0].set_ylabel(scores.label(metric))
    if not_shown:
        text = f"not shown, as the mean is not finite: {names_text(not_shown)}"
        figure.suptitle(text, fontsize="small")
    _legend(figure, panels)
    return figure


@in_style()
def draw_curves(scores: Scores) -> Figure | None:
    """Draws training loss and validation score over the steps; returns None without trainings.

    Several seeds give a line for their mean and a band from the lowest to the highest value.
    """
    look = looks(scores.methods)
    metric = next(iter(scores.metrics))
    losses = _curves(scores, lambda entry: generator_losses(scores, entry))
    quality = _curves(scores, lambda entry: _quality(scores, entry, metric))
    if not losses and not quality:
        return None
    figure = new_figure(10.5, 3.9)
    left, right = figure.subplots(1, 2)
    for axis, curves in ((left, losses), (right, quality)):
        _lines_with_bands(axis, curves, look)
        axis.set(xlabel="iteration")
        axis.xaxis.get_major_locator().set_params(integer=True)
    left.set(title="training loss")
    _logarithmic(left, "y", [v for curve in losses.values() for v in curve[1].tolist()])
    right.set(title=f"validation {scores.label(metric)}")
    _legend(figure, (left, right))
    return figure


@in_style()
def draw_sweeps(scores: Scores) -> Figure | None:
    """Draws the first metric over the quantity of each sweep; returns None without sweeps.

    Several seeds give a line for their mean and a band from the lowest to the highest value.
    """
    metric = scores.shown_metrics[0]
    panels = {}
    for quantity, points in scores.card.sweeps.items():
        if curves := _curves(scores, partial(_sweep, scores, points, metric)):
            panels[quantity] = curves
    if not panels:
        return None
    across = len(panels) if len(panels) < 4 else 2 if len(panels) == 4 else 3
    down = -(-len(panels) // across)
    figure = new_figure((6.4, 10.5, 12.5)[across - 1], 0.5 + 3.4 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for number, (axis, (quantity, curves)) in enumerate(zip(axes, panels.items(), strict=False)):
        _lines_with_bands(axis, curves, looks(scores.methods))
        axis.set(xlabel=quantity)
        if number % across == 0:
            axis.set_ylabel(scores.label(metric))
        values = sorted(scores.card.sweeps[quantity].values())
        # One label per test set, if there is enough room.
        if min(np.diff(values)) * 14 > values[-1] - values[0]:
            axis.set_xticks(values, [f"{x:g}" for x in values])
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _legend(figure, axes[: len(panels)])
    return figure


@in_style()
def draw_differences(scores: Scores, dataset: str, baseline: str | None = None) -> Figure | None:
    """Draws the differences to a baseline by image or clip, with their mean and 95 % interval.

    Returns None if there is nothing to compare. A baseline of None is the best method.
    """
    metric = scores.shown_metrics[0]
    against = Differences(scores, dataset, metric, baseline)
    rows = [m for m, values in against.values.items() if np.isfinite(values).all()]
    if not rows:
        return None
    look = looks(scores.methods)
    figure = new_figure(8.4, 1.35 + 0.42 * len(rows))
    axis = figure.subplots()
    axis.axvline(0, color=INK, linewidth=1)
    for place, method in enumerate(rows):
        values, interval = against.values[method], against.differences[method]
        style = look[method]
        # The rank of a point decides its offset: no random numbers, the same figure every time.
        spread = ((np.argsort(np.argsort(values)) * _GOLDEN_RATIO) % 1 - 0.5) * 0.44
        dots = axis.scatter(values, place + spread, s=13, color=style.color, alpha=0.4, lw=0)
        dots.set_rasterized(values.size > _MOST_DOTS)
        if np.isfinite([interval.low, interval.high]).all():
            axis.plot([interval.low, interval.high], [place] * 2, color=INK, linewidth=2.4)
        mark = {"marker": "D", "markersize": 6, "markeredgecolor": INK, "markeredgewidth": 1.4}
        axis.plot(interval.mean, place, color="white", **mark)
    axis.set_yticks(range(len(rows)), rows, color=INK)
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(visible=True, axis="x")
    unit = scores.unit(dataset)[:-1]
    axis.set(
        title=f"{dataset}: difference to {against.baseline} by {unit}, mean and 95 % interval",
        xlabel=f"difference in {scores.label(metric)}",
    )
    return figure


def _lines_with_bands(axis: Axes, curves: dict[str, Curve], look: dict[str, Look]) -> None:
    """Draws each method's mean as a line, with a band around it where its seeds differ."""
    for method, (x, middle, low, high) in curves.items():
        style = look[method]
        marker = style.marker if len(x) <= _MAX_STEPS_WITH_MARKERS else ""
        look_of_line = {"color": style.color, "linestyle": style.dash, "marker": marker}
        axis.plot(x, middle, label=method, markersize=4, **look_of_line)
        if (high > low).any():
            axis.fill_between(x, low, high, color=style.color, alpha=0.15, lw=0)
    axis.grid(visible=True)


def _curves(scores: Scores, values_of: Callable[[Entry], dict[float, float]]) -> dict[str, Curve]:
    """Returns the curve of each method over its seeds; ``values_of`` returns that of one seed."""
    found = {m: summarize_seeds(map(values_of, entries)) for m, entries in scores.entries.items()}
    return {method: curve for method, curve in found.items() if curve is not None}


def _sweep(
    scores: Scores, points: Mapping[str, float], metric: str, entry: Entry
) -> dict[float, float]:
    """Returns the finite scores on the test sets of a sweep by their value of its quantity."""
    found = {x: scores.means(entry, name).get(metric) for name, x in points.items()}
    return {x: score for x, score in found.items() if score is not None and np.isfinite(score)}


def generator_losses(scores: Scores, entry: Entry) -> dict[float, float]:
    """Returns the generator's loss by step."""
    curve = {}
    for line in _lines(scores, entry, "log.jsonl"):
        names = [n for n in line if n not in _NO_LOSSES and not n.startswith(_NO_LOSS_PREFIXES)]
        if names:
            curve[line["step"]] = sum(line[name] or 0.0 for name in names)
    return curve


def _quality(scores: Scores, entry: Entry, metric: str) -> dict[float, float]:
    """Returns the score on the first validation set by step."""
    lines = _lines(scores, entry, "evaluation.jsonl")
    return {
        line["step"]: line[metric]
        for line in lines
        if line.get("dataset") == lines[0].get("dataset") and line.get(metric) is not None
    }


def _lines(scores: Scores, entry: Entry, name: str) -> list[dict[str, Any]]:
    path = scores.store.folder / entry.run / name if entry.run else None
    return list(RecordFile(path, _check_line)) if path else []


def _check_line(line: dict[str, Any]) -> None:
    """Checks a line of a training log: the step and numbers, and the name of a dataset."""
    if "step" not in line:
        raise Damage("'step' is missing")
    for key, value in line.items():
        known = str if key == "dataset" else float | None
        line[key] = check_value(value, known, key)


def summarize_seeds(seeds: Iterable[dict[float, float]]) -> Curve | None:
    """Returns the x values that all seeds have, and the mean, lowest and highest value there."""
    found = [seed for seed in seeds if seed]
    shared = sorted(set.intersection(*map(set, found))) if found else []
    if not shared:
        return None
    values = np.array([[seed[x] for x in shared] for seed in found])
    return np.array(shared), values.mean(0), values.min(0), values.max(0)


def _logarithmic(axes: Axes, name: str, values: list[float]) -> None:
    """Makes the x or y axis logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    values = [value for value in values if value > 0]
    if not values:
        return
    low, high = min(values) / 1.35, max(values) * 1.35
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    if high / low < 12:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis: Axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """Draws one legend below all panels."""
    handles: dict[str, Any] = {}
    for axis in panels:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 7)
    )
