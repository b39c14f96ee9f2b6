"""Shared by the telemetry tests: clocks, models, logs and outboxes on real files."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_component.clock import ManualClock
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.segment_log import LogLimits, SegmentLog

OpenLog = Callable[..., SegmentLog]
OpenOutbox = Callable[..., Outbox]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[OpenLog]:
    """Opens (again) the one log of this test; epochs are e1, e2, …"""
    opened: list[SegmentLog] = []
    epochs = (f"e{number}" for number in itertools.count(1))

    def open_(limits: LogLimits | None = None, directory: Path = tmp_path / "log") -> SegmentLog:
        log = SegmentLog(directory, limits or LogLimits(), lambda: next(epochs))
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.close()


@pytest.fixture
def open_outbox(tmp_path: Path, clock: ManualClock) -> Iterator[OpenOutbox]:
    opened: list[Outbox] = []
    epochs = (f"e{number}" for number in itertools.count(1))

    def open_(limits: LogLimits | None = None) -> Outbox:
        outbox = Outbox(tmp_path / "outbox", "station-jfk", clock, limits, lambda: next(epochs))
        opened.append(outbox)
        return outbox

    yield open_
    for outbox in opened:
        outbox.close()
