"""Flow control by a model of it: never more than there is room for, and nobody waits for ever."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_component.rpc.errors import ConnectionBroken
from edge_component.rpc.flow import FRAME_BYTES_SENT, Outgoing
from edge_component.rpc.frames import CONNECTION, FRAME_BYTES, FRAME_BYTES_MAX, WINDOW_BYTES, WINDOW_BYTES_MAX
from edge_component.rpc.placement import ALONE_COUNT, OVERLAPS_MAX, Placement
from tests.edge_component.rpc.conftest import until
from tests.edge_component.rpc.raw_client import PATIENCE_S

sizes = st.integers(1, 100_000) | st.sampled_from([1, FRAME_BYTES, WINDOW_BYTES])


class Flow(RuleBasedStateMachine):
    """What the client has given, and what was taken of it."""

    @initialize()
    def begin(self) -> None:
        self.room = Outgoing()
        self.connection, self.initial, self.frame_bytes = WINDOW_BYTES, WINDOW_BYTES, FRAME_BYTES
        self.streams: dict[int, int] = {}
        self.newest = 1

    @rule()
    def open(self) -> None:
        self.room.open(self.newest)
        self.streams[self.newest] = self.initial
        self.newest += 2

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.streams)))
        del self.streams[stream]
        self.room.close(stream)
        assert self.room.take(stream, 1, None, PATIENCE_S) == 0
        assert not self.room.take_all(stream, 1)
        self.room.more(stream, 5)  # was on its way

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), wanted=sizes)
    def take(self, data: st.DataObject, wanted: int) -> None:
        stream = data.draw(st.sampled_from(sorted(self.streams)))
        expected = max(min(self.connection, self.streams[stream], self.frame_bytes, wanted), 0)
        assert self.room.take(stream, wanted, lambda: False, PATIENCE_S) == expected
        self.connection -= expected
        self.streams[stream] -= expected

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), wanted=sizes)
    def take_all(self, data: st.DataObject, wanted: int) -> None:
        stream = data.draw(st.sampled_from(sorted(self.streams)))
        fits = wanted <= min(self.connection, self.streams[stream], self.frame_bytes)
        assert self.room.take_all(stream, wanted) == fits
        if fits:
            self.connection -= wanted
            self.streams[stream] -= wanted

    @rule(data=st.data(), size=sizes)
    def more(self, data: st.DataObject, size: int) -> None:
        stream = data.draw(st.sampled_from([0, *sorted(self.streams)]))
        self.room.more(stream, size)
        if stream:
            self.streams[stream] += size
        else:
            self.connection += size

    @rule(size=st.integers(0, 200_000))
    def begin_with(self, size: int) -> None:
        self.room.begin_with(size)
        self.streams = {stream: window + size - self.initial for stream, window in self.streams.items()}
        self.initial = size

    @rule(size=st.integers(FRAME_BYTES, FRAME_BYTES_MAX))
    def frames_of(self, size: int) -> None:
        self.room.frames_of(size)
        self.frame_bytes = min(size, FRAME_BYTES_SENT)

    @invariant()
    def the_connections_window_is_never_overdrawn(self) -> None:
        assert self.connection >= 0


TestFlow = Flow.TestCase
TestFlow.settings = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(
    "against",
    [
        lambda room: room.more(0, 0),
        lambda room: room.more(1, 0),
        lambda room: room.more(0, WINDOW_BYTES_MAX),
        lambda room: room.more(1, WINDOW_BYTES_MAX),
        lambda room: room.begin_with(WINDOW_BYTES_MAX + 1),
        lambda room: room.frames_of(FRAME_BYTES - 1),
        lambda room: room.frames_of(FRAME_BYTES_MAX + 1),
    ],
)
def test_windows_that_cannot_be(against: Callable[[Outgoing], None]) -> None:
    room = Outgoing()
    room.open(1)
    with pytest.raises(ConnectionBroken):
        against(room)


@pytest.mark.parametrize(
    ("happens", "taken"),
    [
        (lambda room: room.more(1, 7), 7),
        (lambda room: room.begin_with(3), 3),
        (lambda room: room.close(1), 0),
        (lambda room: room.end(), 0),
    ],
    ids=["room on the stream", "room by SETTINGS", "the stream is over", "the connection is over"],
)
def test_who_waits_for_room_hears_of_it(happens: Callable[[Outgoing], None], taken: int) -> None:
    room = Outgoing()
    room.begin_with(0)
    room.open(1)
    found: list[int] = []
    waiting = [threading.Thread(target=lambda: found.append(room.take(1, 100, None, PATIENCE_S))) for _ in range(1)]
    for thread in waiting:
        thread.start()
    happens(room)
    for thread in waiting:
        thread.join(PATIENCE_S / 2)
    assert found == [taken]


WAITING = range(1, 41, 2)


class Counting(Outgoing):
    """Knows which threads have looked for room, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: Counter[str] = Counter()

    def _room(self, stream: int) -> int:
        self.looks[threading.current_thread().name] += 1
        return super()._room(stream)


def waiting_threads(room: Counting, wanted: int) -> list[threading.Thread]:
    """One for each of the streams; each takes so much."""

    def take_all(stream: int) -> None:
        left = wanted
        while left and (taken := room.take(stream, left, None, 3 * PATIENCE_S)):
            left -= taken

    threads = [threading.Thread(target=take_all, args=(stream,), name=f"{stream}", daemon=True) for stream in WAITING]
    for thread in threads:
        thread.start()
    until(lambda: all(room.looks[thread.name] >= 2 for thread in threads))  # before it waits, and as it begins to
    return threads


def test_room_on_one_stream_wakes_nobody_else() -> None:
    """Or a client that gives it byte by byte keeps the processor busy with all the answers that it does not take."""
    room = Counting()
    room.begin_with(0)
    for stream in WAITING:
        room.open(stream)
    threads = waiting_threads(room, 100)
    before = room.looks.copy()
    for _ in range(100):
        room.more(WAITING[0], 1)
    threads[0].join(PATIENCE_S)
    others = {thread.name for thread in threads[1:]}
    assert {name: count for name, count in room.looks.items() if name in others} == {
        name: before[name] for name in others
    }
    room.begin_with(100)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)


def full_room() -> Counting:
    """Streams with room of their own, on a connection that has none."""
    room = Counting()
    room.open(99)
    while room.take(99, WINDOW_BYTES, lambda: False, PATIENCE_S):
        pass
    for stream in WAITING:
        room.open(stream)
    return room


def test_room_on_the_connection_wakes_one_after_the_other_until_it_is_taken() -> None:
    room = full_room()
    threads = waiting_threads(room, 5)
    room.more(CONNECTION, 5 * len(threads) - 1)  # all but one byte, at once
    until(lambda: sum(thread.is_alive() for thread in threads) == 1)
    room.more(CONNECTION, 1)
    until(lambda: not any(thread.is_alive() for thread in threads))


def test_who_is_told_of_room_and_does_not_want_it_any_more_passes_it_on() -> None:
    room = full_room()
    threads = waiting_threads(room, 5)
    for stream in WAITING[:-1]:
        room.more(CONNECTION, 1)
        room.close(stream)
    room.more(CONNECTION, 5)
    until(lambda: not any(thread.is_alive() for thread in threads))


def test_room_that_never_comes_is_not_waited_for_longer() -> None:
    room = Outgoing()
    room.begin_with(0)
    room.open(1)
    assert room.take(1, 1, None, 0.01) == 0
    assert room.take(1, 1, lambda: True, 0.01) == 0, "though others frames come all the time"


def test_who_reads_himself_reads_until_there_is_room() -> None:
    room = Outgoing()
    room.begin_with(0)
    room.open(1)
    reads = iter([lambda: None, lambda: room.more(1, 4)])

    def read_one() -> bool:
        next(reads)()
        return True

    assert room.take(1, 100, read_one, PATIENCE_S) == 4


def test_who_reads_no_longer_himself_hears_of_room_from_who_does() -> None:
    room = Outgoing()
    room.begin_with(0)
    room.open(1)
    reads_on = threading.Thread(target=room.more, args=(1, 5))

    def relieved() -> None:
        reads_on.start()

    assert room.take(1, 100, relieved, PATIENCE_S) == 5
    reads_on.join()


@pytest.mark.parametrize(
    ("calls", "is_here"),
    [
        ([(1, 0, False)], True),
        ([(1, OVERLAPS_MAX - 1, False)], True),
        ([(1, OVERLAPS_MAX, False)], False),
        ([(1, 0, True)], False),
        ([(2, 0, False)], False),
        ([(2, 0, False)] + [(1, 0, False)] * (ALONE_COUNT - 1), False),
        ([(2, 0, False)] + [(1, 0, False)] * ALONE_COUNT, True),
        ([(2, 0, False)] + [(1, 0, False)] * 200 + [(1, 0, True)] + [(1, 0, False)] * 200, False),
        ([(1, 0, False)] * 1_000, True),
    ],
)
def test_where_a_call_is_answered(calls: list[tuple[int, int, bool]], is_here: bool) -> None:
    placement = Placement()
    for open_count, overlaps_count, pipelined in calls:
        placed = placement.place(open_count, overlaps_count, pipelined=pipelined)
    assert placed is is_here


def test_one_that_took_long_is_answered_elsewhere_for_a_while() -> None:
    placement = Placement()
    placement.took_long()
    placed = [placement.place(1, 0, pipelined=False) for _ in range(ALONE_COUNT)]
    assert placed == [False] * (ALONE_COUNT - 1) + [True]
