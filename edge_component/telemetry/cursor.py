"""The cursor: how far the segment log has been read, in a file that can be rewritten on a full disk.

The failure this exists for: a buffer that deletes a segment before the fact that it was read is durable, and finds after
a power cut a cursor that points at nothing (Vector #25570: a crash loop). And its twin: a full disk on which nothing
may be deleted, since the new cursor file has no room. So the cursor is two slots in one preallocated file, written in
turn, in place, each with its own checksum: one ``pwrite`` and one ``fdatasync``, no new block, and a torn write leaves
the other slot.

Not the log itself (``segment_log``). One writer; not thread-safe, its owner's lock guards it. ``OSError`` passes through.
"""

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from edge_component.durable import replace_file

SLOT_BYTES = 4096
"""A slot per page and per any disk's sector, so that one torn write cannot reach both."""
_SLOT = struct.Struct(">8sQ32sQQQQ")
_MAGIC = b"EWCURS01"


@dataclass(frozen=True, slots=True)
class Cursor:
    """What is known durably of the log beside its records.

    Attributes:
        generation: grows by one with each save; the higher valid slot counts.
        epoch: 32 characters; the life of this log.
        epoch_segment: number of the first segment of this epoch; records in lower ones were numbered in another.
        segment, sequence: everything in lower segments, and in this one up to and including ``sequence``, is done with.
        dropped_count: records given up since the epoch began.
    """

    generation: int
    epoch: str
    epoch_segment: int
    segment: int
    sequence: int
    dropped_count: int

    def to_slot(self) -> bytes:
        """Encode, with a checksum."""
        body = _SLOT.pack(
            _MAGIC,
            self.generation,
            self.epoch.encode().ljust(32, b"\0"),
            self.epoch_segment,
            self.segment,
            self.sequence,
            self.dropped_count,
        )
        return body + struct.pack(">I", zlib.crc32(body))

    @classmethod
    def from_slot(cls, slot: bytes) -> Self | None:
        """Decode; ``None`` for a slot that was never written, or is torn or damaged."""
        body, checksum = slot[: _SLOT.size], slot[_SLOT.size : _SLOT.size + 4]
        if len(checksum) < 4 or struct.pack(">I", zlib.crc32(body)) != checksum or not body.startswith(_MAGIC):
            return None
        _, generation, epoch, *numbers = _SLOT.unpack(body)
        return cls(generation, epoch.rstrip(b"\0").decode(), *numbers)


class CursorFile:
    """The two slots on disk."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened before :meth:`load` or :meth:`create`."""
        self._path = path
        self._descriptor = -1
        self.saved: Cursor | None = None
        self.is_damaged = False
        """A slot holds bytes that are no cursor: torn by a power cut, or rotten since."""

    def load(self) -> Cursor | None:
        """The newer valid slot; ``None`` if the file is absent or holds none."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        slots = [content[start : start + SLOT_BYTES] for start in (0, SLOT_BYTES)]
        valid = [cursor for slot in slots if (cursor := Cursor.from_slot(slot)) is not None]
        self.is_damaged = len(valid) < sum(any(slot) for slot in slots) or not valid
        self.saved = max(valid, key=lambda slot: slot.generation) if valid else None
        if self.saved is not None:
            self._open()
        return self.saved

    def create(self, cursor: Cursor) -> None:
        """Write a new file in the place of whatever was there, durably."""
        self.close()
        content = cursor.to_slot().ljust(SLOT_BYTES, b"\0") + bytes(SLOT_BYTES)
        replace_file(self._path, content)
        self.saved = cursor
        self._open()

    def save(self, cursor: Cursor) -> Cursor:
        """Make a cursor durable in the slot that does not hold the current one; returns it with its generation."""
        generation = self.saved.generation + 1 if self.saved else 1
        numbered = replace(cursor, generation=generation)
        offset = SLOT_BYTES * ((generation - 1) % 2)
        os.pwrite(self._descriptor, numbered.to_slot(), offset)
        os.fdatasync(self._descriptor)
        self.saved = numbered
        return numbered

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
