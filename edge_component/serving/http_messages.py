"""HTTP/1.1 messages: what a request's head says, and the bytes of an answer. Pure; http_connection.py reads and writes.

The failure this exists for: two readings of one message. What is ambiguous is refused, never guessed: folded headers, two
lengths, a length that is no number, white space before a colon, half a line's end, any transfer coding. Source: RFC 9112.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview
HEADERS_MAX = 64
HEAD_END = b"\r\n\r\n"
ONCE = frozenset((
    b"content-length", b"host", b"transfer-encoding", b"content-encoding", b"authorization", b"inference-header-content-length",
))  # fmt: skip
"""Headers that change how a request is read, or whether."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS_MAX = 18


class HttpError(Exception):
    """A request that is answered with an error by the transport itself; the connection ends with it."""

    def __init__(self, status: int, message: str, headers: bytes = b"") -> None:
        """An HTTP status, a sentence, and whole header lines that the answer carries beside."""
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head. ``headers``: names in lower case."""

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    content_bytes: int
    keep_alive: bool

    def number(self, name: bytes, default: int) -> int:
        """A header that holds a number.

        Raises:
            HttpError: it holds none.
        """
        value = self.headers.get(name)
        return default if value is None else _number(name, value)


NO_HEAD = Head("", "", {}, 0, keep_alive=False)


class Reply(NamedTuple):
    """An answer: its body may be in pieces, which are sent as they lie in memory."""

    status: int
    body: Sequence[Buffer]
    content_type: bytes = b"application/json"
    headers: bytes = b""

    def parts(self, *, keep_alive: bool) -> list[Buffer]:
        """The bytes, head first."""
        size = sum(map(len, self.body))
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
            _STATUS_LINES[self.status],
            self.content_type,
            size,
            self.headers,
            b"" if keep_alive else b"Connection: close\r\n",
        )
        return [head, *self.body]


_STATUS_LINES = {status.value: b"%d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus}


def read_head(data: bytes) -> Head:
    """The head, without the empty line that ends it.

    Raises:
        HttpError: not one that this server reads.
    """
    first, *lines = data.split(b"\r\n")
    if len(lines) > HEADERS_MAX:
        raise HttpError(431, f"more than {HEADERS_MAX} headers")
    if data.count(b"\n") != len(lines) or data.count(b"\r") != len(lines) or b"\0" in data:
        raise HttpError(400, "a line ends with CR and LF, and neither of them nor NUL is in it")
    method, target, version = _request_line(first)
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or _NAME.fullmatch(name) is None:
            raise HttpError(400, "a header line is not name: value")
        if name in headers and name in ONCE:
            raise HttpError(400, f"the header {name.decode('latin-1')} is there twice")
        headers[name] = value.strip(b" \t")
    if b"transfer-encoding" in headers:
        raise HttpError(411, "a body is taken with Content-Length only, in no transfer coding")
    length = headers.get(b"content-length")
    connection = headers.get(b"connection", b"").lower()
    keep_alive = b"close" not in connection and (version == b"HTTP/1.1" or b"keep-alive" in connection)
    return Head(method, target, headers, 0 if length is None else _number(b"content-length", length), keep_alive)


def without_sent(parts: Sequence[Buffer], sent_bytes: int) -> list[memoryview]:
    """What is left of the parts when so many bytes have gone."""
    left: list[memoryview] = []
    for part in parts:
        if sent_bytes < len(part):
            left.append(memoryview(part)[sent_bytes:])
        sent_bytes = max(sent_bytes - len(part), 0)
    return left


def _request_line(line: bytes) -> tuple[str, str, bytes]:
    words = line.split(b" ")
    if len(words) != 3 or not words[0].isalpha() or not words[1].startswith(b"/"):
        raise HttpError(400, "the first line is no HTTP request")
    if words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise HttpError(505, "HTTP/1.1 is spoken here")
    if any(byte <= 0x20 or byte >= 0x7F for byte in words[1]):
        raise HttpError(400, "the request's target holds characters that must be percent-encoded")
    return words[0].decode(), words[1].decode(), words[2]


def _number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > _DIGITS_MAX:
        raise HttpError(400, f"the header {name.decode('latin-1')} must be a number")
    return int(value)
