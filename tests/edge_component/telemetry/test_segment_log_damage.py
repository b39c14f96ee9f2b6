"""A log whose files are damaged, torn or gone: what can be proven is kept, what cannot begins an epoch."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from edge_component.telemetry.cursor import SLOT_BYTES
from edge_component.telemetry.records import HEADER_BYTES
from edge_component.telemetry.segment_log import SegmentLog
from tests.edge_component.telemetry.conftest import OpenLog
from tests.edge_component.telemetry.logs import SMALL, drain, put, segments


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_costs_what_it_touches_and_the_log_goes_on(
    open_log: OpenLog, tmp_path: Path, data: st.DataObject
) -> None:
    directory = tmp_path / "log"
    shutil.rmtree(directory, ignore_errors=True)
    log = open_log(SMALL)
    put(log, 25)
    sent = drain_some(log, data.draw(st.integers(0, 10)))
    log.close()
    victim = data.draw(st.sampled_from(segments(tmp_path)))
    place = data.draw(st.integers(0, victim.stat().st_size - 1))
    content = bytearray(victim.read_bytes())
    content[place] ^= data.draw(st.integers(1, 255))
    victim.write_bytes(content)

    again = open_log(SMALL)
    wanted = {f"{log.state().epoch}:{number}" for number in range(1, 26)} - set(sent)
    put(again, 1)
    seen = drain(again)
    assert len(wanted - set(seen)) <= 1
    assert len(seen) == len(set(seen))
    assert again.state().queued_count == 0


def drain_some(log: SegmentLog, count: int) -> list[str]:
    seen: list[str] = []
    for _ in range(count):
        entry = log.peek(1)[0]
        seen.append(entry.payload.decode().strip())
        log.acknowledge(entry)
    return seen


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\xff" * 7, b"EWR1" + b"\0" * 60])
def test_damage_at_the_very_end_begins_a_new_epoch(open_log: OpenLog, tmp_path: Path, tail: bytes) -> None:
    log = open_log()
    put(log, 3)
    log.close()
    with segments(tmp_path)[-1].open("ab") as file:
        file.write(tail)
    again = open_log()
    assert again.state().epoch == "e2"
    assert put(again, 1) == [1]
    again.close()
    assert drain(open_log()) == ["e1:1", "e1:2", "e1:3", "e2:1"]


def test_a_torn_append_was_never_acknowledged_so_its_number_is_used(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log()
    put(log, 3)
    log.close()
    path = segments(tmp_path)[-1]
    os.truncate(path, path.stat().st_size - 1)
    again = open_log()
    assert again.state().epoch == "e1"
    assert put(again, 1) == [3]
    again.close()
    third = open_log()
    assert drain(third) == ["e1:1", "e1:2", "e1:3"]
    assert third.state().damaged_ranges_count == 0


@pytest.mark.parametrize("damage", ["gone", "empty", "zeros", "noise"])
def test_a_lost_cursor_repeats_rather_than_loses_and_begins_an_epoch(
    open_log: OpenLog, tmp_path: Path, damage: str
) -> None:
    log = open_log(SMALL)
    put(log, 12)
    log.acknowledge(log.peek(2)[-1])
    log.close()
    cursor = tmp_path / "log" / "cursor"
    cursor.unlink()
    if damage != "gone":
        cursor.write_bytes({"empty": b"", "zeros": bytes(2 * SLOT_BYTES), "noise": b"\xa5" * 2 * SLOT_BYTES}[damage])
    again = open_log(SMALL)
    assert put(again, 2) == [1, 2]
    seen = drain(again)
    assert seen[-2:] == ["e2:1", "e2:2"]
    assert {f"e1:{number}" for number in range(3, 13)} <= set(seen)


@pytest.mark.parametrize("slot", [0, 1])
def test_one_damaged_cursor_slot_loses_nothing(open_log: OpenLog, tmp_path: Path, slot: int) -> None:
    log = open_log()
    put(log, 6)
    log.acknowledge(log.peek(2)[-1])
    log.acknowledge(log.peek(2)[-1])
    log.close()
    path = tmp_path / "log" / "cursor"
    content = bytearray(path.read_bytes())
    content[slot * SLOT_BYTES + 20] ^= 0xFF
    path.write_bytes(content)
    seen = drain(open_log())
    assert set(seen) >= {"e1:5", "e1:6"}
    assert len(seen) <= 4


def test_a_damaged_slot_and_no_record_to_count_from_begins_an_epoch(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log()
    put(log, 4)
    drain(log)
    log.close()
    for path in segments(tmp_path):
        path.unlink()
    cursor = tmp_path / "log" / "cursor"
    content = bytearray(cursor.read_bytes())
    content[SLOT_BYTES + 20] ^= 0xFF
    cursor.write_bytes(content)
    again = open_log()
    assert again.state().epoch == "e2"
    assert put(again, 1) == [1]


def test_a_segment_that_vanishes_under_the_reader_is_counted_not_waited_for(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    put(log, 30)
    log.peek(1)
    victim = segments(tmp_path)[1]
    victim_count = 8
    victim.unlink()
    seen = drain(log)
    state = log.state()
    assert state.queued_count == 0
    assert len(seen) + state.dropped_count == 30
    assert state.dropped_count == victim_count


def test_a_segment_damaged_under_the_reader_is_counted(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    put(log, 30)
    victim = segments(tmp_path)[1]
    content = bytearray(victim.read_bytes())
    content[HEADER_BYTES + 3] ^= 0xFF
    victim.write_bytes(content)
    seen = drain(log)
    assert len(seen) == 29
    assert log.state().dropped_count == 1


def test_foreign_files_are_left_alone(open_log: OpenLog, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "notes.txt").write_text("mine")
    (tmp_path / "log" / "1.segment").write_text("not ours")
    log = open_log()
    put(log, 1)
    assert drain(log) == ["e1:1"]
    assert (tmp_path / "log" / "notes.txt").read_text() == "mine"
