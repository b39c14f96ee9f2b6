"""What runs only where it is configured, and how it ends."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from edge_component.clock import PARTING_S_MIN, ManualClock, Parting, SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.heartbeat import OutboxState
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.router import Router
from edge_component.observability.service_totals import ServiceTotals
from edge_component.optional_parts import OptionalParts, Surroundings
from edge_component.runtime import Runtime, RuntimeParts
from edge_component.serving.serving import Serving
from edge_component.telemetry_sink import NullSink
from tests.edge_component.bundle_factory import BundleFactory


def streams_threads_count() -> int:
    return sum(thread.name == "streams" for thread in threading.enumerate())


def test_a_configuration_that_comes_while_the_runtime_stops_begins_no_stream(tmp_path: Path) -> None:
    """A deployment that changes it restarts the component too: a sample would meet models that are going away."""
    told: list[str] = []
    serving = Serving(Router(), NullSink(), DeadlineWatch(SystemClock()), RuntimeConfig(), "1.0.0")
    parts = OptionalParts(Surroundings(tmp_path, serving, None, ServiceTotals(), SystemClock(), told.append))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.json").write_text(json.dumps([1, 2, 3]))
    stream = {
        "model": "scale",
        "source": {"kind": "folder", "path": str(tmp_path / "in")},
        "sink": {"kind": "file", "path": "out.jsonl"},
    }
    parts.follow({"streams": {"gate": stream}})
    assert streams_threads_count() == 1
    parts.stop(Parting(1.0, SystemClock()))
    assert streams_threads_count() == 0
    parts.follow({"streams": {"gate": stream}})
    assert streams_threads_count() == 0
    assert told == []


class HangingDoor:
    """Has a request that outlives whatever time it is given."""

    def __init__(self, clock: ManualClock, waits_s: list[float]) -> None:
        self._clock, self._waits_s = clock, waits_s

    def open(self) -> None:
        """There is nothing to open."""

    def stop(self, wait_s: float) -> None:
        self._waits_s.append(wait_s)
        self._clock.advance(wait_s)


def test_doors_that_hang_share_the_time_of_one_stop(tmp_path: Path) -> None:
    clock, waits_s = ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), list[float]()
    serving = Serving(Router(), NullSink(), DeadlineWatch(SystemClock()), RuntimeConfig(), "1.0.0")
    parts = OptionalParts(Surroundings(tmp_path, serving, None, ServiceTotals(), clock, print))
    parts._doors = [HangingDoor(clock, waits_s) for _ in range(3)]
    parts.stop(Parting(2.0, clock))
    assert waits_s == [2.0, PARTING_S_MIN, PARTING_S_MIN]


def test_what_is_amiss_with_them_is_in_the_heartbeat_for_as_long_as_it_lasts(
    tmp_path: Path, trust: Path, bundles: BundleFactory
) -> None:
    runtime = Runtime(RuntimeParts(tmp_path, trust, "1.0.0"))
    amiss = ["stream gate: its sink is held: the disk is full"]
    runtime.ask_also(lambda: tuple(amiss))
    assert runtime.heartbeat(OutboxState(), 5_000).reasons == tuple(amiss)
    amiss.clear()
    assert runtime.heartbeat(OutboxState(), 5_000).health == "healthy"
