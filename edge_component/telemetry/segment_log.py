"""The segment log: numbered records on disk, durable before they are acknowledged, bounded, oldest given up first.

The failures this exists for, each a test: an acknowledged record lost by kill -9 or a power cut; a segment deleted before
the cursor that allows it is durable (Vector #25570); a reader that waits for ever for a record that is damaged or gone
(Vector #17644); a log that does not open after corruption (OpenTelemetry #35899); a full disk on which nothing can be
given up any more; a sequence number given to two different records, of which the cloud would drop the second.

So: an append is one write and one ``fdatasync`` for everybody who is waiting (group commit), and returns after it. The
cursor is durable before a segment is unlinked. Where the next number cannot be proven (a lost cursor, damage at the very
end), a new *epoch* begins and numbers start from 1 again. Delivery is at least once: what was read but not yet
acknowledged durably is read again after a crash.

It knows no messages (``outbox``) and no network (``uplink``). Any thread may call anything. One log at a time: the folder
is locked while it is open, since recovery under a writer's feet would cut off what it is just appending.
"""

import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_component.contracts.errors import TooLargeError
from edge_component.telemetry.cursor import CursorFile
from edge_component.telemetry.errors import OutboxClosedError, OutboxDiskError
from edge_component.telemetry.group_commit import Encode, GroupCommit, Waiting
from edge_component.telemetry.records import Record, frame
from edge_component.telemetry.recovery import read_pending, recover
from edge_component.telemetry.segment_file import AppendingFile, Segment, hold_alone, segment_path

logger = logging.getLogger(__name__)

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Bounds of the log on disk.

    Attributes:
        bytes_max: all segments together; the oldest segment is given up when an append would pass it.
        segments_count: how many segments that is; what is given up at once is one of them.
        record_bytes_max: payload of one record.
    """

    bytes_max: int = 16_000_000
    segments_count: int = 16
    record_bytes_max: int = 16_384

    @property
    def segment_bytes_max(self) -> int:
        """After which a segment is sealed and the next begun."""
        return self.bytes_max // self.segments_count


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as :meth:`SegmentLog.peek` gives it out."""

    segment: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class LogState:
    """Counts over the log; ``dropped_count`` since the epoch began, ``damaged_ranges_count`` as found when opened."""

    epoch: str
    queued_count: int
    queued_bytes: int
    dropped_count: int
    damaged_ranges_count: int


class SegmentLog:
    """See the module's docstring."""

    def __init__(self, directory: Path, limits: LogLimits, new_epoch: Callable[[], str]) -> None:
        """Open the log in ``directory``, which is made if needed, and recover what is there.

        ``new_epoch`` gives a fresh id of at most 32 ASCII characters.

        Raises:
            OutboxDiskError: the file system refused; nothing was lost.
        """
        self._directory = directory
        self._limits = limits
        self._lock = threading.Lock()
        self._group = GroupCommit(self._lock, self._commit)
        self._cursor_file = CursorFile(directory / "cursor")
        self._is_closed = False
        self._head: deque[Entry] = deque()
        self._hold = -1
        try:
            self._hold = hold_alone(directory)
            found = recover(directory, self._cursor_file, limits.record_bytes_max, new_epoch)
        except OSError as error:
            self._cursor_file.close()
            self._let_go()
            raise OutboxDiskError(f"the outbox in {directory} cannot be opened: {error}") from error
        self._cursor = found.cursor
        self._sealed = deque(found.sealed)
        self._active = found.active
        self._next_sequence = found.next_sequence
        self._damaged_ranges_count = found.damaged_ranges_count
        self._file: AppendingFile | None = found.file
        self._load_head()

    def append(self, encode: Encode) -> int:
        """Append ``encode(epoch, sequence)``; returns the sequence once the record is durable.

        Raises:
            OutboxDiskError: the disk refused, even after the oldest segments were given up; nothing was appended.
            OutboxClosedError: the log is closed.
            Exception: whatever ``encode`` raises; no number is used up.
        """
        return self._group.append(encode)

    def peek(self, count: int) -> tuple[Entry, ...]:
        """Up to ``count`` of the oldest records that are not done with, out of one segment; empty if there are none.

        Raises:
            OutboxDiskError: a segment that is done with could not be left; nothing was lost.
        """
        with self._lock:
            try:
                while not self._head and self._sealed:
                    self._leave_head()
            except OSError as error:
                raise OutboxDiskError(f"the outbox's cursor cannot be written: {error}") from error
            return tuple(self._head[index] for index in range(min(count, len(self._head))))

    def after(self, entry: Entry) -> Entry | None:
        """The record that follows one which is not done with, in whichever segment; ``None`` if it is the last."""
        with self._lock:
            following = [each for each in self._head if _position(each) > _position(entry)]
            for segment in [*self._sealed, self._active][1:]:
                if following:
                    break
                records, _ = read_pending(segment, self._cursor, self._limits.record_bytes_max)
                following = [Entry(segment.number, record.sequence, record.payload) for record in records]
            return following[0] if following else None

    def acknowledge(self, last: Entry, dropped_count: int = 0) -> None:
        """Be done, durably, with every record up to and including ``last``; one that was given up since is no matter.

        ``dropped_count`` of them were not delivered, and are counted as dropped.

        Raises:
            OutboxDiskError: the cursor could not be made durable; the records are done with in this process only.
        """
        with self._lock:
            if _position(last) <= (self._cursor.segment, self._cursor.sequence):
                return
            while self._head and _position(self._head[0]) <= _position(last):
                self._head.popleft()
                self._oldest.pending_count -= 1
            self._cursor = replace(
                self._cursor,
                segment=last.segment,
                sequence=last.sequence,
                dropped_count=self._cursor.dropped_count + dropped_count,
            )
            try:
                self._save_cursor()
                if not self._head and self._sealed:
                    self._leave_head()
            except OSError as error:
                raise OutboxDiskError(f"the outbox's cursor cannot be written: {error}") from error

    def state(self) -> LogState:
        """See :class:`LogState`."""
        with self._lock:
            segments = [*self._sealed, self._active]
            return LogState(
                self._cursor.epoch,
                sum(segment.pending_count for segment in segments),
                sum(segment.size_bytes for segment in segments if segment.pending_count),
                self._cursor.dropped_count,
                self._damaged_ranges_count,
            )

    def close(self) -> None:
        """Close the files; everything acknowledged is on disk already. Idempotent."""
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
            self._cursor_file.close()
            self._let_go()

    def _let_go(self) -> None:
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    # -- under the lock ------------------------------------------------------------------------------------------------

    @property
    def _oldest(self) -> Segment:
        return self._sealed[0] if self._sealed else self._active

    def _commit(self, group: Sequence[Waiting]) -> None:
        if self._is_closed:
            self._fail(group, OutboxClosedError("the outbox is closed"))
            return
        framed = self._frame(group)
        if not framed:
            return
        content = b"".join(frame(record) for _, record in framed)
        try:
            self._make_room(len(content))
            self._write(content, len(framed))
        except OSError as error:
            self._fail([waiting for waiting, _ in framed], OutboxDiskError(f"the outbox cannot be written: {error}"))
            return
        self._take_in(framed, len(content))

    def _frame(self, group: Sequence[Waiting]) -> list[tuple[Waiting, Record]]:
        framed: list[tuple[Waiting, Record]] = []
        for waiting in group:
            sequence = self._next_sequence + len(framed)
            try:
                payload = self._encoded(waiting.encode, sequence)
            except Exception as error:  # noqa: BLE001 - it belongs to the one who gave the encoder, and is raised there
                waiting.error = error
                continue
            framed.append((waiting, Record(sequence, payload)))
        return framed

    def _encoded(self, encode: Encode, sequence: int) -> bytes:
        payload = encode(self._cursor.epoch, sequence)
        if len(payload) > self._limits.record_bytes_max:
            raise TooLargeError(f"{len(payload)} bytes; a record holds at most {self._limits.record_bytes_max}")
        return payload

    def _take_in(self, framed: Sequence[tuple[Waiting, Record]], content_bytes: int) -> None:
        for waiting, record in framed:
            waiting.sequence = record.sequence
            if not self._sealed:  # the head is the active segment: keep what is read next in memory
                self._head.append(Entry(self._active.number, record.sequence, record.payload))
        self._next_sequence += len(framed)
        self._active.size_bytes += content_bytes
        self._active.pending_count += len(framed)
        self._active.last_sequence = self._next_sequence - 1

    def _fail(self, group: Sequence[Waiting], error: Exception) -> None:
        for waiting in group:
            waiting.error = error

    def _make_room(self, content_bytes: int) -> None:
        while self._total_bytes() + content_bytes > self._limits.bytes_max and self._sealed:
            self._give_up_oldest()
        is_full = self._active.size_bytes + content_bytes > self._limits.segment_bytes_max
        if self._file is None or (is_full and self._active.size_bytes):
            self._on_full_disk_give_up(self._begin_segment)

    def _total_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._sealed) + self._active.size_bytes

    def _write(self, content: bytes, record_count: int) -> None:
        try:
            self._on_full_disk_give_up(lambda: self._append_or_take_back(content))
            self._sync_or_abandon(len(content))
        except OSError:
            if self._file is None:
                # What the disk holds of these records is unknown, so their numbers must never be used again.
                self._next_sequence += record_count
                self._cursor = replace(self._cursor, dropped_count=self._cursor.dropped_count + record_count)
            raise

    @property
    def _open_file(self) -> AppendingFile:
        if self._file is None:
            raise OSError(errno.EBADF, "no segment is open")
        return self._file

    def _append_or_take_back(self, content: bytes) -> None:
        try:
            self._open_file.append(content)
        except OSError:
            try:
                self._open_file.take_back()
            except OSError:
                self._abandon_file()
            raise

    def _sync_or_abandon(self, content_bytes: int) -> None:
        try:
            self._open_file.sync(content_bytes)
        except OSError:
            self._abandon_file()
            raise

    def _on_full_disk_give_up(self, act: Callable[[], None]) -> None:
        while True:
            try:
                return act()
            except OSError as error:
                if error.errno not in NO_ROOM or not self._sealed:
                    raise
                self._give_up_oldest()

    def _begin_segment(self) -> None:
        if not self._active.pending_count:
            self._save_cursor()  # before its file goes, as with any other segment
        number, file = self._create_file(self._active.number + 1)
        self._abandon_file()
        self._file = file
        if self._active.pending_count:
            self._sealed.append(self._active)
        else:
            self._active.path.unlink(missing_ok=True)
        self._active = Segment(number, segment_path(self._directory, number))

    def _create_file(self, number: int) -> tuple[int, AppendingFile]:
        while True:  # a name is taken only where an earlier attempt failed half-way
            try:
                return number, AppendingFile.create(segment_path(self._directory, number))
            except FileExistsError:
                number += 1

    def _abandon_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _give_up_oldest(self) -> None:
        oldest = self._sealed[0]
        dropped_count = self._cursor.dropped_count + oldest.pending_count
        if oldest.pending_count:
            logger.warning("outbox: full; gave up its oldest %d messages", oldest.pending_count)
        self._cursor = replace(
            self._cursor, segment=oldest.number, sequence=oldest.last_sequence, dropped_count=dropped_count
        )
        oldest.pending_count = 0
        self._head.clear()
        self._leave_head()

    def _leave_head(self) -> None:
        """Go on to the next segment: cursor durable first, then unlink."""
        done = self._sealed[0]
        dropped_count = self._cursor.dropped_count + done.pending_count  # recorded once, but damaged or gone since
        self._cursor = replace(
            self._cursor, segment=done.number, sequence=done.last_sequence, dropped_count=dropped_count
        )
        done.pending_count = 0
        self._save_cursor()
        self._sealed.popleft()
        done.path.unlink(missing_ok=True)
        self._load_head()

    def _save_cursor(self) -> None:
        self._cursor = self._cursor_file.save(self._cursor)

    def _load_head(self) -> None:
        oldest = self._oldest
        records, readable = read_pending(oldest, self._cursor, self._limits.record_bytes_max)
        self._head = deque(Entry(oldest.number, record.sequence, record.payload) for record in records)
        if not readable:
            logger.warning("outbox: %s cannot be read back; its messages are counted as dropped", oldest.path.name)


def _position(entry: Entry) -> tuple[int, int]:
    return entry.segment, entry.sequence
