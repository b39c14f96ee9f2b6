"""Counts: packing, and the monoids of columns and services."""

import base64

import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.errors import MalformedError
from edge_component.contracts.telemetry import (
    COUNT_MAX,
    EMPTY_COLUMN,
    EMPTY_COUNTS,
    LATENCY_BOUNDS_US,
    ColumnCounts,
    ServiceCounts,
    add_counts,
    merge_columns,
    merge_services,
    pack_counts,
    unpack_counts,
)
from tests.contracts.strategies import naturals

small = st.integers(0, 2**40)
columns = st.builds(ColumnCounts, st.lists(small, max_size=64).map(tuple), small, small, small, small)
services = st.builds(
    ServiceCounts,
    small,
    small,
    st.lists(small, min_size=41, max_size=41).map(tuple),
    st.dictionaries(st.sampled_from(["nan-input", "timeout", "crash"]), small),
)
merges = pytest.mark.parametrize(
    ("values", "merge", "zero"),
    [(columns, merge_columns, EMPTY_COLUMN), (services, merge_services, EMPTY_COUNTS)],
    ids=["columns", "services"],
)


@given(st.lists(st.integers(0, COUNT_MAX)))
def test_packing_round_trips(counts: list[int]) -> None:
    assert unpack_counts(pack_counts(counts)) == tuple(counts)


@given(st.text() | st.binary().map(lambda noise: base64.b64encode(noise).decode().rstrip("=")))
def test_unpacking_accepts_one_spelling_only(text: str) -> None:
    try:
        counts = unpack_counts(text, "bins")
    except MalformedError:
        return
    assert pack_counts(counts) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("*", "is not base64"),
        ("é", "is not base64"),
        ("A", "is not base64"),
        ("gA", "ends within a number"),
        ("gAA", "not in its shortest form"),  # 0x80 0x00: zero in two bytes
        ("AA==", "not in its shortest form"),
        ("AB", "not in its shortest form"),  # stray bits beneath the last byte
        ("gICAgICAgBA", "above 9007199254740991"),
    ],
)
def test_malformed_counts_say_why(text: str, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        unpack_counts(text)


@pytest.mark.parametrize("count", [-1, COUNT_MAX + 1])
def test_what_is_no_count_is_not_packed(count: int) -> None:
    with pytest.raises(MalformedError, match="is not a count"):
        pack_counts([count])


def test_a_usual_column_is_small() -> None:
    assert len(pack_counts([5] * 64)) == 86


@merges
@given(st.data())
def test_the_zero_changes_nothing(values, merge, zero, data: st.DataObject) -> None:
    value = data.draw(values)
    assert merge(value, zero) == value == merge(zero, value)


@merges
@given(st.data())
def test_merging_is_associative_and_commutative(values, merge, zero, data: st.DataObject) -> None:
    a, b, c = data.draw(values), data.draw(values), data.draw(values)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)


def test_a_sum_does_not_carry_what_nobody_here_can_add() -> None:
    assert merge_columns(ColumnCounts((1,), extra={"p99": 5}), ColumnCounts((1,))).extra == {}
    assert merge_services(ServiceCounts(extra={"p99": 5}), ServiceCounts()).extra == {}


@given(st.lists(naturals).map(tuple), st.lists(naturals).map(tuple))
def test_added_counts_add_up(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    assert sum(add_counts(left, right)) == sum(left) + sum(right)


def test_latency_bounds_rise_from_ten_microseconds_to_seven_seconds() -> None:
    assert LATENCY_BOUNDS_US[0] == 10
    assert 7_000_000 < LATENCY_BOUNDS_US[-1] < 8_000_000
    assert list(LATENCY_BOUNDS_US) == sorted(set(LATENCY_BOUNDS_US))
    assert len(EMPTY_COUNTS.latency_counts) == len(LATENCY_BOUNDS_US) + 1
