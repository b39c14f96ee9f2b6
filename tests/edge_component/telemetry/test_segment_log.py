"""The log on real files: nothing acknowledged is lost, whatever happens to the process, the disk or the bytes."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from edge_component.contracts.errors import TooLargeError
from edge_component.errors import OutboxClosedError, OutboxDiskError
from edge_component.telemetry.cursor import SLOT_BYTES
from edge_component.telemetry.records import HEADER_BYTES
from edge_component.telemetry.segment_log import LogLimits, SegmentLog
from tests.edge_component.telemetry.conftest import OpenLog

SMALL = LogLimits(bytes_max=4_000, segments_count=4, record_bytes_max=1_000)


def put(log: SegmentLog, count: int, size: int = 100) -> list[int]:
    return [log.append(lambda epoch, sequence: f"{epoch}:{sequence}".encode().ljust(size)) for _ in range(count)]


def texts(log: SegmentLog, count: int = 10_000) -> list[str]:
    return [entry.payload.decode().strip() for entry in log.peek(count)]


def drain(log: SegmentLog) -> list[str]:
    seen: list[str] = []
    while entries := log.peek(7):
        seen += [entry.payload.decode().strip() for entry in entries]
        log.acknowledge(entries[-1])
    return seen


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "log").glob("*.segment"))


# -- the ordinary life -------------------------------------------------------------------------------------------------


def test_records_come_back_in_order_and_once_acknowledged_never_again(open_log: OpenLog) -> None:
    log = open_log()
    assert put(log, 5) == [1, 2, 3, 4, 5]
    assert texts(log, 2) == ["e1:1", "e1:2"]
    log.acknowledge(log.peek(2)[-1])
    assert texts(log) == ["e1:3", "e1:4", "e1:5"]
    log.close()
    again = open_log()
    assert texts(again) == ["e1:3", "e1:4", "e1:5"]
    assert put(again, 1) == [6]
    assert drain(again) == ["e1:3", "e1:4", "e1:5", "e1:6"]
    assert again.state().queued_count == 0


def test_numbers_go_on_after_everything_was_sent_and_closed(open_log: OpenLog) -> None:
    log = open_log(SMALL)
    for _ in range(3):
        put(log, 10)
        drain(log)
        log.close()
        log = open_log(SMALL)
    assert put(log, 1) == [31]
    assert log.state().epoch == "e1"


def test_sealed_segments_go_when_they_are_done_with(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    put(log, 20)
    assert len(segments(tmp_path)) > 2
    drain(log)
    assert len(segments(tmp_path)) == 1


def test_a_full_log_gives_up_its_oldest_and_counts_every_one(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    sequences = put(log, 100)
    state = log.state()
    kept = drain(log)
    assert kept == [f"e1:{sequence}" for sequence in sequences[state.dropped_count :]]
    assert 0 < state.dropped_count < 100
    assert state.queued_count == len(kept)


def test_the_log_stays_within_its_bytes(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    for _ in range(60):
        put(log, 1, size=333)
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= SMALL.bytes_max


def test_dropped_counts_survive_a_restart(open_log: OpenLog) -> None:
    log = open_log(SMALL)
    put(log, 100)
    dropped_count = log.state().dropped_count
    log.close()
    assert open_log(SMALL).state().dropped_count == dropped_count > 0


def test_an_acknowledgement_of_what_was_given_up_meanwhile_is_no_matter(open_log: OpenLog) -> None:
    log = open_log(SMALL)
    put(log, 3)
    held = log.peek(2)
    put(log, 100)
    before = texts(log)
    log.acknowledge(held[-1])
    assert texts(log) == before


def test_a_failing_encoder_uses_up_no_number(open_log: OpenLog) -> None:
    log = open_log()

    def refuse(epoch: str, sequence: int) -> bytes:
        raise TooLargeError("no")

    with pytest.raises(TooLargeError):
        log.append(refuse)
    with pytest.raises(TooLargeError, match="a record holds at most"):
        log.append(lambda epoch, sequence: b"x" * 20_000)
    assert put(log, 1) == [1]


def test_a_closed_log_takes_nothing(open_log: OpenLog) -> None:
    log = open_log()
    log.close()
    log.close()
    with pytest.raises(OutboxClosedError):
        put(log, 1)


def test_many_threads_share_commits_and_no_number(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    sync = os.fdatasync

    def counting(descriptor: int) -> None:
        syncs.append(descriptor)
        sync(descriptor)

    log = open_log()
    monkeypatch.setattr(os, "fdatasync", counting)
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(put(log, 40))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 321))
    assert drain(log) == [f"e1:{number}" for number in range(1, 321)]
    assert len(syncs) <= 320 + 50


# -- damage ------------------------------------------------------------------------------------------------------------


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


# -- a disk that refuses -----------------------------------------------------------------------------------------------


class Disk:
    """os.write, os.fdatasync, os.ftruncate and os.open that can be made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: dict[str, int] = {}
        self.partial_bytes = 0
        for name in ("write", "fdatasync", "ftruncate", "pwrite"):
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable) -> Callable:
        def call(*arguments):
            if name in self.failing:
                if name == "write" and self.partial_bytes:
                    real(arguments[0], bytes(arguments[1])[: self.partial_bytes])
                raise OSError(self.failing[name], os.strerror(self.failing[name]))
            return real(*arguments)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("partial_bytes", [0, 1, HEADER_BYTES, 60])
def test_a_failed_write_is_taken_back_and_its_number_used_again(
    open_log: OpenLog, disk: Disk, partial_bytes: int
) -> None:
    log = open_log()
    put(log, 2)
    disk.failing, disk.partial_bytes = {"write": errno.EIO}, partial_bytes
    with pytest.raises(OutboxDiskError, match="cannot be written"):
        put(log, 1)
    disk.failing = {}
    assert put(log, 1) == [3]
    log.close()
    again = open_log()
    assert drain(again) == ["e1:1", "e1:2", "e1:3"]
    assert again.state().damaged_ranges_count == 0


@pytest.mark.parametrize("failing", [{"fdatasync": errno.EIO}, {"write": errno.EIO, "ftruncate": errno.EIO}])
def test_after_an_unknown_outcome_a_number_is_never_given_twice(open_log: OpenLog, disk: Disk, failing: dict) -> None:
    log = open_log()
    put(log, 2)
    disk.failing, disk.partial_bytes = failing, 60
    with pytest.raises(OutboxDiskError):
        put(log, 1)
    disk.failing = {}
    assert put(log, 1) == [4]
    assert log.state().dropped_count == 1
    log.close()
    seen = drain(open_log())
    assert [text for text in seen if text != "e1:3"] == ["e1:1", "e1:2", "e1:4"]


def test_a_cursor_that_cannot_be_written_stops_unlinking(open_log: OpenLog, tmp_path: Path, disk: Disk) -> None:
    log = open_log(SMALL)
    put(log, 20)
    held = segments(tmp_path)
    disk.failing = {"pwrite": errno.EIO}
    with pytest.raises(OutboxDiskError, match="cursor"):
        log.acknowledge(log.peek(8)[-1])
    assert segments(tmp_path) == held
    disk.failing = {}
    log.close()
    assert drain(open_log(SMALL))[0] == "e1:1"


def test_on_a_full_disk_the_oldest_goes_first(open_log: OpenLog, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(SMALL)
    put(log, 20)
    real_unlink = Path.unlink

    def unlink_frees(path: Path, missing_ok: bool = False) -> None:
        real_unlink(path, missing_ok)
        disk.failing.pop("write", None)

    monkeypatch.setattr(Path, "unlink", unlink_frees)
    disk.failing, disk.partial_bytes = {"write": errno.ENOSPC}, 5
    assert put(log, 1) == [21]
    state = log.state()
    assert state.dropped_count == 8
    assert len(drain(log)) == 13


def test_a_full_disk_with_nothing_to_give_up_is_said(open_log: OpenLog, disk: Disk) -> None:
    log = open_log()
    put(log, 1)
    disk.failing = {"write": errno.ENOSPC}
    with pytest.raises(OutboxDiskError, match="No space left") as refusal:
        put(log, 1)
    assert "disk" in refusal.value.remedy.lower()
    disk.failing = {}
    assert put(log, 1) == [2]


def test_two_logs_never_share_a_folder(open_log: OpenLog) -> None:
    log = open_log()
    put(log, 1)
    with pytest.raises(OutboxDiskError, match="another process has it open"):
        open_log()
    log.close()
    assert drain(open_log()) == ["e1:1"]


def test_an_unusable_folder_is_said(open_log: OpenLog, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(OutboxDiskError, match="cannot be opened"):
        open_log()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    mount = tmp_path / "tiny"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs; test_on_a_full_disk_the_oldest_goes_first injects the same")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.root
def test_on_a_truly_full_disk_the_newest_is_kept_and_every_drop_counted(open_log: OpenLog, tiny_disk: Path) -> None:
    log = open_log(LogLimits(bytes_max=4_000_000, segments_count=64, record_bytes_max=5_000), tiny_disk / "log")
    put(log, 600, size=4_000)
    state = log.state()
    log.close()
    again = open_log(LogLimits(bytes_max=4_000_000, segments_count=64, record_bytes_max=5_000), tiny_disk / "log")
    seen = drain(again)
    assert seen[-1] == "e1:600"
    assert len(seen) + state.dropped_count == 600
    assert state.dropped_count > 300
    again.close()


def test_the_cursor_is_durable_before_a_segment_goes(
    open_log: OpenLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(SMALL)
    put(log, 20)
    order: list[str] = []
    sync, unlink = os.fdatasync, Path.unlink
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (order.append("sync"), sync(descriptor))[1])

    def noting(path: Path, missing_ok: bool = False) -> None:
        order.append("unlink")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", noting)
    drain(log)
    assert "unlink" in order
    for index, step in enumerate(order):
        assert step != "unlink" or order[index - 1] == "sync"
