"""Intervals and tests against those of scipy, and against simulations with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from srtoolbox.comparison.analysis import statistics
from srtoolbox.comparison.analysis.statistics import (
    Interval,
    best_of,
    bootstrap,
    bootstrap_all,
    holm,
    intervals_and_differences,
    not_distinguishable,
    over_seeds,
    p_of_pairs,
    paired,
)
from srtoolbox.errors import UserError


def _values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4, 1.5, n) + 20


def test_bootstrap_is_scipys_at_the_expanded_level():
    values = _values(40)
    expanded = 1 - 2 * stats.norm.cdf(-math.sqrt(40 / 39) * stats.t.ppf(0.975, 39))
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=10000,
        confidence_level=expanded,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = bootstrap(values)
    assert ours.mean == pytest.approx(values.mean(), rel=1e-14)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_samples_of_one_length_share_their_resamples():
    values = _values(300)  # long enough to be drawn in several chunks
    one, shifted = bootstrap(values), bootstrap(values + 3)
    assert shifted == pytest.approx(np.add(one, 3), rel=1e-12)
    assert bootstrap(values) == one
    assert bootstrap(values, seed=1) != one
    assert bootstrap(values, level=0.5).high < one.high


@pytest.mark.parametrize("indices", [1, 1000, 1 << 18, 1 << 30])
def test_samples_that_are_resampled_together_have_their_own_intervals(monkeypatch, indices):
    """The number of values that are drawn at a time changes no bit."""
    monkeypatch.setattr(statistics, "_INDICES_PER_CHUNK", indices)
    n, draws = 130, 2500
    samples = [_values(n), _values(7), _values(n, 1), np.array([*_values(n, 2), math.inf])]
    samples += [_values(40), np.full(n, math.nan), np.full(20, math.inf)]
    found = bootstrap_all(samples, draws=draws)
    means = samples[0][np.random.default_rng(0).integers(0, n, (draws, n))].mean(axis=1)
    assert np.array_equal(statistics._resampled_means(samples[:1], draws, 0)[0], means)
    monkeypatch.undo()
    assert repr(found) == repr([bootstrap(values, draws=draws) for values in samples])


def test_intervals_and_differences_are_those_of_pairs():
    base = _values(30)
    samples = [_values(30, 1), base + 1, np.full(30, math.inf), base]
    intervals, differences = intervals_and_differences(base, samples, draws=500)
    assert repr(intervals) == repr([bootstrap(v, draws=500) for v in [base, *samples]])
    assert repr(differences) == repr([paired(v, base, draws=500) for v in samples])


@pytest.mark.parametrize("n", [2, 5, 9])
def test_few_values_have_students_interval(n):
    values = _values(n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert bootstrap(values) == pytest.approx((values.mean(), low, high), rel=1e-12)


@pytest.mark.parametrize("n", [5, 12, 60])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_has_the_stated_coverage(n, level):
    rng, repeats = np.random.default_rng(n), 400
    samples = rng.gamma(9, 1, (repeats, n))  # mean 9, skewed as differences in dB are
    held = 0
    for values in samples:
        found = bootstrap(values, draws=1000, level=level)
        held += found.low <= 9 <= found.high
    error = math.sqrt(level * (1 - level) / repeats)
    assert held / repeats == pytest.approx(level, abs=3 * error)


def test_pairing_removes_the_variance_between_images():
    rng = np.random.default_rng(3)
    images = rng.normal(28, 4, 50)
    a, b = images + 0.1 + rng.normal(0, 0.1, 50), images + rng.normal(0, 0.1, 50)
    found = paired(a, b)
    assert 0 < found.low < 0.1 < found.high < 0.2
    assert found.p < 1e-3
    assert bootstrap(a).low < bootstrap(b).high  # without pairs there is no significant difference


@pytest.mark.parametrize("n", [3, 30])
def test_p_is_scipys(n):
    a, b = _values(n), _values(n, seed=1)
    assert paired(a, b).p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-10)
    assert paired(b, a).mean == -paired(a, b).mean


def test_infinite_values_are_left_out():
    """Ten images and a black one: infinite for one method, for the other one, or for both."""
    a, b = np.full(10, 27.5), np.linspace(19.1, 19.3, 10)
    for x, y in ((math.inf, math.inf), (math.inf, 60.0), (60.0, math.inf), (math.nan, 3.0)):
        found = paired([*a, x], [*b, y])
        assert found == paired(a, b)
        assert found.mean == pytest.approx(8.3)
        assert found.p < 1e-3
        assert not_distinguishable({"a": [*a, x], "b": [*b, y]}, True) <= {"a", "b"}
    assert not_distinguishable({"a": [*a, math.inf], "b": [*b, math.inf]}, True) == {"a"}
    assert bootstrap([*a, math.inf]) == bootstrap(a)
    assert math.isnan(bootstrap(np.full(20, math.inf)).low)
    single = bootstrap([30.0])
    assert single.mean == 30
    assert math.isnan(single.low)
    assert math.isnan(single.high)


def test_without_finite_differences_there_is_no_test_and_no_tie():
    values = _values(12)
    for other in (np.full(12, math.inf), np.full(12, math.nan)):
        assert all(map(math.isnan, paired(values, other)))
        assert len(not_distinguishable({"a": values, "b": other}, True)) == 1
    assert best_of({"a": np.full(3, math.nan), "b": np.arange(3)}, True) == "b"
    assert best_of({"a": np.full(3, math.nan)}, True) is None


@pytest.mark.parametrize("difference", [8.3, 0.1, 1e-3])
def test_a_test_of_equal_differences_needs_ten(difference):
    values = _values(12)  # 0.1 has no exact form: the differences vary by rounding
    for n in (1, 2, 3, 5, 9):
        assert math.isnan(paired(values[:n] + difference, values[:n]).p)
        scores = {"a": values[:n] + difference, "b": values[:n]}
        assert not_distinguishable(scores, True) == {"a"}
    assert paired(values + difference, values).p < 1e-3
    assert paired(values[:3], values[:3]).p == 1
    assert math.isnan(paired([30.0, 31.0], [29.0, 30.5]).p)


def test_p_of_pairs_and_ties_have_one_correction():
    rng = np.random.default_rng(2)
    for _ in range(100):
        images = rng.normal(28, 3, 12)
        scores = {
            name: images + rng.normal(0, 0.4, 12) + 0.1 * i for i, name in enumerate("abcdef")
        }
        p, best = p_of_pairs(scores), best_of(scores, True)
        assert len(p) == 15
        tied = not_distinguishable(scores, True)
        for name in scores.keys() - {best}:
            assert (name in tied) == (p[frozenset({name, best})] >= 0.05)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 3.0])
def test_values_must_be_a_list(values):
    with pytest.raises(UserError, match="list of values"):
        bootstrap(values)


def test_different_numbers_of_images_are_refused():
    with pytest.raises(UserError, match="one has 3 and the other 2"):
        paired([1, 2, 3], [1, 2])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
    assert holm([math.nan, 0.04, 0.03]) == pytest.approx([math.nan, 0.06, 0.06], nan_ok=True)


def test_holm_agrees_with_its_definition():
    """The k-th smallest of m is rejected if all up to it are below α / (m - k + 1)."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.beta(0.3, 2, 7)
        order, rejected = np.argsort(p), set()
        for k, i in enumerate(order):
            if p[i] > 0.05 / (7 - k):
                break
            rejected.add(i)
        assert {i for i, one in enumerate(holm(p)) if one <= 0.05} == rejected


@pytest.mark.parametrize("sign", [1, -1])
def test_methods_without_a_significant_difference(sign):
    rng = np.random.default_rng(0)
    images = rng.normal(28, 3, 100)
    scores = {
        name: sign * (images + gain + rng.normal(0, 0.3, 100))
        for name, gain in {"worse": -1.0, "best": 0.50, "near": 0.49, "bad": -3.0}.items()
    }
    assert not_distinguishable(scores, higher_is_better=sign > 0) == {"best", "near"}


def test_equal_methods_are_marked_together():
    """In 95 % of the cases all of six equal methods are marked, whichever has the best mean."""
    rng, repeats = np.random.default_rng(1), 400
    left_out = 0
    for _ in range(repeats):
        samples = rng.normal(size=(6, 12)) + rng.normal(size=12)
        scores = {str(i): values for i, values in enumerate(samples)}
        left_out += len(not_distinguishable(scores, True)) < 6
    assert left_out / repeats < 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert left_out


def test_one_method_or_one_image_or_none():
    assert not_distinguishable({}, True) == set()
    assert not_distinguishable({"a": [1.0, 2.0]}, True) == {"a"}
    assert not_distinguishable({"a": [1.0], "b": [9.0]}, True) == {"b"}  # there is no test


def test_over_seeds():
    values = [27.1, 27.3, 27.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert over_seeds(values) == pytest.approx(Interval(np.mean(values), low, high), rel=1e-12)
    assert over_seeds([27.1]) is None
    assert over_seeds([]) is None
    assert over_seeds([27.0, 27.0]) == (27, 27, 27)
