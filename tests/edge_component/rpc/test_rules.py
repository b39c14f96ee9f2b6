"""HTTP/2's rules as RFC 9113 has them: what a client sends, and what must come of it."""

import contextlib
import logging
import random
import socket
import struct

import grpc
import hpack
import pytest

from edge_component.rpc.errors import GrpcCode
from edge_component.rpc.flow import Outgoing
from tests.edge_component.rpc.conftest import Open, Served, ask
from tests.edge_component.rpc.raw_client import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PATIENCE_S,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    RawClient,
    block,
    call,
    frame,
    message,
    number,
    setting,
)

BEGUN = frame(HEADERS, END_HEADERS, 1, block())
HALF = block()[: len(block()) // 2]
REST = block()[len(HALF) :]
ENDED = call(1, b"done")

BROKEN: dict[str, tuple[bytes, int]] = {
    "DATA without a stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "DATA on a server's stream": (BEGUN + frame(DATA, 0, 2, b"x"), PROTOCOL_ERROR),
    "DATA with more padding than payload": (BEGUN + frame(DATA, PADDED, 1, b"\x05abc"), PROTOCOL_ERROR),
    "DATA that is padded and has no length of it": (BEGUN + frame(DATA, PADDED, 1), PROTOCOL_ERROR),
    "DATA larger than a frame may be": (
        BEGUN + struct.pack(">I", 1_048_577)[1:] + b"\0\0" + number(1), FRAME_SIZE_ERROR),
    "DATA after the end of a call under way": (
        call(1, b"x", "/t.T/Gate") + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "HEADERS after the end of a call under way": (
        call(1, b"x", "/t.T/Gate") + frame(HEADERS, END_HEADERS | END_STREAM, 1, block()), STREAM_CLOSED),
    "HEADERS in the middle of a call": (BEGUN + frame(HEADERS, END_HEADERS, 1, block()), PROTOCOL_ERROR),
    "HEADERS without a stream": (frame(HEADERS, END_HEADERS, 0, block()), PROTOCOL_ERROR),
    "HEADERS on a server's stream": (frame(HEADERS, END_HEADERS, 2, block()), PROTOCOL_ERROR),
    "HEADERS with more padding than payload": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), PROTOCOL_ERROR),
    "HEADERS that are padded and empty": (frame(HEADERS, END_HEADERS | PADDED, 1), PROTOCOL_ERROR),
    "HEADERS without room for their priority": (frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"abc"), PROTOCOL_ERROR),
    "a block interrupted by another stream": (frame(HEADERS, 0, 1, HALF) + call(3, b"x"), PROTOCOL_ERROR),
    "a block interrupted by a PING": (frame(HEADERS, 0, 1, HALF) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "a block that goes on on another stream": (
        frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, END_HEADERS, 3, REST), PROTOCOL_ERROR),
    "a block that goes on and never began": (frame(CONTINUATION, END_HEADERS, 1, REST), PROTOCOL_ERROR),
    "a block that goes on with nothing": (frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, 0, 1), ENHANCE_YOUR_CALM),
    "a block that goes on for ever": (
        frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, 0, 1, bytes(60_000)) * 5, ENHANCE_YOUR_CALM),
    "a block in one frame that is larger than any may be": (
        frame(HEADERS, END_HEADERS, 1, bytes(262_145))[:9], ENHANCE_YOUR_CALM),
    "more headers than there may be, in few bytes": (
        frame(HEADERS, END_HEADERS, 1, b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 70), ENHANCE_YOUR_CALM),
    "a reference to nothing": (frame(HEADERS, END_HEADERS, 1, b"\xff\x7f"), COMPRESSION_ERROR),
    "a string longer than its block": (frame(HEADERS, END_HEADERS, 1, b"\x00\x7f"), COMPRESSION_ERROR),
    "a table larger than it may be": (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f"), COMPRESSION_ERROR),
    "RST_STREAM without a stream": (frame(RST_STREAM, 0, 0, number(8)), PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, number(8)), PROTOCOL_ERROR),
    "RST_STREAM of another size": (BEGUN + frame(RST_STREAM, 0, 1, b"abc"), FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "SETTINGS of another size": (frame(SETTINGS, 0, 0, b"abcde"), FRAME_SIZE_ERROR),
    "SETTINGS acknowledged with values": (frame(SETTINGS, ACK, 0, setting(4, 1)), FRAME_SIZE_ERROR),
    "a window beyond what there can be": (
        frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 2**31)), FLOW_CONTROL_ERROR),
    "frames smaller than they may be": (frame(SETTINGS, 0, 0, setting(MAX_FRAME_SIZE, 16_383)), PROTOCOL_ERROR),
    "frames larger than they may be": (frame(SETTINGS, 0, 0, setting(MAX_FRAME_SIZE, 2**24)), PROTOCOL_ERROR),
    "a window that grows beyond what there can be by SETTINGS": (
        BEGUN + frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1 - 65_535))
        + frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 65_536)), FLOW_CONTROL_ERROR),
    "a PING on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "a PING of another size": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "a connection's window that grows by nothing": (frame(WINDOW_UPDATE, 0, 0, number(0)), PROTOCOL_ERROR),
    "a stream's window that grows by nothing": (BEGUN + frame(WINDOW_UPDATE, 0, 1, number(0)), PROTOCOL_ERROR),
    "a connection's window that grows too large": (
        frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)), FLOW_CONTROL_ERROR),
    "a stream's window that grows too large": (
        BEGUN + frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1)), FLOW_CONTROL_ERROR),
    "WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, 0, 1, number(1)), PROTOCOL_ERROR),
    "WINDOW_UPDATE of another size": (frame(WINDOW_UPDATE, 0, 0, b"abc"), FRAME_SIZE_ERROR),
    "a client's PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + block()), PROTOCOL_ERROR),
    "a frame of no known kind that is too large": (frame(99, 0, 0, bytes(1_048_577))[:9], FRAME_SIZE_ERROR),
    "SETTINGS that are too large": (frame(SETTINGS, 0, 0, setting(0xF0F0, 7) * 11_000), FRAME_SIZE_ERROR),
}  # fmt: skip

HARMLESS: dict[str, bytes] = {
    "SETTINGS of no known key": frame(SETTINGS, 0, 0, setting(0xF0F0, 7)),
    "SETTINGS acknowledged": frame(SETTINGS, ACK, 0),
    "a PING's answer": frame(PING, ACK, 0, bytes(8)),
    "a frame of no known kind": frame(99, 0xFF, 7, b"whatever"),
    "a frame of no known kind that is as large as it may be": frame(99, 0, 0, bytes(1_048_576)),
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
    "a client's GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
    "RST_STREAM after the answer": ENDED + frame(RST_STREAM, 0, 1, number(8)),
    "WINDOW_UPDATE after the answer": ENDED + frame(WINDOW_UPDATE, 0, 1, number(8)),
    "DATA that was on its way when its stream was refused": (
        frame(HEADERS, END_HEADERS, 1, block("/t.T/Nowhere")) + frame(DATA, END_STREAM, 1, bytes(100))),
    "trailers that were on their way": (
        frame(HEADERS, END_HEADERS, 1, block("/t.T/Nowhere")) + frame(HEADERS, END_HEADERS | END_STREAM, 1, block())),
    "a call that was begun and cancelled": BEGUN + frame(RST_STREAM, 0, 1, number(8)),
    "a window that grows to what there can be": frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)),
}  # fmt: skip

ECHOED: dict[str, tuple[bytes, bytes]] = {
    "in two frames": (ENDED, b"done"),
    "an empty message": (call(1, b""), b""),
    "HEADERS with padding and priority": (
        frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, b"\x03" + bytes(5) + block() + bytes(3))
        + frame(DATA, END_STREAM, 1, message(b"x")), b"x"),
    "DATA with padding": (BEGUN + frame(DATA, END_STREAM | PADDED, 1, b"\x04" + message(b"abc") + bytes(4)), b"abc"),
    "DATA that is all padding": (
        BEGUN + frame(DATA, PADDED, 1, b"\x04" + bytes(4)) + frame(DATA, END_STREAM, 1, message(b"abc")), b"abc"),
    "headers in three pieces": (
        frame(HEADERS, 0, 1, HALF) + frame(CONTINUATION, 0, 1, REST[:3]) + frame(CONTINUATION, END_HEADERS, 1, REST[3:])
        + frame(DATA, END_STREAM, 1, message(b"x")), b"x"),
    "the last piece of headers is empty": (
        frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 1) + frame(DATA, END_STREAM, 1, message(b"x")),
        b"x"),
    "a message in as many frames as bytes": (
        BEGUN + b"".join(frame(DATA, 0, 1, bytes((byte,))) for byte in message(b"piece by piece"))
        + frame(DATA, END_STREAM, 1), b"piece by piece"),
    "trailers": (
        BEGUN + frame(DATA, 0, 1, message(b"x")) + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01a\x01b"), b"x"),
    "empty DATA in between": (BEGUN + frame(DATA, 0, 1) * 3 + frame(DATA, END_STREAM, 1, message(b"x")), b"x"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_client_that_breaks_the_rules_is_told_which(served: Served, broken: tuple[bytes, int]) -> None:
    sent, code = broken
    client = served.client()
    client.send(sent)
    assert int.from_bytes(client.until(GOAWAY).payload[4:8], "big") == code
    served.behind.gate.set()  # where a call was under way
    while client.read() is not None:
        pass
    assert served.client().is_alive(), "others are served on"


@pytest.mark.parametrize("sent", HARMLESS.values(), ids=HARMLESS)
def test_what_is_to_be_passed_over(client: RawClient, sent: bytes) -> None:
    client.send(sent)
    assert client.is_alive()
    client.send(call(9, b"and a call"))
    assert client.answer(9).messages == [b"and a call"]


@pytest.mark.parametrize(("sent", "expected"), ECHOED.values(), ids=ECHOED)
def test_one_call_however_it_is_sent(client: RawClient, sent: bytes, expected: bytes) -> None:
    client.send(sent)
    assert client.answer(1) == ([expected], 0, "", None)
    assert client.is_alive()


@pytest.mark.parametrize("spoken", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01" + bytes(40)])
def test_another_protocol_is_told_what_this_door_speaks(served: Served, spoken: bytes) -> None:
    client = served.connect()
    client.send(spoken)
    assert client.gone_away() == PROTOCOL_ERROR
    assert b"HTTP/2" in client.seen[-1].payload


def test_the_server_speaks_first_and_acknowledges(served: Served) -> None:
    client = served.connect()
    first = client.read()
    assert first is not None
    assert (first.kind, first.flags, first.stream) == (SETTINGS, 0, 0)
    client.send(PREFACE + frame(SETTINGS, 0, 0))
    assert client.until(SETTINGS, flags=ACK).payload == b""


def test_a_ping_comes_back_as_it_was(client: RawClient) -> None:
    client.send(frame(PING, 0, 0, b"12345678"))
    assert client.until(PING, flags=ACK).payload == b"12345678"


def test_a_setting_that_is_said_thousands_of_times_is_done_once(
    client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would go through all open streams; and it is the last that holds."""
    begun: list[int] = []
    monkeypatch.setattr(Outgoing, "begin_with", lambda _, size: begun.append(size))
    sizes = [setting(INITIAL_WINDOW_SIZE, size) for size in range(10_000)]
    client.send(frame(SETTINGS, 0, 0, b"".join(sizes)))
    assert client.is_alive()
    assert begun == [9_999]


def test_headers_may_use_the_table_as_they_like(client: RawClient) -> None:
    encoder = hpack.Encoder()
    for stream in range(1, 41, 2):
        if stream % 7 == 0:
            encoder.header_table_size = 100 * stream
        head = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/t.T/Echo"),
            (b"content-type", b"application/grpc"),
        ]
        head += [(b"x-turn", b"%d" % (stream // 6)), (b"x-same", b"always")]
        content = frame(DATA, END_STREAM, stream, message(b"%d" % stream))
        client.send(frame(HEADERS, END_HEADERS, stream, encoder.encode(head)), content)
        assert client.answer(stream).messages == [b"%d" % stream]


@pytest.mark.parametrize("piece_bytes", [1_000_000, 65_536, 16_384, 100])
@pytest.mark.parametrize("size", [16_500, 70_000, 250_000])
def test_headers_that_are_too_large_cost_their_call_and_no_other(
    client: RawClient, size: int, piece_bytes: int
) -> None:
    """Though later blocks refer to what this one said."""
    client.send(call(1, b"under way", "/t.T/Gate"))
    large = b"\x40\x06x-kept\x04kept" + block() + b"\x00\x07x-token\x7f" + _rest(size) + b"t" * size
    pieces = [large[at : at + piece_bytes] for at in range(0, len(large), piece_bytes)]
    for at, piece in enumerate(pieces):
        flags = END_HEADERS if at == len(pieces) - 1 else 0
        client.send(frame(CONTINUATION if at else HEADERS, flags, 3, piece))
    client.send(frame(DATA, END_STREAM, 3, message(b"x")))
    assert client.status(3) == GrpcCode.RESOURCE_EXHAUSTED
    client.send(frame(HEADERS, END_HEADERS, 5, b"\xbe" + block()) + frame(DATA, END_STREAM, 5, message(b"x")))
    assert client.answer(5).messages == [b"x"]


def _rest(size: int) -> bytes:
    """What follows 0x7F in a string's length (RFC 7541, 5.1)."""
    left, coded = size - 127, b""
    while left >= 128:
        coded, left = coded + bytes((left & 0x7F | 0x80,)), left >> 7
    return coded + bytes((left,))


@pytest.mark.parametrize("size", [9_000, 40_000])
def test_a_call_with_a_large_token_beside_others(served: Served, size: int) -> None:
    """As grpcio sends it; of what is too large it may say so itself, by what it was told."""
    channel = served.channel()
    stream = channel.stream_stream("/t.T/Chat")(iter(lambda: b"x", None), timeout=PATIENCE_S)
    assert next(stream) == b"x"
    asked = channel.unary_unary("/t.T/Echo").future(b"x", metadata=(("authorization", "t" * size),), timeout=PATIENCE_S)
    assert asked.code() is (grpc.StatusCode.OK if size < 16_384 else grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert ask(channel, "Echo", b"the next") == b"the next"
    assert next(stream) == b"x"
    stream.cancel()


@pytest.mark.parametrize("seed", range(8))
def test_a_client_that_garbles_what_it_sends_is_never_a_defect_of_ours(
    open_server: Open, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Valid calls of all kinds, with some bytes changed, left out or doubled, from the preface on."""
    served = open_server(request_s_max=0.2)
    served.behind.gate.set()
    chance = random.Random(seed)
    valid = [*HARMLESS.values(), *(sent for sent, _ in ECHOED.values()), *(sent for sent, _ in BROKEN.values())]
    for _ in range(40):
        sent = bytearray(PREFACE + frame(SETTINGS, 0, 0) + b"".join(chance.sample(valid, 3)))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(24 if chance.random() < 0.9 else 0, len(sent))
            begin, end = chance.choice([(at, at + 1), (at, at + chance.randrange(20)), (at, at)])
            sent[begin:end] = chance.choice([b"", chance.randbytes(chance.randrange(1, 9)), bytes(sent[begin:end]) * 2])
        client = served.connect()
        with contextlib.suppress(ConnectionError):
            client.send(bytes(sent))
            client.socket.shutdown(socket.SHUT_WR)
        while client.read() is not None:
            pass
        client.close()
    assert served.client().is_alive()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
