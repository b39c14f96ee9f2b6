"""What runs only where it is configured, and how it ends."""

import json
import threading
from pathlib import Path

from edge_component.clock import SystemClock
from edge_component.config import RuntimeConfig
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.router import Router
from edge_component.observability.service_totals import ServiceTotals
from edge_component.optional_parts import OptionalParts, Surroundings
from edge_component.serving.serving import Serving
from edge_component.telemetry_sink import NullSink


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
    parts.stop()
    assert streams_threads_count() == 0
    parts.follow({"streams": {"gate": stream}})
    assert streams_threads_count() == 0
    assert told == []
