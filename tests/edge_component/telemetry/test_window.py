"""Windows: monoids whose parts fit a publish and add up to the whole."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from edge_component.clock import SystemClock
from edge_component.contracts.codec import to_bytes
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import COUNT_MAX, EMPTY_COUNTS, ColumnCounts, ServiceCounts, TelemetryWindow
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.histogram import Bins, count_values
from edge_component.telemetry.outbox import body_bytes_max
from edge_component.telemetry.window import (
    ERROR_CODES_MAX,
    OTHER_CODE,
    Span,
    WindowCounts,
    close_window,
    count_service,
    split_window,
)

BINS = Bins(np.linspace(-3, 3, 63), -3, 3)
MODEL = ModelRef("weather", "1.0.0", "a" * 64)
AT = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = Span(AT, 0)
ROOM = body_bytes_max("t" * 128, SystemClock())

histograms = st.lists(st.floats(-5, 5), max_size=5).map(lambda values: count_values(np.array(values, float), BINS))
tables = st.dictionaries(st.sampled_from(["temp", "humid", "wind"]), histograms)
services = st.lists(st.tuples(st.floats(0, 1e8), st.sampled_from(["", "", "timeout", "nan"])), max_size=6).map(
    lambda requests: count_service([latency for latency, _ in requests], [code for _, code in requests])
)
counts = st.builds(WindowCounts, st.integers(0, 9), st.integers(0, 9), tables, tables, services)


def contract(window_counts: WindowCounts) -> TelemetryWindow:
    return close_window(WatchPlan(MODEL), window_counts, SPAN, "w")


@given(counts, counts, counts)
def test_windows_are_a_commutative_monoid(a: WindowCounts, b: WindowCounts, c: WindowCounts) -> None:
    assert contract((a + b) + c) == contract(a + (b + c))
    assert contract(a + b) == contract(b + a)
    assert contract(a + WindowCounts()) == contract(a)


@given(st.lists(st.floats(0, 1e9), max_size=20))
def test_every_latency_is_in_one_bin(latencies: list[float]) -> None:
    service = count_service(latencies, [""] * len(latencies))
    assert sum(service.latency_counts) == service.answered_count == len(latencies)


def test_latencies_are_binned_by_upper_bounds() -> None:
    service = count_service([0, 10, 10.5, 14, 15, 1e9], [""] * 6)
    assert service.latency_counts[:3] == (2, 2, 1)
    assert service.latency_counts[-1] == 1


def test_failures_are_counted_by_code() -> None:
    service = count_service([1, 2, 3], ["", "deadline-exceeded", "deadline-exceeded"])
    assert (service.answered_count, service.failed_count) == (1, 2)
    assert service.errors == {"deadline-exceeded": 2}


def test_an_endless_variety_of_errors_is_bounded_and_none_is_lost() -> None:
    service = count_service([1.0] * 500, [f"code-{n}" * 20 for n in range(100) for _ in range(5)])
    window = contract(WindowCounts(service=service))
    assert window.service is not None
    assert len(window.service.errors) <= ERROR_CODES_MAX
    assert sum(window.service.errors.values()) == 500
    many = contract(WindowCounts(service=count_service([1.0] * 100, [f"code-{n}" for n in range(100)])))
    assert many.service is not None
    assert many.service.errors[OTHER_CODE] == 100 - (ERROR_CODES_MAX - 1)


big_counts = st.lists(st.integers(0, COUNT_MAX), max_size=64).map(tuple)
columns = st.builds(ColumnCounts, big_counts, *[st.integers(0, COUNT_MAX)] * 4)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
many_columns = st.dictionaries(names, columns, max_size=12)


@settings(max_examples=60, deadline=None)
@given(many_columns, many_columns)
def test_parts_fit_and_add_up_to_the_window(features: dict, outputs: dict) -> None:
    service = ServiceCounts(COUNT_MAX, COUNT_MAX, (COUNT_MAX,) * 41, {f"{n:048}": COUNT_MAX for n in range(24)})
    window = TelemetryWindow(
        MODEL, "b" * 64, "w" * 32, AT, AT, 10**12, COUNT_MAX, features, outputs, service, lost_count=7
    )
    parts = split_window(window, ROOM)
    assert all(len(to_bytes(part.to_document())) <= ROOM for part in parts)
    assert [(part.part, part.part_count) for part in parts] == [(n, len(parts)) for n in range(len(parts))]
    assert {name: each for part in parts for name, each in part.features.items()} == features
    assert {name: each for part in parts for name, each in part.outputs.items()} == outputs
    assert sum(len(part.features) + len(part.outputs) for part in parts) == len(features) + len(outputs)
    assert [part.service for part in parts] == [service] + [None] * (len(parts) - 1)
    assert sum(part.lost_count for part in parts) == 7
    assert {part.record_count for part in parts} == {COUNT_MAX}
    assert {part.window_id for part in parts} == {window.window_id}


def test_a_usual_window_of_thirty_features_takes_a_publish_or_two() -> None:
    drawn = np.random.default_rng(1).normal(size=(300, 30))
    features = {f"feature_{n}": count_values(drawn[:, n], BINS) for n in range(30)}
    parts = split_window(contract(WindowCounts(300, 0, features)), ROOM)
    assert len(parts) <= 2


def test_a_window_without_columns_is_one_part() -> None:
    assert split_window(contract(WindowCounts(service=EMPTY_COUNTS)), ROOM) == (contract(WindowCounts()),)


@pytest.mark.parametrize(
    ("window_counts", "is_empty"),
    [
        (WindowCounts(), True),
        (WindowCounts(lost_count=1), False),
        (WindowCounts(record_count=1), False),
        (WindowCounts(service=count_service([1.0], [""])), False),
        (WindowCounts(service=count_service([1.0], ["x"])), False),
    ],
)
def test_only_a_window_of_nothing_is_empty(window_counts: WindowCounts, is_empty: bool) -> None:
    assert window_counts.is_empty == is_empty
