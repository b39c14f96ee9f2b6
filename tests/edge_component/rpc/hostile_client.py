"""What a client may send that knows HTTP/2 and means no good: valid calls of all kinds, in any order, and now and then a wrong one.

Seeded, so that what went wrong goes wrong again. A tame one keeps the rules, though hardly any client would do as it does.
"""

import gzip
import random
from dataclasses import dataclass, field

from tests.edge_component.rpc.raw_client import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    message,
    number,
    setting,
)

METHODS = ("Echo", "Echo", "Large", "Chat", "Flood", "Gate", "Refuse", "TimeLeft", "Stall", "Nowhere")
WINDOWS = (0, 1, 100, 65_535, 1_000_000, 2**31 - 10_000_000)
UNASKED_BYTES = 131_072
PIECE_BYTES = 16_000
UNKNOWN = 99


@dataclass
class Open:
    """A call that was begun."""

    method: str
    is_packed: bool
    room_bytes: int = UNASKED_BYTES


@dataclass
class Hostile:
    """One client's frames, one after the other."""

    chance: random.Random
    is_tame: bool
    newest: int = -1
    calls: dict[int, Open] = field(default_factory=dict)

    def frames(self) -> bytes:
        """The next thing it does."""
        if not self.calls or self.chance.random() < 0.3:
            return self.begin()
        act = self.chance.choices(
            (self.message, self.end, self.cancel, self.settings, self.room, self.talk, self.wrong),
            (30, 8, 6, 8, 10, 8, 3),
        )[0]
        return act(self.chance.choice(list(self.calls)))

    def begin(self) -> bytes:
        self.newest += self.chance.choice((2, 2, 2, 6))
        more = {}
        if self.chance.random() < 0.3:
            more["grpc_timeout"] = self.chance.choice(("0", "1", "50", "99999999")) + self.chance.choice("HMSmun")
        is_packed = self.chance.random() < 0.15
        if is_packed:
            more["grpc_encoding"] = "gzip"
        method = self.chance.choice(METHODS)
        self.calls[self.newest] = Open(method, is_packed)
        headers = block(f"/t.T/{method}", **more)
        if self.chance.random() < 0.03:
            headers += b"\0\x01t\x7f\x81\xea\x01" + bytes(30_000)  # more than a call may have
        return self.pieces_of(headers)

    def pieces_of(self, headers: bytes) -> bytes:
        """In one frame, with padding and priority perhaps, or in several."""
        if self.chance.random() < 0.2:
            padding = self.chance.randrange(20)
            payload = bytes((padding,)) + bytes(5) + headers + bytes(padding)
            return frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, self.newest, payload)
        at = self.chance.choice((len(headers), self.chance.randrange(1, len(headers))))
        first, rest = headers[:at], headers[at:]
        if not rest:
            return frame(HEADERS, END_HEADERS, self.newest, first)
        return frame(HEADERS, 0, self.newest, first) + frame(CONTINUATION, END_HEADERS, self.newest, rest)

    def message(self, stream: int) -> bytes:
        call = self.calls[stream]
        content = bytes(self.chance.choice((0, 1, 100, 16_000, 60_000)))
        if call.method == "Large":
            content = self.chance.choice((b"0", b"5", b"3000", b"70000", b"900000"))
        whole = message(content)
        if call.is_packed:
            whole = message(gzip.compress(bytes(self.chance.choice((10, 3_900_000, 5_000_000)))), 1)
        if self.chance.random() < 0.1:
            whole = self.chance.choice(
                (whole[: self.chance.randrange(len(whole))], b"\0" + number(3_900_000), b"\0\xff\xff\xff\xff")
            )
        sent = b"".join(
            self.data(stream, call, whole[at : at + PIECE_BYTES]) for at in range(0, len(whole), PIECE_BYTES)
        )
        return sent + self.end(stream) if self.chance.random() < 0.7 else sent

    def data(self, stream: int, call: Open, content: bytes) -> bytes:
        """One frame; a tame client sends none that it has no room for, and half a message then."""
        if self.chance.random() < 0.1:
            padding = self.chance.randrange(256)
            flags, payload = PADDED, bytes((padding,)) + content + bytes(padding)
        else:
            flags, payload = 0, content
        if self.is_tame and len(payload) > call.room_bytes:
            return b""
        call.room_bytes -= len(payload)
        return frame(DATA, flags, stream, payload)

    def end(self, stream: int) -> bytes:
        del self.calls[stream]
        trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\0\x01a\x01b")
        return self.chance.choice((frame(DATA, END_STREAM, stream), trailers))

    def cancel(self, stream: int) -> bytes:
        del self.calls[stream]
        return frame(RST_STREAM, 0, stream, number(self.chance.choice((0, 2, 8))))

    def settings(self, _: int) -> bytes:
        """Windows below nothing among them."""
        window = setting(INITIAL_WINDOW_SIZE, self.chance.choice(WINDOWS))
        return frame(SETTINGS, 0, 0, window + setting(MAX_FRAME_SIZE, self.chance.choice((16_384, 2**24 - 1))))

    def room(self, stream: int) -> bytes:
        return frame(
            WINDOW_UPDATE, 0, self.chance.choice((0, stream)), number(self.chance.choice((1, 10, 65_535, 1_000_000)))
        )

    def talk(self, stream: int) -> bytes:
        """What asks for nothing."""
        return self.chance.choice((
            frame(PING, 0, 0, b"12345678"), frame(PING, 1, 0, b"12345678"), frame(PRIORITY, 0, stream, bytes(5)),
            frame(UNKNOWN, 0xFF, stream, bytes(3_000)), frame(GOAWAY, 0, 0, bytes(8) + b"bye"),
        ))  # fmt: skip

    def wrong(self, stream: int) -> bytes:
        """Against the rules."""
        if self.is_tame:
            return b""
        return self.chance.choice((
            frame(HEADERS, END_HEADERS, stream, block()), frame(CONTINUATION, END_HEADERS, stream, b"x"),
            frame(WINDOW_UPDATE, 0, stream, number(2**31 - 1)), frame(SETTINGS, 0, 0, b"x"),
            frame(HEADERS, END_HEADERS, self.newest + 2, self.chance.randbytes(20)), self.chance.randbytes(30),
            frame(RST_STREAM, 0, self.newest + 10, number(8)), frame(DATA, PADDED, stream, b"\xff"),
            frame(DATA, 0, stream, bytes(60_000)) * 5,
        ))  # fmt: skip
