"""The recorder: what it cannot count it counts as lost, and no request, switch or full disk waits for it."""

import math
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from edge_component.clock import ManualClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.recorder import Recorder, RecorderLimits
from edge_component.telemetry_sink import Outcome
from tests.edge_component.telemetry.windows import AT, V1, V2, V3, Windows, answer, plan, rows


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.fixture
def recorder(windows: Windows, clock: ManualClock) -> Recorder:
    numbers = iter(range(1_000_000))
    limits = RecorderLimits(window_s=300, ring_records_max=50, ring_bytes_max=100_000, unsent_parts_max=3)
    made = Recorder(windows.append, clock, 4_500, limits, lambda: f"w{next(numbers)}")
    made.model_switched(plan())
    return made


def test_a_flushed_window_says_everything(recorder: Recorder, windows: Windows, clock: ManualClock) -> None:
    recorder.flush()
    recorder.record(Outcome(V1, rows((0.0, 1.0), (math.nan, 9.0)), answer(2), 20, None))
    recorder.record(Outcome(V1, rows((math.inf, -1.0)), answer(1), 900, None))
    recorder.record(Outcome(V1, {}, {}, 50, "deadline-exceeded"))
    clock.advance(2)
    assert recorder.flush() == 1
    (window,) = windows.taken
    assert (window.model, window.baseline_id, window.record_count, window.lost_count) == (V1, "b" * 64, 3, 0)
    assert (window.starts_at, window.ends_at, window.duration_ms) == (AT, clock.now(), 2000)
    first = window.features["f0"]
    assert (sum(first.counts), first.nan_count, first.infinite_count, first.zero_count) == (1, 1, 1, 1)
    assert window.features["f1"].out_of_range_count == 1
    assert window.outputs["label"].counts[1] == 3
    assert sum(window.outputs["p1"].counts) == 3
    assert window.service is not None
    assert (window.service.answered_count, window.service.failed_count) == (2, 1)
    assert window.service.errors == {"deadline-exceeded": 1}
    assert sum(window.service.latency_counts) == 3


@pytest.mark.parametrize("set_to", ["1970-01-01", "2016-06-01", "2036-06-01"])
def test_a_clock_that_is_set_within_a_window_makes_it_neither_longer_nor_negative(
    recorder: Recorder, windows: Windows, clock: ManualClock, set_to: str
) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    clock.wall = datetime.fromisoformat(f"{set_to}T00:00:00+00:00")
    clock.advance(120)
    recorder.flush()
    (window,) = windows.taken
    assert (window.ends_at, window.duration_ms) == (clock.now(), 120_000)
    assert window.ends_at - window.starts_at == timedelta(seconds=120)


def test_what_the_client_overwrites_afterwards_was_copied(recorder: Recorder, windows: Windows) -> None:
    shared = rows((0.0, 0.0))
    recorder.record(Outcome(V1, shared, answer(1), 1, None))
    shared["input"][:] = math.nan
    recorder.flush()
    assert windows.taken[0].features["f0"].nan_count == 0


def test_nothing_happened_is_nothing_sent(recorder: Recorder, windows: Windows) -> None:
    assert recorder.flush() == 0
    assert windows.taken == []


def test_windows_close_on_the_interval(recorder: Recorder, windows: Windows, clock: ManualClock) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    clock.advance(299)
    recorder._tick()
    assert windows.taken == []
    clock.advance(1)
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    (window,) = windows.taken
    assert window.record_count == 2
    assert window.duration_ms == 300_000


def test_a_switch_closes_the_old_window_and_latecomers_get_one_more(recorder: Recorder, windows: Windows) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder.model_switched(plan(V2))
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    recorder.record(Outcome(V1, rows((1, 1)), answer(1), 1, None))  # was under way during the switch
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    assert recorder.flush() == 3
    assert [window.record_count for window in windows.of(V1)] == [1, 1]
    assert [window.record_count for window in windows.of(V2)] == [2]
    assert len({window.window_id for window in windows.taken}) == 3


def test_whatever_a_device_holds_of_a_model_may_answer_beside_the_newest_and_is_watched(
    recorder: Recorder, windows: Windows
) -> None:
    """A candidate on probation, the version before it, and the one before that, under pins or in a split."""
    other, newest = ModelRef("vad", "1.0.0", "e" * 64), ModelRef("weather", "1.9.0", "9" * 64)
    recorder.model_switched(WatchPlan(other))
    for ref in (V2, V3):
        recorder.model_switched(plan(ref))
    for ref in (V1, V2, V3):
        recorder.record(Outcome(ref, rows((0, 0)), answer(1), 1, None))
    recorder.flush()
    assert [(window.model, window.record_count) for window in windows.taken] == [(V1, 1), (V2, 1), (V3, 1)]
    recorder.model_switched(plan(newest))
    assert set(recorder._plans) == {V2.digest, V3.digest, newest.digest, other.digest}, "and no more than that"


def test_a_model_that_answers_before_it_is_announced_is_watched_from_the_announcement_on(
    recorder: Recorder, windows: Windows
) -> None:
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    recorder._tick()
    recorder.model_switched(plan(V2))
    recorder.record(Outcome(V2, rows((0, 0)), answer(1), 1, None))
    recorder.flush()
    unwatched, watched = windows.of(V2)
    assert (unwatched.baseline_id, unwatched.record_count) == ("", 0)
    assert (watched.baseline_id, watched.record_count) == ("b" * 64, 1)


def test_a_model_nobody_announced_is_counted_without_columns(recorder: Recorder, windows: Windows) -> None:
    stranger = ModelRef("vad", "1.0.0", "e" * 64)
    recorder.record(Outcome(stranger, rows((0, 0)), {}, 1, None))
    recorder.flush()
    (window,) = windows.taken
    assert (window.model, window.baseline_id, dict(window.features)) == (stranger, "", {})
    assert window.service is not None
    assert window.service.answered_count == 1


@pytest.mark.parametrize(
    "inputs",
    [{}, {"input": np.zeros((1, 1), np.float32)}, {"input": np.array([["text", "x"]])}, {"input": None}],
    ids=["missing", "too narrow", "text", "no array"],
)
def test_what_cannot_be_counted_is_lost_not_raised(recorder: Recorder, windows: Windows, inputs: dict) -> None:
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder.record(Outcome(V1, inputs, answer(1), 1, None))
    recorder.flush()
    (window,) = windows.taken
    assert (window.record_count, window.lost_count) == (1, 1)
    assert window.service is not None
    assert window.service.answered_count == 2


class Unreadable(np.ndarray):
    """An array whose bytes are not to be had, now and then."""

    fails = False

    def tobytes(self, *order: Any) -> bytes:
        if Unreadable.fails:
            raise MemoryError
        return super().tobytes(*order)


@pytest.mark.parametrize("rows_count", [1, 3, 40])  # the last is beyond large_record_bytes
def test_a_bound_record_counts_as_an_ordinary_one_does(clock: ManualClock, rows_count: int) -> None:
    """In place, before and after a plan is known, with tensors that cannot be read, and beyond the ring."""
    inputs = {"input": np.zeros((rows_count, 2), np.float32).view(Unreadable)}
    outputs, limits = answer(rows_count), RecorderLimits(ring_records_max=60)
    both = []
    for is_bound in (False, True):
        windows = Windows()
        made = Recorder(windows.append, clock, 4_500, limits, lambda: "w")

        def tell(latency_us: int, made: Recorder = made) -> None:
            made.record(Outcome(V1, inputs, outputs, latency_us))

        told = made.bound_record(V1, inputs, outputs) if is_bound else tell
        told(1)
        made.model_switched(plan())
        for number in range(80):
            inputs["input"][...] = number / 10
            Unreadable.fails = number % 7 == 0
            told(number)
        Unreadable.fails = False
        made.flush()
        both.append([window.to_document() for window in windows.taken])
    assert both[0] == both[1]
    overrun, unreadable = 80 - (60 - 2), 9  # the ring holds one record and the plan before; 0, 7, … 56 of what it takes
    assert sum(window["lost_count"] for window in both[0]) == overrun + unreadable


def test_an_overrun_is_counted_and_never_waits(recorder: Recorder, windows: Windows) -> None:
    for _ in range(80):
        recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    recorder.flush()
    (window,) = windows.taken
    assert window.record_count + window.lost_count == 80
    assert 0 < window.lost_count <= 31


def test_the_ring_is_bounded_in_bytes(recorder: Recorder, windows: Windows) -> None:
    for _ in range(4):
        recorder.record(Outcome(V1, {"input": np.zeros((5_000, 2), np.float32)}, answer(1), 1, None))
    recorder.flush()
    assert (windows.taken[0].record_count, windows.taken[0].lost_count) == (10_000, 2)


def test_a_failing_sink_gets_the_same_parts_later(recorder: Recorder, windows: Windows, caplog) -> None:
    windows.is_full = True
    for _ in range(2):
        recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
        recorder.flush()
    assert recorder.unsent_parts_count == 2
    assert len([record for record in caplog.records if "kept in memory" in record.message]) == 1
    windows.is_full = False
    recorder.flush()
    assert [window.window_id for window in windows.taken] == ["w0", "w1"]


def test_windows_that_find_no_room_are_lost_and_counted(recorder: Recorder, windows: Windows) -> None:
    windows.is_full = True
    for _ in range(10):
        recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
        recorder.flush()
    assert recorder.unsent_parts_count == 3
    windows.is_full = False
    recorder.flush()
    answered = sum(window.service.answered_count for window in windows.taken if window.service)
    assert answered + sum(window.lost_count for window in windows.taken) == 10


def test_records_of_different_shapes_are_counted_together(recorder: Recorder, windows: Windows) -> None:
    recorder.record(Outcome(V1, rows((0, 0), (0, 0), (0, 0)), answer(3), 1, None))
    recorder.record(Outcome(V1, {"input": np.zeros((2, 4, 2), np.float32)}, answer(8), 1, None))
    recorder.record(Outcome(V1, {"input": np.zeros(2, np.float32)}, answer(1), 1, None))
    recorder.flush()
    assert windows.taken[0].record_count == 3 + 8 + 1
    assert windows.taken[0].lost_count == 0


def test_many_threads_lose_nothing_that_is_not_counted(windows: Windows, clock: ManualClock) -> None:
    recorder = Recorder(windows.append, clock, 4_500, RecorderLimits(tick_s=0.01, ring_records_max=300))
    recorder.model_switched(plan())
    recorder.start()

    def ask() -> None:
        for n in range(500):
            recorder.record(Outcome(V1, rows((0, n % 3)), answer(1), n, None))
            if n % 100 == 0:
                recorder.flush()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.stop()
    assert not recorder._worker.is_alive()
    assert sum(window.record_count + window.lost_count for window in windows.taken) == 2000


def test_the_worker_counts_and_closes_on_its_own(windows: Windows, clock: ManualClock) -> None:
    recorder = Recorder(windows.append, clock, 4_500, RecorderLimits(window_s=0, tick_s=0.01))
    recorder.model_switched(plan())
    recorder.start()
    recorder.record(Outcome(V1, rows((0, 0)), answer(1), 1, None))
    deadline = time.monotonic() + 10
    while not windows.taken:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    recorder.stop()
