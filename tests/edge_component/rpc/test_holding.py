"""Large requests of one connection: as many come at once as may be held, the others wait, and all are answered."""

import gzip
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_component.rpc.errors import GrpcCode
from edge_component.rpc.holding import Holding
from edge_component.rpc.limits import Limits
from tests.edge_component.rpc.conftest import ALL_ROOM, Open, Served, pattern, until
from tests.edge_component.rpc.raw_client import (
    CANCEL,
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    PADDED,
    PATIENCE_S,
    RST_STREAM,
    WINDOW_UPDATE,
    RawClient,
    begin,
    frame,
    message,
    number,
)

LARGE = 3_900_000
LIMITS = Limits(4_000_000)
AT_ONCE = LIMITS.held_bytes_max // LARGE
PIECE = 16_384


def unasked(content: bytes) -> bytes:
    """As much of a message as may be sent before there is more room."""
    return message(content)[: LIMITS.unasked_bytes]


def begin_large(client: RawClient, *streams: int) -> None:
    """Calls with a large message each, as far as they may come by themselves."""
    for stream in streams:
        client.send(begin(stream), *data(stream, unasked(pattern(LARGE))))


def data(stream: int, content: bytes) -> list[bytes]:
    return [frame(DATA, 0, stream, content[at : at + PIECE]) for at in range(0, len(content), PIECE)]


def given_room(client: RawClient) -> list[int]:
    """The streams that may go on, in the order in which they were told; whoever lets go may be told first that it is over."""
    assert client.is_alive()
    return [seen.stream for seen in client.seen if seen.kind == WINDOW_UPDATE and seen.stream]


def send_rest(client: RawClient, stream: int) -> None:
    rest = message(pattern(LARGE))[LIMITS.unasked_bytes :]
    client.send(*data(stream, rest), frame(DATA, END_STREAM, stream))


def test_as_many_come_at_once_as_may_be_held_and_the_others_in_their_order(client: RawClient) -> None:
    streams = list(range(1, 41, 2))
    begin_large(client, *streams)
    assert given_room(client) == streams[:AT_ONCE]
    for turn, stream in enumerate(streams):
        send_rest(client, stream)
        assert client.answer(stream).messages == [pattern(LARGE)]
        until(lambda turn=turn: given_room(client) == streams[: AT_ONCE + turn + 1])  # type: ignore[misc]


def test_many_large_requests_on_one_channel_are_all_answered(open_server: Open) -> None:
    """Ten times what may be held at once."""
    served = open_server(request_s_max=3 * PATIENCE_S)
    asking = served.channel().unary_unary("/t.T/Echo")
    contents = [pattern(LARGE)[turn:] for turn in range(10 * AT_ONCE)]
    asked = [asking.future(content, timeout=3 * PATIENCE_S) for content in contents]
    assert [each.result() == content for each, content in zip(asked, contents, strict=True)] == [True] * len(contents)


def test_streams_and_calls_with_large_messages_beside_each_other(open_server: Open) -> None:
    """Each stream read by somebody, as any client that asks for several must."""
    served = open_server(request_s_max=3 * PATIENCE_S)
    channel = served.channel()
    contents = [pattern(LARGE)[turn:] for turn in range(4)]

    def chat(_: int) -> bool:
        return list(channel.stream_stream("/t.T/Chat")(iter(contents), timeout=3 * PATIENCE_S)) == contents

    with ThreadPoolExecutor(2 * AT_ONCE) as threads:
        chats = threads.map(chat, range(2 * AT_ONCE))
        asking = channel.unary_unary("/t.T/Echo")
        asked = [asking.future(contents[0], timeout=3 * PATIENCE_S) for _ in range(2 * AT_ONCE)]
        assert list(chats) == [True] * 2 * AT_ONCE
    assert [each.result() == contents[0] for each in asked] == [True] * len(asked)


@pytest.mark.parametrize("how", ["cancelled", "ended"])
def test_one_that_is_over_lets_the_next_one_come(client: RawClient, how: str) -> None:
    """Whether it waited itself, or had its turn."""
    streams = list(range(1, 2 * AT_ONCE + 9, 2))
    begin_large(client, *streams)
    came, waits = streams[0], streams[AT_ONCE]
    for stream in (waits, came):
        if how == "cancelled":
            client.send(frame(RST_STREAM, 0, stream, number(CANCEL)))
        else:
            client.send(frame(DATA, END_STREAM, stream))
            assert client.status(stream) == GrpcCode.INTERNAL
    until(lambda: given_room(client) == [*streams[:AT_ONCE], streams[AT_ONCE + 1]])


def test_one_that_does_not_come_in_time_ends_and_the_next_ones_time_begins(open_server: Open) -> None:
    client = open_server(request_s_max=0.5).client()
    streams = list(range(1, 2 * AT_ONCE + 5, 2))
    begin_large(client, *streams)
    for stream in streams[:AT_ONCE]:
        assert client.status(stream) == GrpcCode.DEADLINE_EXCEEDED
    next_ones = streams[AT_ONCE:]
    until(lambda: given_room(client)[AT_ONCE:] == next_ones)
    send_rest(client, next_ones[0])
    assert client.answer(next_ones[0]).messages == [pattern(LARGE)]
    assert client.status(next_ones[1]) == GrpcCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("path", ["/t.T/Chat", "/t.T/Stall"])
def test_a_streams_large_message_that_does_not_come_in_time_ends_it(open_server: Open, path: str) -> None:
    """Or it would keep its turn for ever. Between messages a stream has all the time there is."""
    served = open_server(request_s_max=0.5)
    served.behind.gate.set()
    client = served.client()
    client.send(begin(1, "/t.T/Chat"), frame(DATA, 0, 1, message(b"x")))
    stalled = range(3, 2 * AT_ONCE + 3, 2)
    for stream in stalled:
        client.send(begin(stream, path), *data(stream, unasked(pattern(LARGE))))
    begin_large(client, 101)
    assert client.status(stalled[0]) == GrpcCode.DEADLINE_EXCEEDED
    client.send(*data(101, message(pattern(LARGE))[LIMITS.unasked_bytes :]), frame(DATA, END_STREAM, 101))
    assert client.answer(101).messages == [pattern(LARGE)]
    client.send(frame(DATA, END_STREAM, 1, message(b"y")))
    assert client.answer(1).status == 0


def test_a_call_that_waits_with_its_second_message_has_no_time_to(open_server: Open) -> None:
    """It may have one; who sends more has them held, and would wait for himself."""
    client = open_server(request_s_max=0.5).client()
    whole = message(pattern(LARGE))
    client.send(begin(1))
    for _ in range(AT_ONCE):
        client.send(*data(1, whole))
    client.send(*data(1, whole[: LIMITS.unasked_bytes - 1_000]))
    assert client.status(1) == GrpcCode.DEADLINE_EXCEEDED


def test_a_client_that_vanishes_while_its_calls_wait(served: Served) -> None:
    client = served.client()
    begin_large(client, *range(1, 61, 2))
    assert client.is_alive()
    client.close()
    until(lambda: served.behind.closed_count == 1)
    other = served.channel().unary_unary("/t.T/Echo")
    assert other(pattern(LARGE), timeout=PATIENCE_S) == pattern(LARGE)


def test_many_small_messages_that_nobody_takes_count_for_what_they_take(served: Served) -> None:
    """An empty one is five bytes of its window, and fifty times that of memory."""
    client = served.client()
    empty = message(b"") * (PIECE // 5)
    for stream in range(1, 33, 2):
        client.send(begin(stream, "/t.T/Stall"))
        left = LIMITS.unasked_bytes
        while left >= len(empty):
            client.send(frame(DATA, 0, stream, empty))
            left -= len(empty)
    assert client.is_alive()
    served.behind.gate.set()
    for stream in range(1, 33, 2):
        client.send(frame(DATA, END_STREAM, stream))
    said: dict[int, bytes] = {}
    while len(said) < len(range(1, 33, 2)):
        found = client.read()
        assert found is not None
        if found.kind == HEADERS and found.flags & END_STREAM:
            said[found.stream] = found.payload
    assert b"grpc-status\x010" in said[1]
    assert b"grpc-status\x018" in said[31]


@pytest.mark.parametrize("size", [1_000_000, LIMITS.unasked_bytes - 5, LIMITS.unasked_bytes, LIMITS.unasked_bytes + 1])
def test_messages_of_any_size_are_given_the_room_they_take(served: Served, size: int) -> None:
    """One after the other on a stream, and each on a call of its own; padding counts, and is given back."""
    served.behind.gate.set()
    client = served.client(*ALL_ROOM)
    client.send(frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1 - 65_535)))
    content = pattern(size)
    client.send(begin(1, "/t.T/Stall"))
    sent = dict.fromkeys((1, 3, 5, 7, 9), 0)

    def room(stream: int) -> int:
        updates = [seen for seen in client.seen if seen.kind == WINDOW_UPDATE and seen.stream == stream]
        return LIMITS.unasked_bytes + sum(int.from_bytes(each.payload, "big") for each in updates) - sent[stream]

    for single in (3, 5, 7, 9):
        client.send(begin(single))
        for stream in (1, single):
            whole = message(content)
            for at in range(0, len(whole), 10_000):
                piece = b"\xff" + whole[at : at + 10_000] + bytes(255)
                while room(stream) < len(piece):
                    client.until(WINDOW_UPDATE, stream)
                sent[stream] += len(piece)
                client.send(frame(DATA, PADDED, stream, piece))
        client.send(frame(DATA, END_STREAM, single))
        assert client.answer(single).messages == [content]
    client.send(frame(DATA, END_STREAM, 1))
    assert client.answer(1).status == 0


def test_more_of_a_stream_than_it_has_room_for_ends_the_connection(client: RawClient) -> None:
    client.send(begin(1), *data(1, message(bytes(LIMITS.unasked_bytes))[: LIMITS.unasked_bytes // 3]))
    client.send(frame(DATA, 0, 1, bytes(LIMITS.unasked_bytes))[:9])
    assert client.gone_away() == FLOW_CONTROL_ERROR


def test_a_small_call_costs_no_word_about_room(client: RawClient) -> None:
    for stream in range(1, 41, 2):
        client.send(begin(stream), *data(stream, message(bytes(LIMITS.unasked_bytes - 5))))
        client.send(frame(DATA, END_STREAM, stream))
        assert client.status(stream) == 0
    assert given_room(client) == []


def test_a_bomb_of_compressed_messages_is_refused_beside_the_others(client: RawClient) -> None:
    bomb = message(gzip.compress(bytes(3_999_999)), 1)
    streams = range(1, 41, 2)
    for stream in streams:
        client.send(begin(stream, grpc_encoding="gzip"), *data(stream, bomb))
    assert client.is_alive()
    refused = {seen.stream for seen in client.seen if seen.kind == HEADERS}
    assert refused == set(streams[LIMITS.held_bytes_max // 4_000_000 :])


streams, sizes = st.integers(0, 9), st.integers(11, 100)


class Claims(RuleBasedStateMachine):
    """Never more than may be; in their order; and nobody waits once nobody holds anything."""

    @initialize()
    def begin(self) -> None:
        self.claims: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        self.holding = Holding(100, 10, self.admit)

    def admit(self, stream: int, size: int) -> None:
        if self.waiting:
            assert next(iter(self.waiting)) == stream
            assert self.waiting.pop(stream) == size
        self.claims[stream] = self.claims.get(stream, 0) + size

    def fits(self, size: int) -> bool:
        return sum(self.claims.values()) + size <= 100

    @rule(stream=streams, size=sizes)
    def claim(self, stream: int, size: int) -> None:
        if stream not in self.waiting:
            comes = not self.waiting and self.fits(size)
            if not comes:
                self.waiting[stream] = size
            assert self.holding.claim(stream, size) is comes

    @rule(stream=streams, size=st.integers(0, 10))
    def claim_little(self, stream: int, size: int) -> None:
        assert self.holding.claim(stream, size)

    @rule(stream=streams, size=sizes)
    def unpack(self, stream: int, size: int) -> None:
        more = size - self.claims.get(stream, 0)
        is_covered = more <= 10 or self.fits(more)
        assert self.holding.covers(stream, size) is is_covered
        if is_covered and more > 10:
            self.claims[stream] = size

    @rule(stream=streams)
    def leave(self, stream: int) -> None:
        self.waiting.pop(stream, None)
        self.claims.pop(stream, None)
        self.holding.leave(stream)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), size=sizes)
    def give_back(self, data: st.DataObject, size: int) -> None:
        stream = data.draw(st.sampled_from(sorted(self.claims)))
        self.claims[stream] = max(self.claims[stream] - size, 0)
        self.holding.give_back(stream, size)

    @invariant()
    def no_more_is_claimed_than_may_be(self) -> None:
        assert self.fits(0)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        assert not self.waiting or not self.fits(next(iter(self.waiting.values())))


TestClaims = Claims.TestCase
TestClaims.settings = settings(deadline=None, max_examples=60)
