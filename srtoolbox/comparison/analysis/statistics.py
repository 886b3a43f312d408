"""Confidence intervals of means, and paired tests.

The values must be independent: one per image, or one mean per clip. The frames of one clip are
similar, so a test on frames would overstate the evidence.

Infinite values (the PSNR of an image that equals its ground truth) and infinite differences have no
mean: they are left out. Where no test is possible, p is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from srtoolbox.errors import UserError

_MIN_BOOTSTRAP_SAMPLES = 10  # fewer values have too few distinct resamples
MIN_TEST_SAMPLES = 3  # with two differences the t-test is hardly more than a guess
# A t-test of equal differences has p = 0, however few they are: their spread is underestimated.
MIN_EQUAL_DIFFERENCES = 10
_ROUNDING = 1e-12  # differences that vary by less, relative to the scores, are equal
_INDICES_PER_CHUNK = 1 << 18  # drawn at a time: 2 MiB, which fit into a processor's cache


class Interval(NamedTuple):
    """A mean and its confidence interval, in the unit of the values; NaN limits: no interval."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """The mean of paired differences a - b, its confidence interval and two-sided p value.

    p is NaN if no test is possible.
    """

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
        values: Values (n,). Infinite ones are left out, unless all are infinite. A single value,
            or NaN, has no interval.
        draws: Number of resamples.
        seed: Seed of the resampling.
        level: Confidence, in (0, 1).
    """
    return bootstrap_all([values], draws=draws, seed=seed, level=level)[0]


def bootstrap_all(
    samples: Sequence[np.ndarray], *, draws: int = 10000, seed: int = 0, level: float = 0.95
) -> list[Interval]:
    """Returns ``bootstrap`` of each sample; samples of one length are resampled together."""
    kept = [_without_infinite(_sample(values)) for values in samples]
    found = {i: _student(values, level) for i, values in enumerate(kept) if not _resamples(values)}
    lengths: dict[int, list[int]] = {}
    for i, values in enumerate(kept):
        if i not in found:
            lengths.setdefault(len(values), []).append(i)
    for n, places in lengths.items():
        t = stats.t.ppf((1 + level) / 2, n - 1)
        tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)
        means = _resampled_means([kept[i] for i in places], draws, seed)
        for i, resampled in zip(places, means, strict=True):
            low, high = np.quantile(resampled, [tail, 1 - tail])
            found[i] = Interval(kept[i].mean().item(), low.item(), high.item())
    return [found[i] for i in range(len(kept))]


def paired(
    a: np.ndarray, b: np.ndarray, *, draws: int = 10000, seed: int = 0, level: float = 0.95
) -> Difference:
    """Returns the mean of the paired differences a - b, with interval and p value.

    The interval is that of ``bootstrap``. p is from the paired t-test, since a bootstrap cannot
    resolve p values below 1 / ``draws``, and corrections for multiple tests need such values.
    p is NaN for fewer than ``MIN_TEST_SAMPLES`` differences, and for fewer than
    ``MIN_EQUAL_DIFFERENCES`` if they are all equal and not 0.

    Args:
        a: Values (n,) of one method.
        b: Values (n,) of the other on the same images. Differences that are not finite are left
            out; if none is finite, all results are NaN.
        draws: Number of resamples.
        seed: Seed of the resampling.
        level: Confidence, in (0, 1).

    Raises:
        UserError: if the lengths differ.
    """
    differences = _differences(a, b)
    if not len(differences):
        return Difference(math.nan, math.nan, math.nan, math.nan)
    interval = bootstrap(differences, draws=draws, seed=seed, level=level)
    return Difference(*interval, _p_of_equal_means(a, b))


def intervals_and_differences(
    baseline: np.ndarray, samples: Sequence[np.ndarray], **options: Any
) -> tuple[list[Interval], list[Difference]]:
    """Returns ``bootstrap`` of a baseline and of samples, and ``paired`` of each with the baseline.

    All of them are resampled together; ``options`` are those of ``bootstrap_all``.
    """
    differences = [_differences(values, baseline) for values in samples]
    known = [values for values in differences if len(values)]
    found = bootstrap_all([baseline, *samples, *known], **options)
    intervals, of_known = found[: len(samples) + 1], iter(found[len(samples) + 1 :])
    return intervals, [
        Difference(*next(of_known), _p_of_equal_means(values, baseline))
        if len(between)
        else Difference(math.nan, math.nan, math.nan, math.nan)
        for values, between in zip(samples, differences, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Returns Holm-corrected p values, in the order of ``p``; NaN is no test and stays NaN.

    If all hypotheses with a corrected p below 5 % are rejected, the probability that a true one
    is among them is at most 5 %, whatever the dependence between the tests (S. Holm, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979).
    """
    tested = [i for i in range(len(p)) if not math.isnan(p[i])]
    corrected, highest = [math.nan] * len(p), 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(tested) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def p_of_pairs(scores: Mapping[str, np.ndarray]) -> dict[frozenset[str], float]:
    """Returns the p value of each pair of methods, Holm-corrected for all pairs.

    The correction is for all pairs, not only for those with one method, since the same scores
    decide which method is the best one.

    Args:
        scores: Values (n,) of each method, on the same images.

    Raises:
        UserError: if the lengths differ.
    """
    pairs = list(combinations(scores, 2))
    p = holm([_p_of_equal_means(scores[a], scores[b]) for a, b in pairs])
    return dict(zip(map(frozenset, pairs), p, strict=True))


def best_of(scores: Mapping[str, np.ndarray], higher_is_better: bool) -> str | None:
    """Returns the method with the best mean; None if there is none. NaN is never the best."""
    means = {name: _without_infinite(_sample(values)).mean() for name, values in scores.items()}
    means = {name: value for name, value in means.items() if not math.isnan(value)}
    best = max if higher_is_better else min
    return best(means, key=lambda name: means[name], default=None)


def not_distinguishable(
    scores: Mapping[str, np.ndarray], higher_is_better: bool, level: float = 0.95
) -> set[str]:
    """Returns the method with the best mean, and all that do not differ significantly from it.

    The p values are those of ``p_of_pairs``. With probability ``level``, no method that equals the
    best is left out. A method without a test against the best one is left out.

    Args:
        scores: Values (n,) of each method, on the same images.
        higher_is_better: Direction of the metric.
        level: Confidence, in (0, 1).

    Raises:
        UserError: if the lengths differ.
    """
    best = best_of(scores, higher_is_better)
    if best is None:
        return set()
    pairs = p_of_pairs(scores).items()
    return {best}.union(*(pair for pair, p in pairs if best in pair and p >= 1 - level))


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


def _without_infinite(values: np.ndarray) -> np.ndarray:
    """Returns the values that are not infinite; all values if there are no others."""
    kept = values[~np.isinf(values)]
    return kept if len(kept) else values


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the finite differences a - b."""
    a, b = _sample(a), _sample(b)
    if len(a) != len(b):
        raise UserError(
            f"a comparison of two methods needs scores of the same images, but one has {len(a)} "
            f"and the other {len(b)}; evaluate both on all images"
        )
    known = np.isfinite(a) & np.isfinite(b)
    return a[known] - b[known]


def _student(values: np.ndarray, level: float) -> Interval:
    mean, n = values.mean().item(), len(values)
    if n < 2 or not np.isfinite(values).all():
        return Interval(mean, math.nan, math.nan)
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1).item() / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _p_of_equal_means(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the two-sided p value of the paired t-test; NaN if no test is possible."""
    differences = _differences(a, b)
    n = len(differences)
    if n < MIN_TEST_SAMPLES:
        return math.nan
    if not differences.any():
        return 1.0
    deviation = differences.std(ddof=1)
    finite = [values[np.isfinite(values)] for values in (_sample(a), _sample(b))]
    if deviation <= _ROUNDING * max(np.abs(values).max() for values in finite):
        return 0.0 if n >= MIN_EQUAL_DIFFERENCES else math.nan
    return 2 * stats.t.sf(abs(differences.mean()) * math.sqrt(n) / deviation, n - 1).item()


def _resamples(values: np.ndarray) -> bool:
    """Returns whether a sample has a bootstrap interval, and not Student's."""
    return len(values) >= _MIN_BOOTSTRAP_SAMPLES and bool(np.isfinite(values).all())


def _resampled_means(samples: Sequence[np.ndarray], draws: int, seed: int) -> np.ndarray:
    """Returns the means (k, draws) of resamples of k samples of one length n."""
    rng, n = np.random.default_rng(seed), len(samples[0])
    means = np.empty((len(samples), draws))
    step = max(1, min(draws, _INDICES_PER_CHUNK // n))
    drawn = np.empty((step, n))
    for start in range(0, draws, step):
        indices = rng.integers(0, n, (min(step, draws - start), n))
        part = drawn[: len(indices)]
        for values, found in zip(samples, means, strict=True):
            np.take(values, indices, out=part, mode="clip")  # "clip" writes without a copy
            part.mean(axis=1, out=found[start : start + len(indices)])
    return means
