"""Confidence intervals of means, and paired tests.

The values must be independent: one per image, or one mean per clip. The frames of one clip are
similar, so a test on frames would overstate the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from srtoolbox.errors import UserError

_MIN_BOOTSTRAP_SAMPLES = 10  # fewer values have too few distinct resamples
_INDICES_PER_CHUNK = 1 << 21  # drawn at a time: 16 MiB


class Interval(NamedTuple):
    """A mean and its confidence interval, in the unit of the values; NaN limits: no interval."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """The mean of paired differences a - b, its confidence interval and two-sided p value."""

    mean: float
    low: float
    high: float
    p: float


def bootstrap(
    values: np.ndarray, *, draws: int = 10000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Returns the mean of a sample and its bootstrap confidence interval.

    It is the expanded percentile interval: plain percentiles are too narrow by √((n-1)/n) and
    ignore Student's t, so percentiles further out are used (T. Hesterberg, "What teachers should
    know about the bootstrap", The American Statistician 2015). For fewer than ten values it is
    Student's interval. Samples of one length and seed are resampled with the same indices, so the
    intervals of several methods over the same images use the same resamples.

    Args:
        values: Values (n,). A single value, or infinite ones, have no interval.
        draws: Number of resamples.
        seed: Seed of the resampling.
        level: Confidence, in (0, 1).
    """
    values = _sample(values)
    n = len(values)
    if n < _MIN_BOOTSTRAP_SAMPLES or not np.isfinite(values).all():
        return _student(values, level)
    t = stats.t.ppf((1 + level) / 2, n - 1)
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)
    low, high = np.quantile(_resampled_means(values, draws, seed), [tail, 1 - tail])
    return Interval(values.mean().item(), low.item(), high.item())


def paired(
    a: np.ndarray, b: np.ndarray, *, draws: int = 10000, seed: int = 0, level: float = 0.95
) -> Difference:
    """Returns the mean of the paired differences a - b, with interval and p value.

    The interval is that of ``bootstrap``. p is from the paired t-test, since a bootstrap cannot
    resolve p values below 1 / ``draws``, and corrections for multiple tests need such values.
    p is 1 where no test is possible, for example for a single image.

    Args:
        a: Values (n,) of one method.
        b: Values (n,) of the other on the same images. Two infinite values are equal.
        draws: Number of resamples.
        seed: Seed of the resampling.
        level: Confidence, in (0, 1).

    Raises:
        UserError: if the lengths differ.
    """
    differences = _differences(a, b)
    interval = bootstrap(differences, draws=draws, seed=seed, level=level)
    return Difference(*interval, _p_of_zero_mean(differences))


def holm(p: Sequence[float]) -> list[float]:
    """Returns Holm-corrected p values, in the order of ``p``.

    If all hypotheses with a corrected p below 5 % are rejected, the probability that a true one
    is among them is at most 5 %, whatever the dependence between the tests (S. Holm, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979).
    """
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def not_distinguishable(
    scores: Mapping[str, np.ndarray], higher_is_better: bool, level: float = 0.95
) -> set[str]:
    """Returns the method with the best mean, and all that do not differ significantly from it.

    The correction is for all pairs of methods, not only for those with the best one, since the
    same scores decide which one is best. With probability ``level``, no method that equals the
    best is left out.

    Args:
        scores: Values (n,) of each method, on the same images.
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
    tied = {best}
    for pair, corrected in zip(pairs, p, strict=True):
        if best in pair and corrected >= 1 - level:
            tied.update(pair)
    return tied


def over_seeds(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Returns the mean over training seeds and Student's interval; None for fewer than two.

    Args:
        values: Scores (k,), one per seed.
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
            f"a comparison of two methods needs scores of the same images, but one has {len(a)} "
            f"and the other {len(b)}; evaluate both on all images"
        )
    return np.subtract(a, b, out=np.zeros_like(a), where=a != b)


def _student(values: np.ndarray, level: float) -> Interval:
    mean, n = values.mean().item(), len(values)
    if n < 2 or not np.isfinite(values).all():
        return Interval(mean, math.nan, math.nan)
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1).item() / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _p_of_zero_mean(differences: np.ndarray) -> float:
    """Returns the two-sided p value of the t-test; 1 if no test is possible."""
    n = len(differences)
    if n < 2 or not np.isfinite(differences).all() or not differences.any():
        return 1.0
    error = differences.std(ddof=1) / math.sqrt(n)
    return 2 * stats.t.sf(abs(differences.mean()) / error, n - 1).item() if error else 0.0


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    rng, n = np.random.default_rng(seed), len(values)
    means = np.empty(draws)
    step = max(1, _INDICES_PER_CHUNK // n)
    for start in range(0, draws, step):
        part = means[start : start + step]
        values[rng.integers(0, n, (len(part), n))].mean(axis=1, out=part)
    return means
