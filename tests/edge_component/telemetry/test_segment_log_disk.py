"""A log on a disk that refuses, is full, or is somebody else's: nothing acknowledged is lost without a count."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_component.telemetry.errors import OutboxDiskError
from edge_component.telemetry.records import HEADER_BYTES
from edge_component.telemetry.segment_log import LogLimits
from tests.edge_component.telemetry.conftest import OpenLog
from tests.edge_component.telemetry.logs import SMALL, drain, put, segments


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
