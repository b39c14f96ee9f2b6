"""A client that may break every rule of HTTP/2: frames written by hand, over any socket. It shares no code with the server."""

import contextlib
import socket
import struct
from typing import NamedTuple

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 1, 3, 5, 6
CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 8, 9, 11
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 4, 5
PATIENCE_S = 20.0


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Answer(NamedTuple):
    """All that came of one stream: its messages, its status, whether it was reset after or instead of that."""

    messages: list[bytes]
    status: int | None
    sentence: str
    reset: int | None


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def setting(key: int, value: int) -> bytes:
    return struct.pack(">HI", key, value)


def message(content: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(content)) + content


def fields(path: str = "/t.T/Echo", **more: str) -> list[tuple[str, str]]:
    """A call's headers."""
    head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    named = {"content_type": "application/grpc", "te": "trailers"} | more
    return head + [(key.replace("_", "-"), value) for key, value in named.items()]


def block(path: str = "/t.T/Echo", **more: str) -> bytes:
    """The same as a header block that leaves the table alone."""
    literal = b""
    for key, value in fields(path, **more):
        literal += b"\x00" + bytes((len(key),)) + key.encode() + bytes((len(value),)) + value.encode()
    return literal


def begin(stream: int, path: str = "/t.T/Echo", **more: str) -> bytes:
    """A call's headers; what it says is still to come."""
    return frame(HEADERS, END_HEADERS, stream, block(path, **more))


def call(stream: int, content: bytes, path: str = "/t.T/Echo", **more: str) -> bytes:
    """A whole call with one message."""
    return begin(stream, path, **more) + frame(DATA, END_STREAM, stream, message(content))


class RawClient:
    """One connection; nothing is sent by itself."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(PATIENCE_S)
        self._decoder = hpack.Decoder()
        self._buffer = b""
        self.seen: list[Frame] = []

    def greet(self, *settings: tuple[int, int]) -> None:
        self.send(PREFACE + frame(SETTINGS, 0, 0, b"".join(setting(*each) for each in settings)))

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def read(self) -> Frame | None:
        """The next frame; ``None`` once the server has hung up."""
        head = self._exactly(9)
        if head is None:
            return None
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        if payload is None:
            return None
        found = Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        self.seen.append(found)
        return found

    def until(self, kind: int, stream: int = 0, flags: int = 0) -> Frame:
        """The next frame of that kind, with at least these flags."""
        while (found := self.read()) is not None:
            if (found.kind, found.stream) == (kind, stream) and found.flags & flags == flags:
                return found
        raise AssertionError(f"the server hung up before a frame of kind {kind}; it sent {self.seen}")

    def gone_away(self) -> int:
        """The code of the GOAWAY that ends the connection."""
        code = int.from_bytes(self.until(GOAWAY).payload[4:8], "big")
        while self.read() is not None:
            pass
        return code

    def is_hung_up_on(self) -> bool:
        """True, once the server has hung up."""
        while self.read() is not None:
            pass
        return True

    def is_alive(self) -> bool:
        """Whether a PING is answered."""
        self.send(frame(PING, 0, 0, b"are you?"))
        return self.until(PING, flags=ACK).payload == b"are you?"

    def answer(self, stream: int, *, gives_room: bool = True) -> Answer:
        """What comes of a call to its end."""
        content, head = b"", dict[str, str]()
        while (found := self.read()) is not None:
            if found.stream != stream:
                continue
            if found.kind == DATA:
                content += found.payload
                if gives_room and found.payload:
                    room = number(len(found.payload))
                    self.send(frame(WINDOW_UPDATE, 0, 0, room) + frame(WINDOW_UPDATE, 0, stream, room))
            elif found.kind == HEADERS:
                head |= {str(key): str(value) for key, value in self._decoder.decode(found.payload)}
            if found.kind == RST_STREAM:
                return self._answer(content, head, int.from_bytes(found.payload, "big"))
            if found.flags & END_STREAM and found.kind in (DATA, HEADERS):
                return self._answer(content, head, None)
        raise AssertionError(f"the server hung up before the end of stream {stream}; it sent {self.seen}")

    def status(self, stream: int) -> int | None:
        return self.answer(stream).status

    def _answer(self, content: bytes, head: dict[str, str], reset: int | None) -> Answer:
        messages = []
        while len(content) >= 5:
            end = 5 + int.from_bytes(content[1:5], "big")
            messages.append(content[5:end])
            content = content[end:]
        status = head.get("grpc-status")
        return Answer(messages, int(status) if status is not None else None, head.get("grpc-message", ""), reset)

    def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                came = self.socket.recv(65_536)
            except ConnectionResetError:
                came = b""
            if not came:
                return None
            self._buffer += came
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()
