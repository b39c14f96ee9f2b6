"""Reporting: what the runtime tells reaches the outbox, in whatever order disk, network and stop come."""

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

from edge_component.clock import SystemClock
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState
from edge_component.nucleus_port import InMemoryNucleus
from edge_component.reporting import KEPT_EVENTS_MAX, Reporting, ReportingParts
from edge_component.telemetry.errors import OutboxDiskError
from edge_component.telemetry.heartbeat import Machine, ProcessIdentity, Snapshot, build_heartbeat
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.recorder import Recorder
from edge_component.telemetry.uplink import Uplink
from edge_component.telemetry_sink import Outcome
from tests.edge_component.small_disk import FILLER, fill_up, mounted

AT = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = ModelRef("weather", "1.0.0", "a" * 64)
IDENTITY = ProcessIdentity("0.1.0", 4711, AT, "boot", "linux/x86_64")


def build(outbox: OutboxState, body_bytes_max: int) -> Heartbeat:
    return build_heartbeat(IDENTITY, Machine(0, 0), Snapshot((), outbox), body_bytes_max)


def event(number: int) -> ActivationEvent:
    return ActivationEvent(f"a-{number}", "activated", "weather", MODEL, MODEL, "switch")


MakeReporting = Callable[..., tuple[Reporting, Outbox]]


@pytest.fixture
def make_reporting(tmp_path: Path) -> Iterator[MakeReporting]:
    made: list[Reporting] = []

    def make(
        nucleus: InMemoryNucleus | None = None, heartbeat_s: float = 600.0, folder: Path = tmp_path / "outbox"
    ) -> tuple[Reporting, Outbox]:
        outbox = Outbox(folder, "station-jfk", SystemClock())
        recorder = Recorder(outbox.append, SystemClock(), outbox.body_bytes_max)
        uplink = Uplink(outbox, nucleus, lambda: 0.5) if nucleus is not None else None
        made.append(Reporting(ReportingParts(outbox, recorder, uplink, heartbeat_s)))
        return made[-1], outbox

    yield make
    for reporting in made:
        reporting.stop()


def waiting_in(outbox: Outbox) -> list[Envelope]:
    return [Envelope.from_bytes(queued.payload) for queued in outbox.oldest(1_000)]


def test_an_activation_is_kept_before_the_call_returns(make_reporting: MakeReporting) -> None:
    reporting, outbox = make_reporting()
    reporting.activation(event(1))
    (message,) = waiting_in(outbox)
    assert message.kind == "activation"
    assert ActivationEvent.read(message.body) == event(1)


def test_a_flush_queues_windows_then_a_heartbeat(make_reporting: MakeReporting) -> None:
    reporting, outbox = make_reporting()
    reporting._build = build
    reporting.record(Outcome(MODEL, {"input": np.zeros(1)}, {}, 5, None))
    assert reporting.flush() == 1
    assert [message.kind for message in waiting_in(outbox)] == ["window", "heartbeat"]


def test_events_survive_a_disk_that_is_not_there_and_keep_their_order(
    make_reporting: MakeReporting, tmp_path: Path
) -> None:
    (tmp_path / "outbox").write_text("a file where the folder should be")
    reporting, outbox = make_reporting()
    for number in range(KEPT_EVENTS_MAX + 5):
        reporting.activation(event(number))
    (tmp_path / "outbox").unlink()
    reporting.flush()
    attempts = [message.body["attempt_id"] for message in waiting_in(outbox)]
    assert attempts == [f"a-{number}" for number in range(5, KEPT_EVENTS_MAX + 5)]


def test_the_first_heartbeat_comes_at_once_and_reaches_the_nucleus(make_reporting: MakeReporting) -> None:
    arrived = threading.Event()

    class Noting(InMemoryNucleus):
        def publish(self, topic: str, payload: bytes) -> None:
            super().publish(topic, payload)
            arrived.set()

    nucleus = Noting()
    reporting, _ = make_reporting(nucleus)
    reporting.start(build)
    assert arrived.wait(10)
    reporting.stop()
    assert nucleus.published[0][0].endswith("/station-jfk/heartbeat")


@pytest.mark.parametrize("when", ["before the start", "in mid-run"])
def test_on_a_full_disk_heartbeats_still_reach_the_nucleus_and_say_so(
    when: str, make_reporting: MakeReporting, tmp_path: Path
) -> None:
    arrived: Queue[Envelope] = Queue()

    class Noting(InMemoryNucleus):
        def publish(self, topic: str, payload: bytes) -> None:
            arrived.put(Envelope.from_bytes(payload))

    with mounted(tmp_path / "disk") as disk:
        if when == "before the start":
            fill_up(disk)
        reporting, outbox = make_reporting(Noting(), folder=disk / "outbox")
        waiting_count = fill_to_the_last_byte(outbox, disk)
        reporting.start(build)
        for _ in range(waiting_count):
            assert arrived.get(timeout=10).kind == "window", "what waited goes first"
        first = arrived.get(timeout=10)
        told = Heartbeat.read(first.body)
        assert "No space left" in told.outbox.problem
        assert told.health == "degraded"
        assert told.outbox.problem in told.reasons[0]
        reporting.flush()
        again = arrived.get(timeout=10)
        assert (again.kind, again.epoch, again.sequence) == ("heartbeat", first.epoch, first.sequence + 1)
        (disk / FILLER).unlink()
        reporting.flush()
        kept = arrived.get(timeout=10)
        assert kept.epoch != first.epoch
        assert Heartbeat.read(kept.body).outbox.problem, "the last one made while nothing was kept"
        assert outbox.state().problem == ""
        reporting.stop()


def fill_to_the_last_byte(outbox: Outbox, disk: Path) -> int:
    """Of the disk, and of the segment's last block; how many windows that took."""
    fill_up(disk)
    for count in itertools.count():
        try:
            outbox.append("window", {"n": count})
        except OutboxDiskError:
            return count
    raise AssertionError


def test_a_heartbeat_that_cannot_be_made_costs_only_itself(
    make_reporting: MakeReporting, caplog: pytest.LogCaptureFixture
) -> None:
    made = threading.Event()
    calls: list[int] = []

    def fails_once(outbox: OutboxState, body_bytes_max: int) -> Heartbeat:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a defect")
        made.set()
        return build(outbox, body_bytes_max)

    reporting, _ = make_reporting(heartbeat_s=0.01)
    reporting.start(fails_once)
    assert made.wait(10)
    assert "a heartbeat could not be made" in caplog.text


def test_a_stop_is_never_slept_through_and_loses_nothing(make_reporting: MakeReporting) -> None:
    for _ in range(20):
        reporting, outbox = make_reporting(heartbeat_s=600)
        reporting.start(build)
        reporting.record(Outcome(MODEL, {}, {}, 5, None))
        reporting.stop()
        assert not reporting._thread.is_alive()
        outbox = Outbox(outbox._directory, "station-jfk", SystemClock())
        kinds = [message.kind for message in waiting_in(outbox)]
        outbox.acknowledge(outbox.oldest(1_000)[-1])
        outbox.close()
        assert "window" in kinds
