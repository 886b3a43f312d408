"""How sure a mean is, and which methods can be told apart.

Values must be independent of one another: one per image, or the clips' means, since the frames of
a clip resemble each other and would pretend to more evidence than there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from srtoolbox.errors import UserError

_FEW = 10  # values of which a bootstrap has too few distinct resamples
_CHUNK = 1 << 21  # indices drawn at a time: 16 MiB


class Interval(NamedTuple):
    """A mean and its confidence interval, in the values' unit; NaN limits where there is none."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """The mean of paired differences a - b, its confidence interval, and a two-sided p."""

    mean: float
    low: float
    high: float
    p: float


def bootstrap(
    values: np.ndarray, *, draws: int = 10000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The mean of a sample and the confidence interval of what it estimates.

    The expanded percentile interval: plain percentiles are too narrow by √((n-1)/n) and know
    nothing of Student's t, so further percentiles are taken (T. Hesterberg, "What teachers should
    know about the bootstrap", The American Statistician 2015). Of fewer than ten values, Student's
    interval. All samples of one length and seed are resampled with the same indices, so that
    intervals of several methods over the same images belong together.

    Args:
        values: (n,) finite for an interval; a single value, or an infinite one, has none.
        draws: Resamples.
        seed: Of the resampling.
        level: Confidence, in (0, 1).
    """
    values = _sample(values)
    n = len(values)
    if n < _FEW or not np.isfinite(values).all():
        return _student(values, level)
    t = stats.t.ppf((1 + level) / 2, n - 1)
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)
    low, high = np.quantile(_resampled_means(values, draws, seed), [tail, 1 - tail])
    return Interval(values.mean().item(), low.item(), high.item())


def paired(
    a: np.ndarray, b: np.ndarray, *, draws: int = 10000, seed: int = 0, level: float = 0.95
) -> Difference:
    """By how much ``a`` exceeds ``b``, image by image.

    The interval is ``bootstrap``'s. p is that of the paired t-test: a bootstrap resolves nothing
    below one over its draws, which correcting for many comparisons would use up. 1 where nothing
    can be said, as of a single image.

    Args:
        a: (n,) values of one method.
        b: (n,) values of the other on the same images. Where both are infinite, they are equal.
        draws: Resamples.
        seed: Of the resampling.
        level: Confidence, in (0, 1).

    Raises:
        UserError: if the lengths differ.
    """
    differences = _differences(a, b)
    interval = bootstrap(differences, draws=draws, seed=seed, level=level)
    return Difference(*interval, _p_of_zero_mean(differences))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for being many, in their order.

    Rejecting where the result is below 5 % rejects any true hypothesis at all with a probability
    below 5 %, however the tests depend on each other (S. Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 1979).
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def not_distinguishable(
    scores: Mapping[str, np.ndarray], higher_is_better: bool, level: float = 0.95
) -> set[str]:
    """The method of the best mean, and all that cannot be told apart from it.

    Corrected for all pairs of methods, not for those with the best one only: which is best was
    chosen by looking. With probability ``level`` no method equal to the best is left out.

    Args:
        scores: (n,) values of each method, on the same images.
        higher_is_better: Direction of the metric.
        level: Confidence, in (0, 1).

    Raises:
        UserError: if the lengths differ.
    """
    if not scores:
        return set()
    means = {name: np.mean(values) for name, values in scores.items()}
    best = (max if higher_is_better else min)(means, key=lambda name: means[name])
    pairs = list(combinations(scores, 2))
    p = holm([_p_of_zero_mean(_differences(scores[a], scores[b])) for a, b in pairs])
    same = {best}
    for pair, adjusted in zip(pairs, p, strict=True):
        if best in pair and adjusted >= 1 - level:
            same.update(pair)
    return same


def over_seeds(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """The mean over training seeds and Student's interval; None for fewer than two seeds.

    Args:
        values: (k,) one score per seed.
        level: Confidence, in (0, 1).
    """
    return _student(_sample(values), level) if len(values) > 1 else None


def _sample(values: np.ndarray | Sequence[float]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise UserError(f"statistics need a list of values, got shape {values.shape}")
    return values


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = _sample(a), _sample(b)
    if len(a) != len(b):
        raise UserError(
            f"two methods are compared on the same images, but one has {len(a)} and the other "
            f"{len(b)}; score both on all"
        )
    return np.subtract(a, b, out=np.zeros_like(a), where=a != b)


def _student(values: np.ndarray, level: float) -> Interval:
    mean, n = values.mean().item(), len(values)
    if n < 2 or not np.isfinite(values).all():
        return Interval(mean, math.nan, math.nan)
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1).item() / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _p_of_zero_mean(differences: np.ndarray) -> float:
    """Two-sided p of the t-test."""
    n = len(differences)
    if n < 2 or not np.isfinite(differences).all() or not differences.any():
        return 1.0
    error = differences.std(ddof=1) / math.sqrt(n)
    return 2 * stats.t.sf(abs(differences.mean()) / error, n - 1).item() if error else 0.0


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    rng, n = np.random.default_rng(seed), len(values)
    means = np.empty(draws)
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        part = means[start : start + step]
        values[rng.integers(0, n, (len(part), n))].mean(axis=1, out=part)
    return means
