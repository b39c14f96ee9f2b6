"""Calls beside each other: none waits for another, each ends once, and what is cancelled costs no more than it must."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from edge_component.rpc.errors import GrpcCode
from edge_component.rpc.protocol import CALLS_MAX
from edge_component.rpc.server import Capacity
from tests.edge_component.rpc.conftest import PARTIES, Open, Served, ask, until
from tests.edge_component.rpc.raw_client import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PATIENCE_S,
    RST_STREAM,
    RawClient,
    begin,
    block,
    call,
    frame,
    message,
    number,
)

MOST = CALLS_MAX + Capacity().threads_max
"""Open on one connection: what clients are told, and those that they have their answers of before the threads are done."""
STREAMS = range(1, 2 * MOST, 2)
ONE_MORE = 2 * MOST + 1


def test_calls_of_one_client_that_wait_for_each_other_all_succeed(served: Served) -> None:
    channel = served.channel()
    with ThreadPoolExecutor(PARTIES) as threads:
        for _ in range(3):
            answers = threads.map(lambda turn: ask(channel, "Meet", b"%d" % turn), range(PARTIES))
            assert list(answers) == [b"%d" % turn for turn in range(PARTIES)]


def test_many_threads_on_one_channel_each_get_their_own_answer(served: Served) -> None:
    channel = served.channel()
    with ThreadPoolExecutor(8) as threads:
        contents = [b"%d" % turn * (turn % 400) for turn in range(1_500)]
        assert list(threads.map(lambda content: ask(channel, "Echo", content), contents)) == contents
    until(lambda: served.behind.sent_count == 1_500)


def test_short_calls_are_answered_beside_a_long_one(served: Served) -> None:
    """Though the long one is answered by the thread that read it: another one reads on."""
    channel = served.channel()
    long = channel.unary_unary("/t.T/Gate").future(b"long", timeout=PATIENCE_S)
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    for turn in range(300):
        assert ask(channel, "Echo", b"%d" % turn) == b"%d" % turn
    assert not long.done()
    served.behind.gate.set()
    assert long.result() == b"long"


def test_one_long_call_after_the_other_each_relieved(served: Served) -> None:
    client = served.client()
    for turn in range(4):
        stream = 1_000 * turn + 1
        served.behind.gate.clear()
        client.send(call(stream, b"long", "/t.T/Gate"))
        assert served.behind.inside.acquire(timeout=PATIENCE_S)
        assert client.is_alive()
        served.behind.gate.set()
        assert client.answer(stream).messages == [b"long"]
        for other in range(stream + 2, stream + 2 * 270, 2):  # until it is answered where it is read again
            client.send(call(other, b"x"))
            assert client.answer(other).messages == [b"x"]


def test_calls_that_were_sent_at_once_are_all_answered(client: RawClient) -> None:
    streams = range(1, 201, 2)
    client.send(*(call(stream, b"%d" % stream) for stream in streams))
    ended: set[int] = set()
    while len(ended) < len(streams):
        found = client.read()
        assert found is not None
        if found.kind == HEADERS and found.flags & END_STREAM:
            ended.add(found.stream)
    assert ended == set(streams)


def test_a_long_call_hears_that_it_was_cancelled(served: Served) -> None:
    channel = served.channel()
    long = channel.unary_unary("/t.T/Gate").future(b"long")
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    long.cancel()
    assert ask(channel, "Echo", b"after it") == b"after it"  # so the cancellation was read
    served.behind.gate.set()
    until(lambda: served.behind.sent_count == 2)
    assert served.behind.wanted == [False]


def test_a_cancelled_call_counts_until_its_thread_is_free(open_server: Open) -> None:
    """Or whoever cancels and asks again has as many messages held, and runs under way, as he likes."""
    served = open_server(capacity=Capacity(calls_max=1_000))
    client = served.client()
    for stream in STREAMS:
        client.send(call(stream, b"x", "/t.T/Gate"))
        if stream <= 2 * Capacity().threads_max + 1:  # one where it was read; the others wait for a thread
            assert served.behind.inside.acquire(timeout=PATIENCE_S)
        client.send(frame(RST_STREAM, 0, stream, number(CANCEL)))
    client.send(call(ONE_MORE, b"x"))
    assert client.status(ONE_MORE) == GrpcCode.RESOURCE_EXHAUSTED
    served.behind.gate.set()
    until(lambda: _is_answered(client, served))


def _is_answered(client: RawClient, served: Served) -> bool:
    stream = 1_001 + 2 * len(client.seen)
    client.send(call(stream, b"x"))
    return client.status(stream) == 0


def test_what_was_ended_is_not_answered_twice(served: Served) -> None:
    """A second END_STREAM on a call under way."""
    client = served.client()
    client.send(call(1, b"x", "/t.T/Gate"))
    assert served.behind.inside.acquire(timeout=PATIENCE_S)
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block()))
    client.until(GOAWAY)
    served.behind.gate.set()
    while client.read() is not None:
        pass
    assert not served.behind.inside.acquire(blocking=False)


def test_2000_calls_that_are_begun_and_cancelled_cost_nothing(client: RawClient) -> None:
    cancelled = [begin(stream) + frame(RST_STREAM, 0, stream, number(CANCEL)) for stream in range(1, 4_001, 2)]
    client.send(*cancelled)
    client.send(call(4_001, b"still there"))
    assert client.answer(4_001).messages == [b"still there"]


def test_2000_calls_that_are_whole_and_cancelled_are_got_over(client: RawClient) -> None:
    for stream in range(1, 4_001, 2):
        client.send(call(stream, b"x"), frame(RST_STREAM, 0, stream, number(CANCEL)))
        if stream % 200 == 1:  # or nobody reads what is answered
            assert client.is_alive()
    client.send(call(4_001, b"x", "/t.T/TimeLeft"))
    assert client.status(4_001) in (0, GrpcCode.RESOURCE_EXHAUSTED)
    assert client.is_alive()


def test_one_call_more_than_may_be_open_is_refused(client: RawClient) -> None:
    for stream in STREAMS:
        client.send(begin(stream))
    client.send(begin(ONE_MORE))
    assert client.status(ONE_MORE) == GrpcCode.RESOURCE_EXHAUSTED
    client.send(frame(DATA, END_STREAM, 1, message(b"of the first")))
    assert client.answer(1).messages == [b"of the first"]


def test_more_calls_than_the_server_answers_at_once_are_refused(open_server: Open) -> None:
    """But another client's first ones."""
    served = open_server(capacity=Capacity(threads_max=2, calls_max=10))
    client = served.client()
    client.send(*(call(stream, b"%d" % stream, "/t.T/Gate") for stream in range(1, 27, 2)))  # one where it was read
    assert client.is_alive()
    client.send(call(27, b"one too many"))
    assert client.status(27) == GrpcCode.RESOURCE_EXHAUSTED
    other = served.client()
    other.send(call(1, b"another client's"))
    assert other.answer(1).messages == [b"another client's"]
    served.behind.gate.set()
    until(lambda: served.behind.sent_count == 14)
    client.send(call(29, b"again"))
    assert client.answer(29).messages == [b"again"]


def test_a_stream_answers_message_by_message(served: Served) -> None:
    turns = threading.Semaphore(0)

    def asked():
        for turn in range(50):
            yield b"%d" % turn
            assert turns.acquire(timeout=PATIENCE_S)

    answers = []
    for answer in served.channel().stream_stream("/t.T/Chat")(asked(), timeout=PATIENCE_S):
        answers.append(answer)
        turns.release()
    assert answers == [b"%d" % turn for turn in range(50)]


def test_a_stream_takes_more_than_its_windows_hold(open_server: Open) -> None:
    served = open_server(message_bytes_max=2_000_000)
    contents = [bytes((turn,)) * 1_500_000 for turn in range(20)]
    channel = grpc.insecure_channel(f"unix:{served.path}", (("grpc.max_receive_message_length", -1),))
    served.channels.append(channel)
    assert list(channel.stream_stream("/t.T/Chat")(iter(contents), timeout=PATIENCE_S)) == contents


def test_a_stream_that_the_client_cancels_is_left_by_its_service(served: Served) -> None:
    for method in ("Chat", "Flood"):
        client = served.client()
        client.send(begin(1, f"/t.T/{method}") + frame(DATA, 0, 1, message(b"x")))
        client.until(DATA, 1)
        client.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
        assert served.behind.left.acquire(timeout=PATIENCE_S), method
        assert client.is_alive()


def test_a_streams_deadline_ends_it(served: Served) -> None:
    client = served.client()
    client.send(begin(1, "/t.T/Chat", grpc_timeout="50m"))
    assert client.status(1) == GrpcCode.DEADLINE_EXCEEDED
    assert served.behind.left.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("unit", "HMSmun")
def test_a_stream_whose_deadline_is_as_far_away_as_can_be_said(client: RawClient, unit: str) -> None:
    """Or as near: 99999999n is a tenth of a second, and 99999999H is more than a lock can wait."""
    client.send(begin(1, "/t.T/Chat", grpc_timeout=f"99999999{unit}"))
    client.send(frame(DATA, 0, 1, message(b"x")))
    client.until(DATA, 1)
    client.send(frame(DATA, END_STREAM, 1))
    ended = client.until(HEADERS, 1, END_STREAM).payload
    assert b"grpc-status\x010" in ended or (unit == "n" and b"grpc-status\x014" in ended)


@pytest.mark.parametrize("path", ["/t.T/Chat", "/t.T/Flood", "/t.T/Gate", "/t.T/Large"])
def test_a_client_that_vanishes_ends_what_it_asked_for(served: Served, path: str) -> None:
    for _ in range(5):
        client = served.client()
        client.send(begin(1, path) + frame(DATA, 0, 1, message(b"900000")))
        if path in ("/t.T/Gate", "/t.T/Large"):
            client.send(frame(DATA, END_STREAM, 1))
        client.close()
    served.behind.gate.set()
    until(lambda: served.behind.closed_count == 5)
