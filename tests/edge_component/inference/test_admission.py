"""Places and queue: as many as were set, nobody lost, and whoever is refused learns it at once, with a hint."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, strategies as st

from edge_component.inference.admission import (
    RETRY_MS_MAX,
    RETRY_MS_MIN,
    AdmissionLimits,
    Gate,
    retry_after_ms,
)
from edge_component.inference.errors import OverloadedError, RunDeadlineError


def test_a_place_costs_no_time_while_there_are_any() -> None:
    gate = Gate(AdmissionLimits(2, 0))
    assert gate.enter(1.5) == 1.5
    assert gate.enter(float("inf")) == float("inf")
    assert gate.in_flight_count == 2
    gate.leave()
    gate.leave()
    assert gate.in_flight_count == 0


def test_beyond_places_and_queue_is_refused_at_once_with_a_hint() -> None:
    gate = Gate(AdmissionLimits(1, 0))
    gate.enter(1)
    with pytest.raises(OverloadedError) as refusal:
        gate.enter(60)
    assert refusal.value.code == "overloaded"
    assert RETRY_MS_MIN <= refusal.value.retry_after_ms <= RETRY_MS_MAX
    gate.leave()
    gate.enter(1)


def test_waiting_ends_with_the_deadline() -> None:
    gate = Gate(AdmissionLimits(1, 5))
    gate.enter(1)
    with pytest.raises(RunDeadlineError, match="waited"):
        gate.enter(0.01)
    assert gate.waiting_count == 0
    assert gate.in_flight_count == 1


def test_whoever_waits_gets_the_place_that_is_given_back_and_has_less_time_left() -> None:
    gate = Gate(AdmissionLimits(1, 1))
    gate.enter(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gate.enter, 30.0)
        while not gate.waiting_count:
            threading.Event().wait(0.001)
        with pytest.raises(OverloadedError):
            gate.enter(30.0)
        gate.leave()
        assert 0 < waiting.result(30) < 30
    assert gate.in_flight_count == 1


def test_never_more_than_the_places_and_nobody_is_forgotten() -> None:
    gate, seen, lock = Gate(AdmissionLimits(3, 100)), [0, 0], threading.Lock()

    def ask(_: int) -> None:
        gate.enter(60)
        with lock:
            seen[0] += 1
            seen[1] = max(seen)
        assert seen[0] <= 3
        with lock:
            seen[0] -= 1
        gate.leave()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(600)))
    assert gate.in_flight_count == gate.waiting_count == 0


@given(st.integers(0, 10_000), st.floats(0, 100))
def test_the_hint_is_the_time_to_work_the_queue_off_within_bounds(waiting_count: int, interval_s: float) -> None:
    hint = retry_after_ms(waiting_count, interval_s)
    assert RETRY_MS_MIN <= hint <= RETRY_MS_MAX
    if RETRY_MS_MIN < hint < RETRY_MS_MAX:
        assert hint == round(waiting_count * interval_s * 1000)
