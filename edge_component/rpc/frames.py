"""HTTP/2's frames (RFC 9113) as far as gRPC uses them: numbers, heads, and the few that a server writes. Pure."""

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
WINDOW_BYTES = 65_535
"""What either side may send before anything was said about it (section 6.9.2)."""
WINDOW_BYTES_MAX = 2**31 - 1
FRAME_BYTES = 16_384
"""The largest payload that either side takes before it says more (section 6.5.2)."""
FRAME_BYTES_MAX = 2**24 - 1
PING_BYTES = 8
STREAMS_MAX = 2**31 - 1
"""The highest number that a stream can have."""
CONNECTION = 0
"""The number that stands for the connection where a stream's would be."""


class Kind(IntEnum):
    """Section 6."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    """Section 6; a bit means different things in different frames."""

    ACK = 0x1
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(IntEnum):
    """Section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


_HEAD = struct.Struct(">HBBBI")
_NUMBER = struct.Struct(">I")
_SETTING = struct.Struct(">HI")


def head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """A frame's first nine bytes."""
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def read_head(buffer: bytearray, at: int) -> tuple[int, int, int, int]:
    """Kind, flags, stream and payload size of the frame that begins there."""
    high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
    return kind, flags, stream & 0x7FFFFFFF, high << 8 | low


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(kind, flags, stream, len(payload)) + payload


def settings(values: dict[int, int]) -> bytes:
    """What a side says of itself."""
    return frame(Kind.SETTINGS, 0, CONNECTION, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The values of a SETTINGS frame; its size is a multiple of six."""
    yield from _SETTING.iter_unpack(payload)


def window_update(stream: int, size: int) -> bytes:
    """The other side may send so much more."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _NUMBER.pack(size))


def reset(stream: int, code: Code) -> bytes:
    """This stream ends here."""
    return frame(Kind.RST_STREAM, 0, stream, _NUMBER.pack(code))


def go_away(last_stream: int, code: Code, reason: str = "") -> bytes:
    """The connection ends; streams after ``last_stream`` were not looked at."""
    return frame(Kind.GOAWAY, 0, CONNECTION, _NUMBER.pack(last_stream) + _NUMBER.pack(code) + reason.encode())


def read_number(payload: bytes) -> int:
    """The 32-bit number that RST_STREAM and WINDOW_UPDATE are."""
    number: int = _NUMBER.unpack(payload)[0]
    return number


def without_padding(flags: int, payload: bytes) -> bytes:
    """A HEADERS frame's block: less its padding and its priority, which is advice.

    Raises:
        ValueError: there is more padding than payload.
    """
    begin, end = 0, len(payload)
    if flags & Flag.PADDED:
        begin, end = 1, end - payload[0] if payload else -1
    if flags & Flag.PRIORITY:
        begin += 5
    if begin > end:
        raise ValueError("more padding than payload")
    return payload[begin:end]
