"""Clients that hold on to threads and places: each has a share, and one that keeps the rules gets its answers beside them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_component.rpc.protocol import CALLS_MAX
from edge_component.rpc.server import Capacity
from tests.edge_component.rpc.conftest import ALL_ROOM, PARTIES, Open, Served, ask, tls_client, until
from tests.edge_component.rpc.raw_client import (
    END_HEADERS,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    WINDOW_UPDATE,
    RawClient,
    block,
    call,
    frame,
    number,
)

MOST = CALLS_MAX + Capacity().threads_max


def greedy(client: RawClient, method: str, count: int) -> RawClient:
    """Asks for a lot, and takes none of it."""
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Chat")))  # so that no call is answered where it is read
    for stream in range(3, 3 + 2 * count, 2):
        client.send(call(stream, b"900000", f"/t.T/{method}"))
    assert client.is_alive()
    return client


def test_a_client_that_gives_no_room_leaves_threads_to_another(served: Served) -> None:
    """One that has several calls at a time, which need a thread each."""
    greedy(served.client((INITIAL_WINDOW_SIZE, 0)), "Large", MOST - 1)
    _meet(served)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_client_that_does_not_read_leaves_threads_to_another(open_server: Open, tls: bool) -> None:
    served = open_server(tls=tls)
    client = tls_client(served, *ALL_ROOM) if tls else served.client(*ALL_ROOM)
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    client.send(frame(HEADERS, END_HEADERS, 1, block("/t.T/Chat")))
    client.send(*(call(stream, b"900000", "/t.T/Large") for stream in range(3, 203, 2)))
    until(lambda: not served.is_sending())
    other = tls_client(served) if tls else served.client()
    other.send(*(call(stream, b"x", "/t.T/Meet") for stream in range(1, 2 * PARTIES, 2)))
    _all_answered(other, PARTIES)


def _all_answered(client: RawClient, count: int) -> None:
    ended = 0
    while ended < count:
        found = client.read()
        assert found is not None
        ended += found.kind == HEADERS and b"grpc-status\x010" in found.payload


def test_many_clients_that_give_no_room_leave_a_thread_to_another(open_server: Open) -> None:
    """And its own, by which it is answered as long as it asks for one thing at a time."""
    served = open_server(connections_max=40)
    for _ in range(30):
        greedy(served.client((INITIAL_WINDOW_SIZE, 0)), "Large", MOST - 1)
    channel = served.channel()
    with ThreadPoolExecutor(2) as threads:
        contents = [b"%d" % turn for turn in range(100)]
        assert list(threads.map(lambda content: ask(channel, "Echo", content), contents)) == contents


def _meet(served: Served) -> None:
    channel = served.channel()
    with ThreadPoolExecutor(PARTIES) as threads:
        answers = threads.map(lambda turn: ask(channel, "Meet", b"%d" % turn), range(PARTIES))
        assert list(answers) == [b"%d" % turn for turn in range(PARTIES)]
