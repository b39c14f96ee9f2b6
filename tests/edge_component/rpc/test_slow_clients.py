"""Clients that say nothing, or too little, or vanish: what they hold is theirs for a time only."""

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_component.rpc.errors import GrpcCode
from tests.edge_component.rpc.conftest import ALL_ROOM, Open, Served, tls_client, until
from tests.edge_component.rpc.raw_client import (
    ACK,
    CANCEL,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PATIENCE_S,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    RawClient,
    begin,
    block,
    call,
    frame,
    message,
    number,
)


def test_a_full_door_says_so_before_it_hangs_up(open_server: Open) -> None:
    served = open_server(connections_max=2)
    inside = [served.client(), served.client()]
    assert all(client.is_alive() for client in inside)
    assert served.connect().gone_away() == ENHANCE_YOUR_CALM
    inside[0].close()
    until(lambda: served.behind.closed_count == 1)
    assert served.client().is_alive()


def test_half_a_frame_and_then_silence_ends_the_connection(open_server: Open) -> None:
    served = open_server(request_s_max=0.4)
    block_begun = PREFACE + frame(HEADERS, 0, 1, block()[:20])
    for sent in (
        PREFACE[:10],
        PREFACE + b"\0\0",
        PREFACE + call(1, b"half")[:-2],
        PREFACE + call(1, b"half")[:40],
        block_begun,
    ):
        client = served.connect()
        client.send(sent)
        assert client.is_hung_up_on()


def test_half_a_request_and_then_silence_ends_the_call(open_server: Open) -> None:
    client = open_server(request_s_max=0.4).client()
    client.send(begin(1) + frame(DATA, 0, 1, message(b"half")[:6]))
    assert client.status(1) == GrpcCode.DEADLINE_EXCEEDED
    assert client.is_alive()


@contextlib.contextmanager
def dripping(client: RawClient, drop: bytes) -> Iterator[None]:
    """The same again and again, for as long as anything is waited for here."""
    finished = threading.Event()

    def send_on() -> None:
        for _ in range(int(PATIENCE_S / 0.02)):
            if finished.wait(0.02):
                return
            client.send(drop)

    sending = threading.Thread(target=send_on)
    sending.start()
    try:
        yield
    finally:
        finished.set()
        sending.join()


def test_a_request_that_comes_byte_by_byte_for_too_long_ends_all_the_same(open_server: Open) -> None:
    client = open_server(request_s_max=0.4).client()
    client.send(begin(1))
    client.send(frame(DATA, 0, 1, message(bytes(100_000))[:5]))
    with dripping(client, frame(DATA, 0, 1, b"x")):
        assert client.status(1) == GrpcCode.DEADLINE_EXCEEDED


def test_a_frame_that_comes_byte_by_byte_for_too_long_ends_the_connection(open_server: Open) -> None:
    client = open_server(request_s_max=0.4).client()
    client.send(begin(1))
    pieces = frame(DATA, 0, 1, message(bytes(10_000)))
    with pytest.raises(ConnectionError):
        drip(client, pieces)
    assert client.is_hung_up_on()


def drip(client: RawClient, pieces: bytes) -> None:
    waited = threading.Event()
    for byte in pieces:
        client.send(bytes((byte,)))
        waited.wait(0.02)


@pytest.mark.parametrize("beside", ["nothing", "a stream"])
@pytest.mark.parametrize("whose", [0, 1], ids=["the connection's", "the stream's"])
def test_an_answer_that_is_given_room_byte_by_byte_ends_all_the_same(
    open_server: Open, whose: int, beside: str
) -> None:
    """Whether it is sent by the thread that reads, or, beside a stream, by another one."""
    served = open_server(answer_s_max=0.5)
    client = served.client((INITIAL_WINDOW_SIZE, 1_000_000 if whose == 0 else 10))
    if beside == "a stream":
        client.send(begin(3, "/t.T/Chat"))
    stream = 5
    client.send(call(stream, b"900000", "/t.T/Large"))
    with dripping(client, frame(WINDOW_UPDATE, 0, whose * stream, number(1))):
        assert int.from_bytes(client.until(RST_STREAM, stream).payload, "big") == CANCEL
    until(lambda: served.behind.sent_count == 1)  # its end is told to the service all the same, after its client
    assert client.is_alive()


@pytest.mark.parametrize("asked", [("Flood", b"x"), ("Large", b"40000000")], ids=["beside", "where it was read"])
def test_a_client_that_writes_before_it_reads_is_read_all_the_same(served: Served, asked: tuple[str, bytes]) -> None:
    """While an answer waits for it to read. Or it would wait for us to read, and we for it."""
    method, content = asked
    client = served.client(*ALL_ROOM)
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(begin(1, f"/t.T/{method}"))
    client.send(frame(DATA, END_STREAM if method == "Large" else 0, 1, message(content)))
    until(lambda: not served.is_sending())
    pings = [frame(PING, 0, 0, b"%08d" % turn) for turn in range(60)]
    for turn, ping in enumerate(pings):  # together more than a connection's window, and than the kernel keeps
        stream = 2 * turn + 3
        client.send(begin(stream), frame(DATA, 0, stream, message(bytes(180_000))[:-1]), ping)
    client.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    for turn in range(60):
        assert client.until(PING, flags=ACK).payload == b"%08d" % turn
    client.send(frame(DATA, END_STREAM, 3, b"\0"))
    assert client.answer(3).messages == [bytes(180_000)]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_an_answer_that_is_read_bit_by_bit_ends_all_the_same(open_server: Open, tls: bool) -> None:
    """By a client that has room for all of it: something is always taken, and it would take minutes."""
    served = open_server(request_s_max=0.4, tls=tls)
    client = tls_client(served, *ALL_ROOM) if tls else served.client(*ALL_ROOM)
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(call(1, b"40000000", "/t.T/Large"))
    finished = threading.Event()

    def read_on() -> None:
        with contextlib.suppress(OSError):
            while not finished.wait(0.02) and client.socket.recv(500):
                pass

    reading = threading.Thread(target=read_on)
    reading.start()
    try:
        until(lambda: served.behind.sent_count == 1)
    finally:
        finished.set()
        reading.join()
    until(lambda: served.behind.closed_count == 1)


def test_a_connection_that_asks_nothing_for_long_is_ended_where_that_is_configured(open_server: Open) -> None:
    served = open_server(request_s_max=0.1, idle_s=0.3)
    client = served.client()
    client.send(begin(1, "/t.T/Chat") + frame(DATA, 0, 1, message(b"x")))
    client.until(DATA, 1)
    threading.Event().wait(0.6)
    assert client.is_alive(), "a call is open"
    client.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    assert client.gone_away() == 0


def test_nothing_is_left_of_clients_that_came_and_went(open_server: Open) -> None:
    served = open_server()
    turn(served)
    gc.collect()
    before = threading.active_count(), descriptors(), resident_bytes()
    for _ in range(60):
        turn(served)
    gc.collect()
    until(lambda: threading.active_count() <= before[0] + 4)  # the pool's
    until(lambda: descriptors() <= before[1] + 2)
    assert resident_bytes() - before[2] < 60_000_000


def turn(served: Served) -> None:
    """Some that end well, some that don't."""
    asks = (
        call(1, b"300000", "/t.T/Large"), call(1, b"x", "/t.T/Defect"), frame(DATA, 0, 1, b"x"),
        begin(1, "/t.T/Chat") + frame(DATA, 0, 1, message(bytes(150_000))),
        begin(1) + frame(DATA, 0, 1, message(bytes(900_000))[:1_000]),
    )  # fmt: skip
    closed = served.behind.closed_count
    for sent in asks:
        client = served.client()
        client.send(sent)
        assert client.read() is not None
        client.close()
        served.clients.remove(client)
    until(lambda: served.behind.closed_count == closed + len(asks))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
