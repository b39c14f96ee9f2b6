"""Slow requests: one line each, never a flood. JSON logs: one record, one line."""

import json
import logging
from datetime import UTC, datetime

import numpy as np
import pytest

from edge_component.clock import ManualClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.observability.json_log import JsonFormatter, use_log_format
from edge_component.observability.service_totals import ServiceTotals
from edge_component.observability.slow_requests import SlowLimits, SlowRequests
from edge_component.telemetry.recorder import Recorder, RecorderLimits
from edge_component.telemetry_sink import Outcome

REF = ModelRef("weather", "1.2.0", "a" * 64)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, tzinfo=UTC))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("slow_requests")]


def test_a_slow_request_is_one_line_that_names_everything(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowRequests(SlowLimits(threshold_ms=10), clock)
    slow.counted(REF, [9_999.0, 10_000.0, 25_000.0], ["", "", "deadline-exceeded"], ["a", "b", "c"])
    assert lines(caplog) == [
        "slow request: weather 1.2.0 took 10.0 ms (threshold 10 ms), answered, request b",
        "slow request: weather 1.2.0 took 25.0 ms (threshold 10 ms), deadline-exceeded, request c",
    ]


def test_without_a_threshold_nothing_is_slow(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    SlowRequests(SlowLimits(), clock).counted(REF, [1e9], [""], [""])
    assert lines(caplog) == []


def test_a_flood_is_counted_and_told_later(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowRequests(SlowLimits(threshold_ms=1, reports_max=2, period_s=60), clock)
    slow.counted(REF, [2_000.0] * 7, [""] * 7, [""] * 7)
    assert len(lines(caplog)) == 2
    clock.advance(60)
    slow.counted(REF, [2_000.0], [""], [""])
    assert lines(caplog)[-1].endswith("; 5 more were not reported")
    clock.advance(60)
    slow.counted(REF, [2_000.0], [""], [""])
    assert "not reported" not in lines(caplog)[-1]


def test_the_recorder_tells_its_observers_once(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    totals = ServiceTotals()
    observers = (totals, SlowRequests(SlowLimits(threshold_ms=1), clock))
    recorder = Recorder(lambda kind, body: None, clock, 5_000, RecorderLimits(ring_records_max=3), observers=observers)
    tensors = {"x": np.zeros(3)}
    recorder.record(Outcome(REF, tensors, tensors, 100))
    recorder.record(Outcome(REF, tensors, tensors, 2_000, None, "request-7"))
    recorder.record(Outcome(REF, tensors, tensors, 50, "input-shape"))
    recorder.record(Outcome(REF, tensors, tensors, 50))  # the ring is full
    recorder.flush()
    recorder.flush()
    total = totals.by_model()[REF]
    assert (total.counts.answered_count, total.counts.failed_count, total.lost_count) == (2, 1, 1)
    assert total.latency_sum_us == 2_150
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].endswith("request request-7")


def make_record(**extra: object) -> logging.LogRecord:
    record = logging.getLogger("edge_component.test").makeRecord(
        "edge_component.test", logging.WARNING, "f.py", 1, "two\nlines %d", (7,), None, extra=extra
    )
    record.created = 1_772_323_200.25
    return record


def test_a_record_is_one_line_with_its_extra_fields() -> None:
    line = JsonFormatter().format(make_record(model="weather", request_id="", odd=object))
    assert "\n" not in line
    document = json.loads(line)
    assert document["at"] == "2026-03-01T00:00:00.250+00:00"
    assert (document["level"], document["message"], document["model"]) == ("warning", "two\nlines 7", "weather")
    assert "request_id" not in document
    assert document["odd"] == "<class 'object'>"


def test_a_trace_stays_within_its_line() -> None:
    record = make_record()
    try:
        raise ValueError("mine")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: mine" in json.loads(line)["trace"]


def test_the_format_of_the_root_logger_can_be_chosen() -> None:
    root, handler = logging.getLogger(), logging.StreamHandler()
    root.addHandler(handler)
    before = {each: each.formatter for each in root.handlers}
    try:
        use_log_format("json")
        assert isinstance(handler.formatter, JsonFormatter)
        use_log_format("text")
        assert not isinstance(handler.formatter, JsonFormatter)
    finally:
        root.removeHandler(handler)
        for each, formatter in before.items():
            each.setFormatter(formatter)
