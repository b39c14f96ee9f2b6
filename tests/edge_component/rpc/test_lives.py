"""How connections and the server come to an end: by the client's silence, by its haste, by the door's closing."""

import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from edge_component.rpc.answers import Answers
from edge_component.rpc.duplex import PlainDuplex
from edge_component.rpc.errors import GrpcCode
from edge_component.rpc.flow import Outgoing
from tests.edge_component.rpc.conftest import Open, Served, ask, pattern, until
from tests.edge_component.rpc.raw_client import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PATIENCE_S,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawClient,
    block,
    call,
    frame,
    message,
    number,
    setting,
)

Stop = Callable[[], threading.Thread]


@pytest.fixture
def stop(served: Served) -> Stop:
    """Begin to stop the server, in another thread."""

    def begin() -> threading.Thread:
        stopping = threading.Thread(target=served.server.stop, args=(3 * PATIENCE_S,))
        stopping.start()
        return stopping

    return begin


def ended(client: RawClient) -> bool:
    while client.read() is not None:
        pass
    return True


def test_the_door_closes_on_a_client_that_has_nothing_to_ask(served: Served, stop: Stop) -> None:
    client = served.client()
    assert client.is_alive()
    stopping = stop()
    assert client.gone_away() == 0
    stopping.join(PATIENCE_S / 2)
    assert not stopping.is_alive()


def test_calls_under_way_are_answered_while_the_door_closes(served: Served, stop: Stop) -> None:
    client, other = served.client(), served.channel()
    client.send(call(1, b"one", "/t.T/Gate"), call(3, b"another", "/t.T/Gate"))
    slow = other.unary_unary("/t.T/Gate").future(b"a third", timeout=PATIENCE_S)
    for _ in range(3):
        assert served.behind.inside.acquire(timeout=PATIENCE_S)
    stopping = stop()
    goodbye = client.until(GOAWAY).payload
    assert int.from_bytes(goodbye[:4], "big") == 2**31 - 1, "none is refused before the client has heard"
    client.send(frame(PING, ACK, 0, client.until(PING).payload))
    goodbye = client.until(GOAWAY).payload
    assert int.from_bytes(goodbye[:4], "big") == 3, "streams after these may be asked for elsewhere"
    client.send(call(5, b"too late"))
    served.behind.gate.set()
    answered: dict[int, bytes] = {}
    while (found := client.read()) is not None:
        if found.kind == DATA:
            answered[found.stream] = found.payload[5:]
    assert answered == {1: b"one", 3: b"another"}
    assert slow.result() == b"a third"
    stopping.join(PATIENCE_S / 2)
    assert not stopping.is_alive()


def test_a_request_that_is_half_there_is_finished_while_the_door_closes(served: Served, stop: Stop) -> None:
    client = served.client()
    client.send(frame(HEADERS, END_HEADERS, 1, block()))
    assert client.is_alive()
    stopping = stop()
    client.until(GOAWAY)
    client.send(frame(DATA, END_STREAM, 1, message(b"the rest")))
    assert client.answer(1, gives_room=False).messages == [b"the rest"]
    assert ended(client)
    stopping.join(PATIENCE_S / 2)
    assert not stopping.is_alive()


def test_an_open_stream_is_hung_up_on_when_the_time_is_up(served: Served) -> None:
    client = served.client()
    client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Chat")) + frame(DATA, 0, 1, message(b"x")))
    client.until(DATA, 1)
    served.server.stop(0.2)
    assert ended(client)
    assert served.behind.left.acquire(timeout=PATIENCE_S)


def test_a_client_that_does_not_read_does_not_keep_the_door_open(served: Served) -> None:
    """Its answer is being sent, and no GOAWAY gets through either."""
    clients = [served.client((INITIAL_WINDOW_SIZE, 2**31 - 1), (MAX_FRAME_SIZE, 2**24 - 1)) for _ in range(3)]
    for client in clients:
        client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
        client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Flood")) + frame(DATA, 0, 1, message(b"x")))
        assert served.behind.inside.acquire(timeout=PATIENCE_S)
    until(lambda: not any(_is_sending(served)))
    began_s = time.monotonic()
    served.server.stop(0.5)
    assert time.monotonic() - began_s < PATIENCE_S / 2, "request_s_max is what a send may take"
    for _ in clients:
        assert served.behind.left.acquire(timeout=PATIENCE_S)


def fill(connection: socket.socket) -> None:
    try:
        while True:
            connection.send(bytes(10_000), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return


def test_what_would_have_to_wait_is_not_sent_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answers = Answers(PlainDuplex(ours, PATIENCE_S, PATIENCE_S), Outgoing(), PATIENCE_S)
        answers.send_at_once(b"there is room")
        assert theirs.recv(100) == b"there is room"
        fill(ours)
        with pytest.raises(TimeoutError):
            answers.send_at_once(b"there is none")
        ours.close()
        with pytest.raises(OSError, match="takes nothing"):
            answers.send_at_once(b"nor anybody")


def _is_sending(served: Served) -> list[bool]:
    """Whether each flood got any further in a while."""
    before = served.behind.sent_count
    threading.Event().wait(0.05)
    return [served.behind.sent_count > before]


def test_a_long_call_that_outlives_the_door_ends_by_itself(open_server: Open) -> None:
    """One that is answered by the thread that has read it, and that another one relieves."""
    before = threading.active_count()
    served = open_server()
    client = served.client()
    client.send(call(1, b"long", "/t.T/Gate"))
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    assert client.is_alive()
    began_s = time.monotonic()
    served.server.stop(0.2)
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert ended(client)
    assert served.behind.closed_count == 0, "its service is in use"
    served.behind.gate.set()
    until(lambda: served.behind.closed_count == 1)
    assert served.behind.wanted == [False]
    until(lambda: threading.active_count() <= before)


def test_a_server_stops_and_another_begins_while_clients_ask(open_server: Open) -> None:
    """No call gets an answer that is not its own; those that get none are told that the server is not there."""
    for _ in range(5):
        served = open_server()
        channel = served.channel()
        statuses: set[grpc.StatusCode] = set()

        def keep_asking(channel: grpc.Channel = channel, statuses: set[grpc.StatusCode] = statuses) -> None:
            try:
                for turn in range(100_000):
                    assert ask(channel, "Echo", b"%d" % turn) == b"%d" % turn
            except grpc.RpcError as error:
                statuses.add(error.code())

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda served=served: served.behind.sent_count > 50)
        served.server.stop(PATIENCE_S)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert statuses <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert statuses


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
    for sent in (PREFACE[:10], PREFACE + b"\0\0", PREFACE + call(1, b"half")[:-2], PREFACE + call(1, b"half")[:40]):
        client = served.connect()
        client.send(sent)
        assert ended(client)


def test_half_a_request_and_then_silence_ends_the_call(open_server: Open) -> None:
    client = open_server(request_s_max=0.4).client()
    client.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 0, 1, message(b"half")[:6]))
    assert client.status(1) == GrpcCode.DEADLINE_EXCEEDED
    assert client.is_alive()


def test_a_request_that_comes_byte_by_byte_for_too_long_ends_all_the_same(open_server: Open) -> None:
    client = open_server(request_s_max=0.4).client()
    client.send(frame(HEADERS, END_HEADERS, 1, block()))
    client.send(frame(DATA, 0, 1, message(bytes(100_000))[:5]))
    finished = threading.Event()

    def send_on() -> None:
        while not finished.wait(0.02):
            client.send(frame(DATA, 0, 1, b"x"))

    dripping = threading.Thread(target=send_on)
    dripping.start()
    try:
        assert client.status(1) == GrpcCode.DEADLINE_EXCEEDED
    finally:
        finished.set()
        dripping.join()


def test_a_frame_that_comes_byte_by_byte_for_too_long_ends_the_connection(open_server: Open) -> None:
    client = open_server(request_s_max=0.4).client()
    client.send(frame(HEADERS, END_HEADERS, 1, block()))
    pieces = frame(DATA, 0, 1, message(bytes(10_000)))
    with pytest.raises(ConnectionError):
        drip(client, pieces)
    assert ended(client)


def drip(client: RawClient, pieces: bytes) -> None:
    waited = threading.Event()
    for byte in pieces:
        client.send(bytes((byte,)))
        waited.wait(0.02)


def test_a_connection_that_asks_nothing_for_long_is_ended_where_that_is_configured(open_server: Open) -> None:
    served = open_server(request_s_max=0.1, idle_s=0.3)
    client = served.client()
    client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Chat")) + frame(DATA, 0, 1, message(b"x")))
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
        frame(HEADERS, END_HEADERS, 1, block("/t.T/Chat")) + frame(DATA, 0, 1, message(bytes(500_000))),
        frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 0, 1, message(bytes(900_000))[:1_000]),
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


# TLS


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def tls_client(served: Served, *settings: tuple[int, int]) -> RawClient:
    client = served.connect(trusting().wrap_socket)
    client.greet(*settings)
    return client


def test_a_call_over_tls(open_server: Open) -> None:
    served = open_server(tls=True)
    client = tls_client(served)
    client.send(call(1, b"over TLS"), call(3, b"2000000", "/t.T/Large"))
    assert client.answer(1).messages == [b"over TLS"]
    assert client.answer(3).messages == [pattern(2_000_000)]
    served.server.stop(PATIENCE_S)
    assert client.gone_away() == 0


def test_reading_and_writing_at_once_over_tls(open_server: Open) -> None:
    """Large messages both ways on several streams at once, over grpcio's TLS."""
    served = open_server(tls=True, message_bytes_max=40_000_000)
    certificate = served.tls_certificate.read_bytes()
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    channel = grpc.secure_channel(f"localhost:{served.server.port}", grpc.ssl_channel_credentials(certificate), options)
    served.channels.append(channel)
    contents = [pattern(700_000)[turn:] for turn in range(20)]
    found: list[list[bytes]] = []

    def chat() -> None:
        found.append(list(channel.stream_stream("/t.T/Chat")(iter(contents), timeout=3 * PATIENCE_S)))

    threads = [threading.Thread(target=chat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn_count in range(100):
        assert ask(channel, "Echo", b"%d" % turn_count) == b"%d" % turn_count
    for thread in threads:
        thread.join(3 * PATIENCE_S)
    assert found == [contents] * 4


def test_a_tls_client_that_does_not_read_is_heard_all_the_same(open_server: Open) -> None:
    """Its cancellation ends the answer that nobody takes."""
    served = open_server(tls=True)
    client = tls_client(served, (INITIAL_WINDOW_SIZE, 2**31 - 1), (MAX_FRAME_SIZE, 2**24 - 1))
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Flood")) + frame(DATA, 0, 1, message(b"x")))
    client.send(frame(HEADERS, END_HEADERS, 3, block("/t.T/Chat")) + frame(DATA, 0, 3, message(b"x")))
    until(lambda: not any(_is_sending(served)))
    client.send(frame(HEADERS, END_HEADERS, 5, block("/t.T/Gate")), frame(DATA, END_STREAM, 5, message(b"x")))
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    assert served.behind.inside.acquire(timeout=PATIENCE_S), "the call behind the answer that nobody takes"
    client.close()
    assert served.behind.left.acquire(timeout=PATIENCE_S)


def test_a_tls_server_stops_though_its_client_does_not_read(open_server: Open) -> None:
    served = open_server(tls=True)
    client = tls_client(served, (INITIAL_WINDOW_SIZE, 2**31 - 1), (MAX_FRAME_SIZE, 2**24 - 1))
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Flood")) + frame(DATA, 0, 1, message(b"x")))
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    until(lambda: not any(_is_sending(served)))
    began_s = time.monotonic()
    served.server.stop(0.5)
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert served.behind.left.acquire(timeout=PATIENCE_S)


def test_a_handshake_that_takes_too_long_is_ended(open_server: Open) -> None:
    served = open_server(tls=True, hello_s=0.3)
    hello = ssl.MemoryBIO()
    shaking = trusting().wrap_bio(ssl.MemoryBIO(), hello)
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    waited = threading.Event()
    for pieces in ([], [hello.read()[:20]], [bytes((byte,)) for byte in b"\x16\x03\x01\x02\x00" + bytes(100)]):
        plain = socket.create_connection(("127.0.0.1", served.server.port), PATIENCE_S)
        with plain:
            try:
                for piece in pieces:
                    plain.sendall(piece)
                    waited.wait(0.02)
                while plain.recv(1_000):
                    pass
            except ConnectionError:
                continue
    assert tls_client(served).is_alive()


def test_a_plain_client_at_a_tls_door_is_hung_up_on(open_server: Open) -> None:
    served = open_server(tls=True)
    client = served.connect()
    client.send(PREFACE + frame(SETTINGS, 0, 0, setting(4, 1)))
    assert ended(client)
    assert tls_client(served).is_alive()
