"""AWS event-stream frames: bytes to messages and back, without any I/O.

The failure it exists for: awscrt has only the client's half of Greengrass IPC, so a nucleus in Python needs the framing
itself, and a damaged or oversize frame must end in one typed error, never in a hang or in a huge allocation.

It is not the connection (``ipc_server.py``) and knows no operation. Pure functions: safe from any thread.

Frame, big-endian: total length u32, headers length u32, CRC-32 of those 8 bytes, headers, payload, CRC-32 of everything
before it. Source: aws-c-event-stream's wire format, checked against awscrt 0.36.1.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from simulator.nucleus.errors import FrameError

PRELUDE_BYTES = 12
OVERHEAD_BYTES = 16
"""Prelude and the closing checksum: the size of an empty frame."""

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""aws-c-event-stream refuses larger frames."""


class MessageType(IntEnum):
    """``:message-type``."""

    APPLICATION_MESSAGE = 0
    APPLICATION_ERROR = 1
    PING = 2
    PING_RESPONSE = 3
    CONNECT = 4
    CONNECT_ACK = 5
    PROTOCOL_ERROR = 6
    INTERNAL_ERROR = 7


class Flags(IntFlag):
    """``:message-flags``."""

    NONE = 0
    CONNECTION_ACCEPTED = 1
    TERMINATE_STREAM = 2


HeaderValue = bool | int | str | bytes

_TRUE, _FALSE, _BYTE, _INT16, _INT32, _INT64, _BYTES, _STRING, _TIMESTAMP, _UUID = range(10)
_INTEGERS = {_BYTE: ">b", _INT16: ">h", _INT32: ">i", _INT64: ">q", _TIMESTAMP: ">q"}


@dataclass(frozen=True, slots=True)
class Message:
    """One frame's content.

    Attributes:
        headers: by name, in order. An integer is written as int32 (all that RPC uses); every integer type is read.
        payload: as it stands; RPC puts JSON there.
    """

    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    payload: bytes = b""

    @property
    def type(self) -> MessageType:
        """``:message-type``.

        Raises:
            FrameError: absent, or not one of the eight.
        """
        try:
            return MessageType(self._integer(":message-type"))
        except ValueError as error:
            raise FrameError(f"unknown :message-type {self.headers[':message-type']!r}") from error

    @property
    def flags(self) -> Flags:
        """``:message-flags``; absent means none."""
        return Flags(self._integer(":message-flags") & 3) if ":message-flags" in self.headers else Flags.NONE

    @property
    def stream_id(self) -> int:
        """``:stream-id``; 0 is the connection itself.

        Raises:
            FrameError: absent or not an integer.
        """
        return self._integer(":stream-id")

    def text(self, name: str) -> str:
        """A string header; empty if absent or of another type."""
        value = self.headers.get(name, "")
        return value if isinstance(value, str) else ""

    def _integer(self, name: str) -> int:
        value = self.headers.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise FrameError(f"header {name} is not an integer")
        return value


def encode(message: Message) -> bytes:
    """A whole frame; ``decode(encode(m)) == m`` for integers that fit 32 bits.

    Raises:
        FrameError: a header's name, text or integer does not fit the format.
    """
    headers = b"".join(_encode_header(name, value) for name, value in message.headers.items())
    total = OVERHEAD_BYTES + len(headers) + len(message.payload)
    lengths = struct.pack(">II", total, len(headers))
    body = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + message.payload
    return body + struct.pack(">I", zlib.crc32(body))


def frame_length(prelude: bytes, limit_bytes: int = FRAME_BYTES_MAX) -> int:
    """How many bytes the frame has in all, from its first 12.

    Raises:
        FrameError: damaged, inconsistent, or longer than ``limit_bytes``; nothing further may be read.
    """
    total, headers_length, checksum = struct.unpack(">III", prelude)
    if zlib.crc32(prelude[:8]) != checksum:
        raise FrameError("the prelude's checksum does not match")
    if total < OVERHEAD_BYTES or headers_length > total - OVERHEAD_BYTES:
        raise FrameError(f"impossible lengths: {headers_length} of {total} bytes are headers")
    if total > limit_bytes:
        raise FrameError(f"a frame of {total} bytes; at most {limit_bytes} are allowed")
    return int(total)


def decode(frame: bytes, limit_bytes: int = FRAME_BYTES_MAX) -> Message:
    """The inverse of :func:`encode`.

    Raises:
        FrameError: anything but one whole, undamaged frame.
    """
    if len(frame) < OVERHEAD_BYTES or frame_length(frame[:PRELUDE_BYTES], limit_bytes) != len(frame):
        raise FrameError(f"{len(frame)} bytes are not one whole frame")
    if zlib.crc32(frame[:-4]) != struct.unpack(">I", frame[-4:])[0]:
        raise FrameError("the frame's checksum does not match")
    headers_end = PRELUDE_BYTES + struct.unpack(">I", frame[4:8])[0]
    return Message(_decode_headers(frame[PRELUDE_BYTES:headers_end]), frame[headers_end:-4])


def _encode_header(name: str, value: HeaderValue) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) < 256:
        raise FrameError(f"a header's name has 1 to 255 bytes, not {len(encoded)}")
    return bytes([len(encoded)]) + encoded + _encode_value(name, value)


def _encode_value(name: str, value: HeaderValue) -> bytes:
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int):
        try:
            return bytes([_INT32]) + struct.pack(">i", value)
        except struct.error as error:
            raise FrameError(f"header {name}: {value} does not fit 32 bits") from error
    kind, data = (_STRING, value.encode()) if isinstance(value, str) else (_BYTES, value)
    if len(data) > 0x7FFF:
        raise FrameError(f"header {name}: {len(data)} bytes; at most 32767 fit")
    return bytes([kind]) + struct.pack(">H", len(data)) + data


def _decode_headers(data: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(data):
            length = data[at]
            name = _slice(data, at + 1, length).decode()
            value, at = _decode_value(data, at + 1 + length)
            headers[name] = value
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise FrameError("a header ends in mid-air or is not UTF-8") from error
    return headers


def _decode_value(data: bytes, at: int) -> tuple[HeaderValue, int]:
    kind = data[at]
    at += 1
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if kind in _INTEGERS:
        size = struct.calcsize(_INTEGERS[kind])
        return struct.unpack(_INTEGERS[kind], _slice(data, at, size))[0], at + size
    if kind == _UUID:
        return _slice(data, at, 16), at + 16
    if kind not in {_BYTES, _STRING}:
        raise FrameError(f"unknown header type {kind}")
    length = struct.unpack(">H", _slice(data, at, 2))[0]
    raw = _slice(data, at + 2, length)
    return raw.decode() if kind == _STRING else raw, at + 2 + length


def _slice(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise IndexError(at)
    return data[at : at + length]
