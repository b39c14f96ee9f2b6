"""The heartbeat: true figures, and always small enough to be sent."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings, strategies as st

from edge_component.clock import SystemClock
from edge_component.contracts.codec import to_bytes
from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState, ServedModel, left_out_count
from edge_component.contracts.limits import LIMITS
from edge_component.telemetry.heartbeat import (
    Machine,
    ProcessIdentity,
    Snapshot,
    build_heartbeat,
    identify_process,
    read_machine,
)
from edge_component.telemetry.outbox import body_bytes_max

AT = datetime(2026, 3, 1, tzinfo=UTC)
IDENTITY = ProcessIdentity("0.1.0", 4711, AT, "boot", "linux/x86_64")
CONFIGURATION = {f"/field_{n}": "0f39bb26" for n in range(LIMITS.configuration_values_max)}
ROOM = body_bytes_max("station-jfk", SystemClock())


def served(n: int) -> ServedModel:
    name = f"model-{n}"
    return ServedModel(ModelRef(name, "1.1.0", "a" * 64), "serving", AT, ModelRef(name, "1.0.0", "b" * 64))


def build(models: int, reasons: tuple[str, ...] = ()) -> Heartbeat:
    snapshot = Snapshot(tuple(served(n) for n in range(models)), OutboxState(3, 4, 5), reasons)
    return build_heartbeat(IDENTITY, Machine(1, 2), snapshot, ROOM)


def test_a_healthy_device_says_all_of_it() -> None:
    beat = build(2)
    assert (beat.health, beat.reasons) == ("healthy", ())
    assert beat.models == (served(0), served(1))
    assert (beat.process_id, beat.boot_id, beat.rss_bytes, beat.disk_free_bytes) == (4711, "boot", 1, 2)
    assert beat.outbox == OutboxState(3, 4, 5)


def test_a_reason_makes_it_degraded() -> None:
    assert build(0, ("the disk is full",)).health == "degraded"


def test_long_reasons_are_shortened_not_the_models() -> None:
    beat = build(3, tuple("x" * 10_000 for _ in range(50)))
    assert len(beat.models) == 3
    assert len(beat.reasons) <= 5
    assert all(len(reason) <= 600 for reason in beat.reasons)


def test_the_configuration_goes_before_anything_that_serves() -> None:
    def built(models: int) -> Heartbeat:
        held = Snapshot(tuple(served(n) for n in range(models)), OutboxState(), (), CONFIGURATION)
        return build_heartbeat(IDENTITY, Machine(1, 2), held, ROOM)

    assert built(2).configuration == CONFIGURATION
    beats = [built(models) for models in range(1, 20)]
    assert any(beat.configuration is None and beat.models[0].previous for beat in beats)
    assert all(beat.configuration is None for beat in beats if not beat.models[0].previous)


def test_with_more_models_than_fit_the_previous_go_first_then_models_and_it_says_so() -> None:
    few = build(16)
    assert len(few.models) == 16
    assert all(model.previous is None for model in few.models)
    many = build(100)
    assert 5 < len(many.models) < 100
    assert many.health == "degraded"
    assert many.reasons == (f"{100 - len(many.models)} models do not fit this message",)
    assert left_out_count(many.reasons) == 100 - len(many.models)
    assert left_out_count(("the disk is full", "models do not fit this message")) == 0


def test_what_failed_and_what_is_new_is_said_before_what_has_long_been_known() -> None:
    old = [replace(served(index), since_at=AT) for index in range(100)]
    new = replace(served(100), since_at=AT + timedelta(hours=1))
    failed = replace(served(101), state="failed", since_at=AT - timedelta(hours=1))
    snapshot = Snapshot((*old, new, failed), OutboxState(3, 4, 5))
    beat = build_heartbeat(IDENTITY, Machine(1, 2), snapshot, ROOM)
    assert [model.active.name for model in beat.models[:2]] == [failed.active.name, new.active.name]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.lists(st.text(max_size=700), max_size=8).map(tuple))
def test_it_always_fits(models: int, reasons: tuple[str, ...]) -> None:
    beat = build(models, reasons)
    assert len(to_bytes(beat.to_document())) <= ROOM
    assert Heartbeat.read(beat.to_document()) == beat


def test_the_machine_is_read(tmp_path: Path) -> None:
    identity = identify_process("0.1.0", "linux/x86_64", AT)
    assert identity.process_id == os.getpid()
    assert len(identity.boot_id) == 36
    machine = read_machine(tmp_path)
    assert machine.rss_bytes > 5_000_000
    assert machine.disk_free_bytes > 0
    assert read_machine(tmp_path / "absent").disk_free_bytes == 0
