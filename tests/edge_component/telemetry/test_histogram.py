"""Histograms: counted like a naive loop counts, and added like numbers."""

import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.baseline import BIN_COUNT, BaselineColumn
from edge_component.telemetry.histogram import CLASS_BINS, EMPTY, Bins, Histogram, baseline_bins, count_values

numbers = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])
samples = st.lists(numbers, max_size=60)
edges = st.lists(st.floats(-100, 100, width=32), min_size=BIN_COUNT - 1, max_size=BIN_COUNT - 1).map(sorted)
bins = st.builds(
    lambda inner, low, high: Bins(np.array(inner, dtype=np.float64), min(low, high), max(low, high)),
    edges,
    st.floats(-150, 150),
    st.floats(-150, 150),
)


def as_numbers(histogram: Histogram) -> tuple:
    return (
        histogram.counts.tolist(),
        histogram.nan_count,
        histogram.infinite_count,
        histogram.zero_count,
        histogram.out_of_range_count,
    )


def naive(values: list[float], where: Bins) -> tuple:
    counts = [0] * BIN_COUNT
    nan = infinite = zero = out = 0
    for value in values:
        if math.isnan(value):
            nan += 1
        elif math.isinf(value):
            infinite += 1
        else:
            counts[bisect_left(where.edges.tolist(), value)] += 1
            zero += value == 0
            out += not where.minimum <= value <= where.maximum
    return (counts, nan, infinite, zero, out)


@given(samples, bins)
def test_counts_are_a_naive_loops_counts(values: list[float], where: Bins) -> None:
    counted = count_values(np.array(values, dtype=np.float32), where)
    assert as_numbers(counted) == naive(values, where)
    assert counted.value_count == len(values)


@given(samples, samples, samples, bins)
def test_histograms_add_like_their_samples(a: list[float], b: list[float], c: list[float], where: Bins) -> None:
    one, two, three = (count_values(np.array(each, dtype=np.float64), where) for each in (a, b, c))
    together = as_numbers(count_values(np.array(a + b + c, dtype=np.float64), where))
    assert as_numbers((one + two) + three) == as_numbers(one + (two + three)) == together
    assert as_numbers(three + two + one) == together
    assert as_numbers(one + EMPTY) == as_numbers(one)


@given(samples, bins)
def test_the_contract_carries_the_same_numbers(values: list[float], where: Bins) -> None:
    counted = count_values(np.array(values), where)
    column = counted.to_contract()
    assert (
        list(column.counts),
        column.nan_count,
        column.infinite_count,
        column.zero_count,
        column.out_of_range_count,
    ) == as_numbers(counted)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"])
def test_every_numeric_dtype_is_counted(dtype: str) -> None:
    where = Bins(np.linspace(-1, 1, BIN_COUNT - 1), -1, 1)
    counted = count_values(np.array([0, 1, 1], dtype=dtype), where)
    assert (counted.value_count, counted.zero_count) == (3, 1)


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    where = Bins(np.arange(BIN_COUNT - 1, dtype=np.float64), 0, 62)
    assert count_values(np.array([0.0, 0.5, 1.0]), where).counts.tolist()[:3] == [1, 2, 0]


def test_a_class_is_its_bin_and_the_last_bin_is_the_rest() -> None:
    counted = count_values(np.array([0, 1, 1, 62, 63, 64, 1000, -1]), CLASS_BINS)
    assert counted.counts.tolist() == [2, 2, *[0] * 60, 1, 3]
    assert counted.out_of_range_count == 3


def test_counts_cannot_be_changed_behind_anybodys_back() -> None:
    with pytest.raises(ValueError, match="read-only"):
        EMPTY.counts[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        (EMPTY + EMPTY).counts[0] = 1


def test_a_baselines_bins_are_its_edges_and_range() -> None:
    column = BaselineColumn("t", tuple(range(63)), (0,) * 64, -5.0, 70.0)
    where = baseline_bins(column)
    assert (where.edges.tolist(), where.minimum, where.maximum) == (list(range(63)), -5.0, 70.0)
