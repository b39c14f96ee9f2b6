"""When a connection's thread looks for its next request before it sleeps, and that it never costs anybody else."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from edge_component.config import RuntimeConfig
from edge_component.polling import (
    FOUND_PER_MISS,
    MISSES_FREE_COUNT,
    NEVER,
    QUICK_COUNT,
    QUICK_COUNT_MAX,
    Eagerness,
    PolledSocket,
    Polling,
    polling,
)

LIMIT_NS = 1000
CORES = frozenset(os.sched_getaffinity(0))
PATIENT_US = 5_000_000
"""Longer than anything here takes: a poll that is to find something finds it."""


def eager(limit_ns: int = LIMIT_NS) -> Eagerness:
    eagerness = Eagerness(limit_ns)
    for _ in range(QUICK_COUNT):
        eagerness.waited(0, is_alone=True)
    return eagerness


@pytest.mark.parametrize(
    ("waits_ns", "is_alone", "polls"),
    [
        ([LIMIT_NS - 1] * QUICK_COUNT, True, True),
        ([LIMIT_NS - 1] * (QUICK_COUNT - 1), True, False),
        ([LIMIT_NS] * 100, True, False),
        ([0] * (QUICK_COUNT - 1) + [LIMIT_NS] + [0] * (QUICK_COUNT - 1), True, False),
        ([0] * 100, False, False),
    ],
    ids=["quick", "not-for-long-enough", "a-control-loop", "with-a-pause", "two-clients"],
)
def test_only_a_client_that_asks_again_at_once_and_alone_is_polled_for(
    waits_ns: list[int], is_alone: bool, polls: bool
) -> None:
    eagerness = Eagerness(LIMIT_NS)
    for wait_ns in waits_ns:
        eagerness.waited(wait_ns, is_alone=is_alone)
    assert eagerness.polls is polls


def test_a_limit_of_zero_makes_no_wait_short() -> None:
    assert not eager(0).polls


def test_polling_in_vain_ends_soon_and_begins_later_each_time() -> None:
    eagerness = Eagerness(LIMIT_NS)
    needed_counts = []
    for _ in range(5):
        needed_count = 0
        while not eagerness.polls:
            eagerness.waited(0, is_alone=True)
            needed_count += 1
        needed_counts.append(needed_count)
        missed_count = 0
        while eagerness.polls:
            eagerness.missed()
            missed_count += 1
        assert missed_count == MISSES_FREE_COUNT + 1
    assert needed_counts == [QUICK_COUNT, 2 * QUICK_COUNT, 4 * QUICK_COUNT, QUICK_COUNT_MAX, QUICK_COUNT_MAX]


def test_pauses_between_bursts_do_not_end_it() -> None:
    eagerness = eager()
    for _ in range(1000):
        for _ in range(FOUND_PER_MISS):
            eagerness.found()
        eagerness.missed()
    assert eagerness.polls


def test_after_much_was_found_it_begins_again_as_at_first() -> None:
    eagerness = eager()
    for _ in range(100):
        eagerness.found()
    while eagerness.polls:
        eagerness.missed()
    for _ in range(QUICK_COUNT):
        eagerness.waited(0, is_alone=True)
    assert eagerness.polls


@given(st.lists(st.booleans(), max_size=300))
def test_what_is_polled_in_vain_stays_in_proportion(finds: list[bool]) -> None:
    eagerness = eager()
    found_count = missed_count = 0
    for finds_it in finds:
        if not eagerness.polls:
            break
        eagerness.found() if finds_it else eagerness.missed()
        found_count += finds_it
        missed_count += not finds_it
    assert missed_count <= found_count / FOUND_PER_MISS + MISSES_FREE_COUNT + 1


def test_one_miss_is_a_pause_and_two_in_a_row_are_a_client_without_a_core() -> None:
    eagerness = eager()
    in_the_way = []
    for happens in (eagerness.missed, eagerness.found, eagerness.missed, eagerness.missed):
        happens()
        in_the_way.append(eagerness.is_in_the_way)
    assert in_the_way == [False, False, False, True]


@pytest.mark.parametrize("changed", [{"intra_op_threads": 2}, {"inter_op_threads": 3}, {"poll_us": 0}])
def test_sessions_with_several_threads_keep_the_cores_for_themselves(changed: dict[str, int]) -> None:
    assert polling(replace(RuntimeConfig(), **changed)).limit_ns == 0


def test_it_is_on_by_default_where_there_are_cores_for_it() -> None:
    assert polling(RuntimeConfig()).limit_ns == (RuntimeConfig().poll_us * 1000 if len(CORES) > 1 else 0)


class Watched(socket.socket):
    """A socket that notes how it was received from: with which flags, and where the thread was allowed to run."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(fileno=descriptor)
        self.calls: list[tuple[int, frozenset[int]]] = []

    def recv_into(self, buffer: object, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        self.calls.append((flags, frozenset(os.sched_getaffinity(0))))
        return super().recv_into(buffer, nbytes, flags)  # type: ignore[arg-type]

    @property
    def was_polled(self) -> bool:
        return any(flags & socket.MSG_DONTWAIT for flags, _ in self.calls)


Pair = tuple[Watched, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    watched = Watched(ours.detach())
    with watched, theirs:
        yield watched, theirs
    os.sched_setaffinity(0, CORES)


def on_two_cores() -> Polling:
    """As on a machine with a core to spare, also on one that has none."""
    made = Polling(0)
    made.limit_ns = PATIENT_US * 1000
    return made


def made_eager(watched: Watched, theirs: socket.socket, process: Polling, then_us: int = PATIENT_US) -> PolledSocket:
    """One that polls, from now on for so long."""
    polled = PolledSocket(watched, process)
    polled.receive_into(bytearray(theirs.send(b"x")))  # the first is nobody's: others may have been served before
    for _ in range(QUICK_COUNT):
        theirs.send(b"x")
        assert polled.receive_into(bytearray(1)) == 1
    assert not watched.was_polled
    watched.calls.clear()
    process.limit_ns = then_us * 1000
    return polled


def test_what_comes_while_it_is_polled_for_is_received(pair: Pair) -> None:
    watched, theirs = pair
    polled = made_eager(watched, theirs, on_two_cores())
    later = threading.Timer(0.01, theirs.send, (b"later",))
    later.start()
    target = bytearray(8)
    assert polled.receive_into(target) == len(b"later")
    assert bytes(target[:5]) == b"later"
    assert watched.was_polled
    later.join()


def test_what_is_polled_for_is_taken_as_it_comes_also_where_all_of_it_is_wished_for(pair: Pair) -> None:
    watched, theirs = pair
    polled = made_eager(watched, theirs, on_two_cores())
    theirs.send(b"some")
    assert polled.receive_into(bytearray(8), socket.MSG_WAITALL) == len(b"some")
    asleep = PolledSocket(watched, NEVER)
    theirs.send(b"some")
    threading.Timer(0.01, theirs.send, (b"more",)).start()
    assert asleep.receive_into(bytearray(8), socket.MSG_WAITALL) == len(b"somemore")


def test_what_does_not_come_is_waited_for_asleep(pair: Pair) -> None:
    watched, theirs = pair
    polled = made_eager(watched, theirs, on_two_cores(), then_us=1)
    asleep = threading.Event()

    def answer_when_asleep() -> None:
        asleep.wait(10)
        theirs.send(b"late")

    answering = threading.Thread(target=answer_when_asleep)
    answering.start()
    original = watched.recv_into

    def noting(buffer: object, nbytes: int = 0, flags: int = 0) -> int:
        if not flags:
            asleep.set()
        return original(buffer, nbytes, flags)

    polled._receive_into = noting
    assert polled.receive_into(bytearray(8)) == len(b"late")
    answering.join()
    assert watched.was_polled
    assert not watched.calls[-1][0] & socket.MSG_DONTWAIT


def test_the_end_and_the_time_limit_are_the_sockets_own(pair: Pair) -> None:
    watched, theirs = pair
    polled = made_eager(watched, theirs, on_two_cores(), then_us=1)
    watched.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 10_000))
    with pytest.raises(BlockingIOError):
        polled.receive_into(bytearray(1))
    theirs.close()
    assert polled.receive_into(bytearray(1)) == 0


def test_nobody_is_polled_for_while_somebody_else_is_served(pair: Pair) -> None:
    watched, theirs = pair
    process = on_two_cores()
    polled = made_eager(watched, theirs, process)
    for _ in range(MISSES_FREE_COUNT + 1):
        process.served = object()
        theirs.send(b"x")
        polled.receive_into(bytearray(1))
    assert not watched.was_polled
    theirs.send(b"x")
    polled.receive_into(bytearray(1))
    assert not watched.was_polled, "it has to show again that it asks at once"


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core: nobody can keep off it")
def test_it_polls_beside_its_client_and_lets_go_of_that_when_it_stops(pair: Pair) -> None:
    watched, theirs = pair
    polled = made_eager(watched, theirs, on_two_cores(), then_us=1)
    watched.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1_000))
    for _ in range(MISSES_FREE_COUNT + 1):
        with pytest.raises(BlockingIOError):
            polled.receive_into(bytearray(1))
    polls = [cores for flags, cores in watched.calls if flags & socket.MSG_DONTWAIT]
    assert polls
    assert all(len(cores) == len(CORES) - 1 for cores in polls)
    assert watched.calls[-1] == (0, CORES)


def test_a_process_that_may_not_poll_never_does(pair: Pair) -> None:
    watched, theirs = pair
    polled = PolledSocket(watched, NEVER)
    for _ in range(10 * QUICK_COUNT_MAX):
        theirs.send(b"x")
        polled.receive_into(bytearray(1))
    assert not watched.was_polled
