"""Clients that mean no good, beside one that does: it gets its answers, and of the others nothing is left."""

import contextlib
import logging
import random
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from tests.edge_component.rpc.conftest import Open, Served, pattern, until
from tests.edge_component.rpc.hostile_client import WINDOWS, Hostile
from tests.edge_component.rpc.raw_client import INITIAL_WINDOW_SIZE, PATIENCE_S, WINDOW_UPDATE, RawClient, frame, number

CLIENTS_COUNT = 25


@pytest.mark.parametrize("is_tame", [True, False], ids=["tame", "wild"])
@pytest.mark.parametrize("seed", range(3))
def test_clients_that_do_what_they_like(
    open_server: Open, caplog: pytest.LogCaptureFixture, seed: int, is_tame: bool
) -> None:
    served = open_server(request_s_max=0.5, answer_s_max=1.0)
    served.behind.gate.set()
    chance = random.Random(seed)
    with answered(served):
        for _ in range(CLIENTS_COUNT):
            visit(served, Hostile(chance, is_tame))
        until(lambda: served.behind.closed_count == CLIENTS_COUNT)
    unforeseen = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [each for each in unforeseen if not each.startswith("a call of")] == [], "a service's defects are its own"


def visit(served: Served, hostile: Hostile) -> None:
    """Come, do a number of things, and leave in one way or another."""
    chance = hostile.chance
    client = served.client(*([(INITIAL_WINDOW_SIZE, chance.choice(WINDOWS))] if chance.random() < 0.5 else []))
    reading = threading.Thread(target=read_on, args=(client,))
    reads = chance.random() < 0.7
    if reads:
        reading.start()
    else:
        client.socket.settimeout(0.5)
    with contextlib.suppress(OSError):
        if chance.random() < 0.3:
            client.send(frame(WINDOW_UPDATE, 0, 0, number(2**30)))
        for _ in range(chance.choice((5, 30, 150))):
            client.send(hostile.frames())
        client.socket.shutdown(chance.choice((socket.SHUT_WR, socket.SHUT_RDWR)))
    if reads:
        reading.join(PATIENCE_S)
        assert not reading.is_alive(), "it waits for the end of a connection that it has ended"
    client.close()


def read_on(client: RawClient) -> None:
    with contextlib.suppress(OSError):
        while client.socket.recv(1_000_000):
            pass


@contextlib.contextmanager
def answered(served: Served) -> Iterator[None]:
    """Meanwhile, calls and streams of another client."""
    channel, finished, wrong = served.channel(), threading.Event(), list[object]()

    def ask_on() -> None:
        turn = 0
        while not finished.wait(0.002):
            turn += 1
            contents = [pattern(turn * 7_919 % 300_000), b"%d" % turn]
            try:
                got = [channel.unary_unary("/t.T/Echo")(content, timeout=PATIENCE_S) for content in contents]
                got += channel.stream_stream("/t.T/Chat")(iter(contents), timeout=PATIENCE_S)
                wrong.extend(["another answer"] * (got != contents * 2))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # the others may have taken every place
                    wrong.append(error)

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        yield
    finally:
        finished.set()
        asking.join()
    assert wrong == []
