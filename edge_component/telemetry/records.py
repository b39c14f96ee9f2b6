"""Records in a segment file: how one is framed, and how whole ones are found again among damaged bytes.

The failure this exists for: one bad byte that costs a whole buffer file, or a length field that sends the reader to the
end of the world (OpenTelemetry's file storage did not start after corruption, #35899). A record is framed as::

    magic "EWR1" | u32 payload length | u64 sequence | u32 CRC-32 of length, sequence and payload | payload

all big-endian. Where a frame does not hold, the scan looks for the next magic, so damage costs the records it touches.
A magic inside a damaged record's payload cannot pass for a record: the checksum would have to fit as well.

Pure functions over bytes; no file is opened here (``segment_log`` does). Not a cipher: a checksum finds accidents only.
"""

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"EWR1"
_HEADER = struct.Struct(">4sIQI")
_CHECKED = struct.Struct(">IQ")
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True)
class Record:
    """One framed payload and its number."""

    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment file holds.

    Attributes:
        records: the whole ones, in the order of the file.
        damaged_ranges_count: stretches of bytes between or after records that hold none.
        whole_bytes: where the last whole record ends; what follows is torn or damaged.
        is_torn: the bytes after ``whole_bytes`` are the beginning of a record whose rest was never written: an append
            that nobody was told of. Any other tail is damage, and may have been a record that was acknowledged.
    """

    records: tuple[Record, ...]
    damaged_ranges_count: int
    whole_bytes: int
    is_torn: bool


def frame(record: Record) -> bytes:
    """The bytes of one record."""
    header = _HEADER.pack(MAGIC, len(record.payload), record.sequence, _checksum(record.sequence, record.payload))
    return header + record.payload


def scan(content: bytes, payload_bytes_max: int) -> Scan:
    """Find every whole record; never raises, whatever the bytes.

    A length above ``payload_bytes_max`` is damage. Linear but for damage, where each magic costs one checksum of at
    most that many bytes.
    """
    records: list[Record] = []
    damaged_ranges_count = offset = whole_bytes = 0
    while offset < len(content):
        record = _record_at(content, offset, payload_bytes_max)
        if record is None:
            found = content.find(MAGIC, offset + 1)
            offset = len(content) if found < 0 else found
            continue
        damaged_ranges_count += offset > whole_bytes
        records.append(record)
        offset = whole_bytes = offset + HEADER_BYTES + len(record.payload)
    is_torn = _is_torn(content[whole_bytes:], payload_bytes_max)
    damaged_ranges_count += whole_bytes < len(content) and not is_torn
    return Scan(tuple(records), damaged_ranges_count, whole_bytes, is_torn)


def _record_at(content: bytes, offset: int, payload_bytes_max: int) -> Record | None:
    if offset + HEADER_BYTES > len(content):
        return None
    magic, length, sequence, checksum = _HEADER.unpack_from(content, offset)
    end = offset + HEADER_BYTES + length
    if magic != MAGIC or length > payload_bytes_max or end > len(content):
        return None
    payload = content[offset + HEADER_BYTES : end]
    return Record(sequence, payload) if _checksum(sequence, payload) == checksum else None


def _is_torn(tail: bytes, payload_bytes_max: int) -> bool:
    if not tail or len(tail) < HEADER_BYTES:
        return bool(tail) and tail.startswith(MAGIC[: len(tail)])
    magic, length, _, _ = _HEADER.unpack_from(tail)
    return bool(magic == MAGIC and len(tail) < HEADER_BYTES + length <= HEADER_BYTES + payload_bytes_max)


def _checksum(sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(len(payload), sequence)))
