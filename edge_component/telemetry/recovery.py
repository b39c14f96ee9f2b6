"""Opening a segment log that may have been left by anything: a clean stop, kill -9, a power cut, bit rot, a lost file.

The failure this exists for: a buffer that refuses to open, or silently begins again from 1 with numbers that the cloud
has seen already. What can be proven is kept; what cannot begins a new epoch.

Rules, so that the code can be checked against them:

1. Segments below the cursor are done with: unlinked, whatever they hold.
2. Whole records above the cursor are pending, damaged neighbours or not.
3. The next number is one above the highest of this epoch, on disk or in the cursor.
4. A torn last record (cut off by the end of the file) was never acknowledged: it is cut away, and its number used again.
5. A new epoch begins where 3 cannot be trusted: no cursor; other damage after the last whole record of the last segment;
   or a damaged cursor slot with no record of this epoch to prove a number by.

Used by ``segment_log`` alone, under its lock. ``OSError`` passes through.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_component.durable import sync_directory
from edge_component.telemetry.cursor import Cursor, CursorFile
from edge_component.telemetry.records import Record, Scan, scan
from edge_component.telemetry.segment_file import AppendingFile, Segment, segment_numbers, segment_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log as found, with its last segment open for appending."""

    cursor: Cursor
    sealed: tuple[Segment, ...]
    active: Segment
    file: AppendingFile
    next_sequence: int
    damaged_ranges_count: int


@dataclass(frozen=True, slots=True)
class _Found:
    segment: Segment
    scan: Scan


def recover(directory: Path, cursor_file: CursorFile, record_bytes_max: int, new_epoch: Callable[[], str]) -> Recovered:
    """Open what is in ``directory``; see the module's rules."""
    saved = cursor_file.load()
    numbers = segment_numbers(directory)
    if saved is not None:
        _unlink_done(directory, numbers, saved)
        numbers = [number for number in numbers if number >= saved.segment]
    found = [_examine(directory, number, saved, record_bytes_max) for number in numbers]
    damaged_ranges_count = sum(each.scan.damaged_ranges_count for each in found)
    if damaged_ranges_count:
        logger.warning("outbox: %d damaged stretches; the records in them are lost", damaged_ranges_count)
    if saved is None or _is_unproven(found, saved, cursor_file.is_damaged):
        return _begin_epoch(directory, cursor_file, found, saved, new_epoch())
    return _continue(directory, found, saved, damaged_ranges_count)


def read_pending(segment: Segment, cursor: Cursor, record_bytes_max: int) -> tuple[tuple[Record, ...], bool]:
    """A segment's records beyond the cursor, and whether the file could be read at all; never raises."""
    try:
        content = segment.path.read_bytes()[: segment.size_bytes]
    except OSError:
        return (), segment.pending_count == 0
    return _pending(scan(content, record_bytes_max), segment.number, cursor), True


def _pending(found: Scan, number: int, cursor: Cursor | None) -> tuple[Record, ...]:
    if cursor is None or number > cursor.segment:
        return found.records
    return tuple(record for record in found.records if record.sequence > cursor.sequence)


def _unlink_done(directory: Path, numbers: list[int], cursor: Cursor) -> None:
    for number in numbers:
        if number < cursor.segment:
            segment_path(directory, number).unlink(missing_ok=True)


def _examine(directory: Path, number: int, cursor: Cursor | None, record_bytes_max: int) -> _Found:
    path = segment_path(directory, number)
    found = scan(path.read_bytes(), record_bytes_max)
    pending = _pending(found, number, cursor)
    last_sequence = found.records[-1].sequence if found.records else 0
    return _Found(Segment(number, path, found.whole_bytes, len(pending), last_sequence), found)


def _is_unproven(found: list[_Found], cursor: Cursor, is_cursor_damaged: bool) -> bool:  # noqa: FBT001 - one caller
    own = [each for each in found if each.segment.number >= cursor.epoch_segment]
    if own and own[-1].scan.whole_bytes < own[-1].segment.path.stat().st_size and not own[-1].scan.is_torn:
        return True
    return is_cursor_damaged and not any(each.scan.records for each in own)


def _begin_epoch(
    directory: Path, cursor_file: CursorFile, found: list[_Found], saved: Cursor | None, epoch: str
) -> Recovered:
    last = max([each.segment.number for each in found] + ([saved.segment] if saved else [0]))
    first_pending = found[0].segment.number if found else last + 1
    sequence = saved.sequence if saved and saved.segment == first_pending else 0
    cursor = Cursor(1, epoch, last + 1, first_pending, sequence, 0)
    cursor_file.create(cursor)
    if found or saved:
        logger.warning("outbox: the next number cannot be proven; epoch %s begins", epoch)
    active = Segment(last + 1, segment_path(directory, last + 1))
    sealed = tuple(each.segment for each in found)
    return Recovered(cursor, sealed, active, AppendingFile.create(active.path), 1, _damage(found))


def _continue(directory: Path, found: list[_Found], cursor: Cursor, damaged_ranges_count: int) -> Recovered:
    own = [each.segment.last_sequence for each in found if each.segment.number >= cursor.epoch_segment]
    next_sequence = max([*own, cursor.sequence if cursor.segment >= cursor.epoch_segment else 0]) + 1
    segments = [each.segment for each in found]
    sync_directory(directory)
    if found and found[-1].segment.number >= cursor.epoch_segment:
        active = segments.pop()
        file = AppendingFile.reopen(active.path, active.size_bytes)
    else:
        number = max([cursor.segment, cursor.epoch_segment - 1, *[each.number for each in segments]]) + 1
        active = Segment(number, segment_path(directory, number))
        file = AppendingFile.create(active.path)
    return Recovered(cursor, tuple(segments), active, file, next_sequence, damaged_ranges_count)


def _damage(found: list[_Found]) -> int:
    return sum(each.scan.damaged_ranges_count for each in found)
