"""How the door closes: no call under way is lost, and no client keeps it open."""

import socket
import threading
import time
from collections.abc import Callable

import grpc
import pytest

from edge_component.rpc.answers import Answers
from edge_component.rpc.duplex import PlainDuplex
from edge_component.rpc.flow import Outgoing
from tests.edge_component.rpc.conftest import ALL_ROOM, Open, Served, ask, until
from tests.edge_component.rpc.raw_client import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    PATIENCE_S,
    PING,
    WINDOW_UPDATE,
    begin,
    call,
    frame,
    message,
    number,
)

Stop = Callable[[], threading.Thread]


@pytest.fixture
def stop(served: Served) -> Stop:
    """Begin to stop the server, in another thread."""

    def in_its_thread() -> threading.Thread:
        stopping = threading.Thread(target=served.server.stop, args=(3 * PATIENCE_S,))
        stopping.start()
        return stopping

    return in_its_thread


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
    client.send(begin(1))
    assert client.is_alive()
    stopping = stop()
    client.until(GOAWAY)
    client.send(frame(DATA, END_STREAM, 1, message(b"the rest")))
    assert client.answer(1, gives_room=False).messages == [b"the rest"]
    assert client.is_hung_up_on()
    stopping.join(PATIENCE_S / 2)
    assert not stopping.is_alive()


def test_an_open_stream_is_hung_up_on_when_the_time_is_up(served: Served) -> None:
    client = served.client()
    client.send(begin(1, "/t.T/Chat") + frame(DATA, 0, 1, message(b"x")))
    client.until(DATA, 1)
    served.server.stop(0.2)
    assert client.is_hung_up_on()
    assert served.behind.left.acquire(timeout=PATIENCE_S)


def test_a_client_that_does_not_read_does_not_keep_the_door_open(served: Served) -> None:
    """Its answer is being sent, and no GOAWAY gets through either."""
    clients = [served.client(*ALL_ROOM) for _ in range(3)]
    for client in clients:
        client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
        client.send(begin(1, "/t.T/Flood") + frame(DATA, 0, 1, message(b"x")))
        assert served.behind.inside.acquire(timeout=PATIENCE_S)
    until(lambda: not served.is_sending())
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
        answers = Answers(PlainDuplex(ours, PATIENCE_S, PATIENCE_S), Outgoing(), PATIENCE_S, PATIENCE_S)
        answers.send_at_once(b"there is room")
        assert theirs.recv(100) == b"there is room"
        fill(ours)
        with pytest.raises(TimeoutError):
            answers.send_at_once(b"there is none")
        ours.close()
        with pytest.raises(OSError, match="takes nothing"):
            answers.send_at_once(b"nor anybody")


def test_an_answer_does_not_wait_for_ever_behind_others() -> None:
    """Each write has its time; but there may be many before this one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answers = Answers(PlainDuplex(ours, PATIENCE_S, PATIENCE_S), Outgoing(), PATIENCE_S, 0.2)
        fill(ours)
        told = list[OSError]()

        def send_first() -> None:
            with pytest.raises(OSError) as error:  # noqa: PT011 - whatever the system says of a connection that is hung up
                answers.send(bytes(100_000))
            told.append(error.value)

        first = threading.Thread(target=send_first)
        first.start()
        until(lambda: not answers._sending.acquire(blocking=False) or answers._sending.release())
        with pytest.raises(TimeoutError, match="before this"):
            answers.send(b"another")
        first.join(PATIENCE_S / 2)
        assert told


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
    assert client.is_hung_up_on()
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
