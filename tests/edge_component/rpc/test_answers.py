"""How calls end, and how answers leave: as the client has room, to their end or not at all."""

import gzip
import zlib
from urllib.parse import unquote

import pytest

from edge_component.rpc.errors import GrpcCode
from tests.edge_component.rpc.conftest import Open, Served, pattern, until
from tests.edge_component.rpc.raw_client import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawClient,
    begin,
    block,
    call,
    frame,
    message,
    number,
    setting,
)

WINDOW = 65_535


def data_bytes(client: RawClient, *streams: int) -> int:
    """What has come in DATA frames."""
    return sum(
        len(each.payload) for each in client.seen if each.kind == DATA and each.stream in (streams or (each.stream,))
    )


ENDED: dict[str, tuple[bytes, GrpcCode]] = {
    "a method that is not there": (call(1, b"x", "/t.T/Nowhere"), GrpcCode.UNIMPLEMENTED),
    "a compression that is not taken": (call(1, b"x", grpc_encoding="snappy"), GrpcCode.UNIMPLEMENTED),
    "no message": (frame(HEADERS, END_HEADERS | END_STREAM, 1, block()), GrpcCode.INTERNAL),
    "two messages": (begin(1) + frame(DATA, END_STREAM, 1, message(b"a") + message(b"b")), GrpcCode.INTERNAL),
    "half a message": (begin(1) + frame(DATA, END_STREAM, 1, message(b"half of it")[:9]), GrpcCode.INTERNAL),
    "half a prefix": (begin(1) + frame(DATA, END_STREAM, 1, b"\0\0"), GrpcCode.INTERNAL),
    "one and a half": (begin(1) + frame(DATA, END_STREAM, 1, message(b"a") + b"\0"), GrpcCode.INTERNAL),
    "half a message on a stream": (
        begin(1, "/t.T/Chat") + frame(DATA, END_STREAM, 1, message(b"half")[:7]), GrpcCode.INTERNAL),
    "a message that says it is larger than it may be": (
        begin(1) + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"), GrpcCode.RESOURCE_EXHAUSTED),
    "the same on a stream": (
        begin(1, "/t.T/Chat") + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"), GrpcCode.RESOURCE_EXHAUSTED),
    "a compressed one without an encoding": (
        begin(1) + frame(DATA, END_STREAM, 1, message(b"x", 1)), GrpcCode.INTERNAL),
    "one that unpacks to more than it may": (
        begin(1, grpc_encoding="gzip") + frame(DATA, END_STREAM, 1, message(gzip.compress(bytes(9_000_000)), 1)),
        GrpcCode.RESOURCE_EXHAUSTED),
    "one that cannot be unpacked": (
        begin(1, grpc_encoding="gzip") + frame(DATA, END_STREAM, 1, message(b"no gzip", 1)), GrpcCode.INTERNAL),
    "a service's refusal": (call(1, b"x", "/t.T/Refuse"), GrpcCode.NOT_FOUND),
    "a service's defect": (call(1, b"x", "/t.T/Defect"), GrpcCode.INTERNAL),
    "a stream's defect that looks like the connection's": (
        begin(1, "/t.T/NoFile") + frame(DATA, 0, 1, message(b"x")), GrpcCode.INTERNAL),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status"), ENDED.values(), ids=ENDED)
def test_a_call_that_cannot_be_answered_ends_in_a_status(client: RawClient, sent: bytes, status: GrpcCode) -> None:
    client.send(sent)
    assert client.status(1) == status
    client.send(call(3, b"the next"))
    assert client.answer(3).messages == [b"the next"]


def test_a_sentence_travels_whatever_is_in_it(client: RawClient) -> None:
    client.send(call(1, b"x", "/t.T/Refuse"))
    assert unquote(client.answer(1).sentence) == "100 % ärgerlich\n"


def test_a_request_that_is_no_call_of_grpc_is_refused(client: RawClient) -> None:
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(content_type="text/html")))
    assert client.answer(1).status is None
    assert b"415" in client.seen[-1].payload
    client.send(begin(3, content_type="text/html"))
    client.until(HEADERS, 3, END_STREAM)
    client.until(RST_STREAM, 3)  # for what it would still send
    assert client.is_alive()


@pytest.mark.parametrize(
    ("encoding", "packed"), [("gzip", gzip.compress(b"packed")), ("deflate", zlib.compress(b"packed"))]
)
def test_a_compressed_message_is_unpacked(client: RawClient, encoding: str, packed: bytes) -> None:
    client.send(begin(1, grpc_encoding=encoding) + frame(DATA, END_STREAM, 1, message(packed, 1)))
    assert client.answer(1).messages == [b"packed"]


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9, 10, 14, 50, 1_000])
def test_a_call_is_the_same_in_pieces_of_any_size(client: RawClient, size: int) -> None:
    content = pattern(20_000)
    sent = begin(1, "/t.T/TimeLeft") + frame(DATA, 0, 1, message(content)[:10_000])
    sent += frame(DATA, END_STREAM, 1, message(content)[10_000:])
    for at in range(0, len(sent), size):
        client.send(sent[at : at + size])
    assert client.answer(1).messages == [content]


@pytest.mark.parametrize("size", [0, 1, WINDOW - 5, WINDOW - 4, WINDOW, 16_384, 16_379, 16_380, 200_000, 3_000_000])
def test_an_answer_of_any_size_arrives(client: RawClient, size: int) -> None:
    client.send(call(1, b"%d" % size, "/t.T/Large"))
    assert client.answer(1).messages == [pattern(size)]


def test_no_more_is_sent_than_there_is_room_for(served: Served) -> None:
    client = served.client((INITIAL_WINDOW_SIZE, 1))
    client.send(call(1, b"20", "/t.T/Large"))
    client.until(HEADERS, 1)
    content = b""
    for _ in range(25):
        data = client.until(DATA, 1).payload
        assert len(data) == 1
        content += data
        client.send(frame(WINDOW_UPDATE, 0, 1, number(1)))
    assert content == message(pattern(20))
    assert client.until(HEADERS, 1, END_STREAM)


def test_frames_are_as_large_as_the_client_allows(served: Served) -> None:
    room = (INITIAL_WINDOW_SIZE, 2_000_000)
    for frame_bytes in (16_384, 100_000, 2**24 - 1):
        client = served.client(room, (MAX_FRAME_SIZE, frame_bytes))
        client.send(frame(WINDOW_UPDATE, 0, 0, number(2_000_000)), call(1, b"1000000", "/t.T/Large"))
        assert client.answer(1, gives_room=False).messages == [pattern(1_000_000)]
        sizes = [len(found.payload) for found in client.seen if found.kind == DATA]
        assert max(sizes) == min(frame_bytes, 1_000_005)


def test_a_window_made_smaller_than_what_is_on_its_way_counts_below_zero(served: Served) -> None:
    client = served.client((INITIAL_WINDOW_SIZE, 1_000))
    client.send(call(1, b"3000", "/t.T/Large"))
    got = 0
    while got < 1_000:
        got += len(client.until(DATA, 1).payload)
    client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 400)))  # 600 below nothing
    client.send(frame(WINDOW_UPDATE, 0, 1, number(600)))
    assert client.is_alive()
    assert data_bytes(client) == 1_000
    client.send(frame(WINDOW_UPDATE, 0, 1, number(5)))
    assert len(client.until(DATA, 1).payload) == 5
    client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 100_000)))
    client.until(HEADERS, 1, END_STREAM)
    assert data_bytes(client) == 3_005


def test_the_connections_room_is_shared_by_its_calls(client: RawClient) -> None:
    client.send(call(1, b"60000", "/t.T/Large") + call(3, b"60000", "/t.T/Large"))
    while data_bytes(client) < WINDOW:
        assert client.read() is not None
    assert client.is_alive()
    assert data_bytes(client) == WINDOW
    client.send(frame(WINDOW_UPDATE, 0, 0, number(200_000)))
    for stream in (1, 3):
        while not any(each[:3] == (HEADERS, END_HEADERS | END_STREAM, stream) for each in client.seen):
            assert client.read() is not None
    assert data_bytes(client) == 2 * 60_005


def test_a_client_that_never_has_room_costs_its_call_after_a_while(open_server: Open) -> None:
    served = open_server(request_s_max=0.5)
    client = served.client((INITIAL_WINDOW_SIZE, 10))
    client.send(begin(1, "/t.T/Chat"))  # so the next one is answered by another thread than the one that reads
    client.send(call(3, b"30", "/t.T/Large"))
    assert int.from_bytes(client.until(RST_STREAM, 3).payload, "big") == CANCEL
    assert client.is_alive()
    until(lambda: served.behind.sent_count == 1)  # its end is told to the service all the same, after its client


def test_a_client_that_never_has_room_and_says_nothing_is_left(open_server: Open) -> None:
    client = open_server(request_s_max=0.5).client((INITIAL_WINDOW_SIZE, 10))
    client.send(call(1, b"30", "/t.T/Large"))
    while client.read() is not None:
        pass
    assert data_bytes(client) == 10


def test_a_call_cancelled_in_the_middle_of_its_answer_ends_there(client: RawClient) -> None:
    client.send(call(1, b"1000000", "/t.T/Large"))
    client.until(DATA, 1)
    client.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    client.send(frame(WINDOW_UPDATE, 0, 0, number(500_000)))
    client.send(call(3, b"1000", "/t.T/Large"))
    assert client.answer(3).messages == [pattern(1_000)]
    assert data_bytes(client, 1) <= WINDOW


def test_a_deadline_is_told_and_never_reads_as_none(served: Served) -> None:
    client = served.client()
    timeouts = {1: {}, 3: {"grpc_timeout": "10S"}, 5: {"grpc_timeout": "0n"}, 7: {"grpc_timeout": "soon"}}
    for stream, timeout in timeouts.items():  # one by one: together they are answered in any order
        client.send(call(stream, b"x", "/t.T/TimeLeft", **timeout))
        assert client.status(stream) == 0
    told = served.behind.times_left_s
    assert sorted(left_s is None for left_s in told) == [False, False, True, True]
    assert all(0 < left_s <= 10 for left_s in told if left_s is not None)
    assert any(left_s is not None and left_s < 0.001 for left_s in told)
