"""Distances against SciPy, and the false positives of the rule by a seeded simulation."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cloud.drift.distances import (
    chi_squared,
    chi_squared_tail,
    coarse,
    kolmogorov_smirnov,
    population_stability_index,
)
from tests.cloud.drift.samples import baseline_column, counted

stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn, the [training] extra")
COUNTS = st.lists(st.integers(0, 50), min_size=3, max_size=64)


@given(st.integers(1, 60), st.floats(0.01, 200))
def test_the_chi_squared_tail_is_scipys(degrees: int, chi2: float) -> None:
    assert chi_squared_tail(chi2, degrees) == pytest.approx(stats.chi2.sf(chi2, degrees), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25])
def test_ks_over_fine_bins_is_scipys_up_to_binning(shift: float) -> None:
    random = np.random.default_rng(1)
    left, right = random.normal(size=3_000), random.normal(shift, 1, 800)
    column = baseline_column("x", left)
    mine = kolmogorov_smirnov(counted(column, right).counts, column.counts)
    theirs = stats.ks_2samp(left, right, method="asymp")
    assert mine.statistic == pytest.approx(theirs.statistic, abs=1 / 64)
    assert mine.statistic <= theirs.statistic + 1e-12
    assert mine.p_value >= theirs.pvalue * 0.5


def test_chi_squared_is_scipys_contingency_test() -> None:
    random = np.random.default_rng(2)
    left, right = random.integers(1, 40, 10), random.integers(1, 40, 10)
    expected = stats.chi2_contingency(np.array([left, right]), correction=False)
    assert chi_squared(left, right, bin_count=1_000).p_value == pytest.approx(expected.pvalue, rel=1e-9)


@given(COUNTS, COUNTS)
def test_bounds_and_symmetry_hold_for_any_counts(left: list[int], right: list[int]) -> None:
    size = min(len(left), len(right))
    left, right = left[:size], right[:size]
    test, back = kolmogorov_smirnov(left, right), kolmogorov_smirnov(right, left)
    assert 0 <= test.statistic <= 1
    assert 0 <= test.p_value <= 1
    assert test.statistic == pytest.approx(back.statistic)
    assert population_stability_index(left, right) >= 0
    assert 0 <= chi_squared(left, right).p_value <= 1
    first, second = coarse(left, right)
    assert (first.sum(), second.sum()) == (sum(left), sum(right))


def test_nothing_is_no_evidence() -> None:
    assert kolmogorov_smirnov([0, 0], [3, 4]).p_value == 1
    assert chi_squared([3, 4], [0, 0]).p_value == 1
    assert population_stability_index([3, 4], [0, 0]) == 0


def test_false_positives_without_drift_stay_within_five_percent(capsys: pytest.CaptureFixture[str]) -> None:
    """30 features, reference 10,000, n = 1,000, Bonferroni over 2F; the effect floor left out."""
    random = np.random.default_rng(20130101)
    trials, features, fired = 200, 30, 0
    for _ in range(trials):
        columns = [baseline_column("x", random.normal(size=10_000)) for _ in range(3)]
        tests = [
            kolmogorov_smirnov(counted(columns[index % 3], random.normal(size=1_000)).counts, columns[index % 3].counts)
            for index in range(features)
        ]
        fired += any(test.p_value < 0.05 / (2 * features) for test in tests)
    with capsys.disabled():
        print(f"\nfalse positives of histogram-KS without drift, n = 1,000: {fired / trials:.3f}")
    assert fired / trials <= 0.05


@pytest.mark.parametrize(("shift", "scale", "count"), [(0.25, 1.0, 1_000), (0.0, 1.5, 5_000)])
def test_what_the_facts_say_is_found_is_found(shift: float, scale: float, count: int) -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        column = baseline_column("x", random.normal(size=10_000))
        test = kolmogorov_smirnov(counted(column, random.normal(shift, scale, count)).counts, column.counts)
        assert test.p_value < 0.05 / 60
        assert test.statistic >= 0.05


def test_a_harmless_shift_at_fleet_size_is_significant_and_below_the_floor() -> None:
    random = np.random.default_rng(4)
    column = baseline_column("x", random.normal(size=100_000))
    test = kolmogorov_smirnov(counted(column, random.normal(0.02, 1, 100_000)).counts, column.counts)
    assert test.statistic < 0.05
