"""A server's threads for calls: each call once, each place given back once, a share for each connection, whatever others take."""

import threading
from collections.abc import Callable, Iterator

import pytest

from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.workers import CALLS_LEAST, THREADS_LEAST, Share, Workers
from tests.edge_component.rpc.conftest import until
from tests.edge_component.rpc.raw_client import PATIENCE_S

THREADS_MAX, CALLS_MAX = 8, 20
PLACES_COUNT = THREADS_MAX + CALLS_MAX


class Gate:
    """Calls that wait until it is open, and what became of them."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside_count = 0
        self.done_count = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.inside_count += 1
        assert self.opened.wait(2 * PATIENCE_S), "nobody opened the gate"
        with self._lock:
            self.inside_count -= 1
            self.done_count += 1


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    made = Workers(request.node.name, THREADS_MAX, CALLS_MAX)
    yield made
    made.stop()


def fill(workers: Workers, share: Share, work: Callable[[], None]) -> int:
    """How many calls it is let have, all of them begun as far as there are threads."""
    for count in range(10 * PLACES_COUNT):
        try:
            workers.submit(share, work)
        except CallEnded as ended:
            assert ended.status == GrpcCode.RESOURCE_EXHAUSTED  # noqa: PT017 - counted above
            return count
    raise AssertionError("there is no end of places")


def threads_count(name: str) -> int:
    return sum(thread.name == f"{name}-calls" for thread in threading.enumerate())


def answered(workers: Workers, work: Callable[[], None]) -> None:
    """Have it done, and wait until the place is back."""
    share = Share()
    workers.submit(share, work)
    until(lambda: not share.calls_count)


def test_a_place_is_given_back_whatever_becomes_of_the_call(workers: Workers) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a defect")

    def hang_up() -> None:
        raise ConnectionResetError("the client has gone")

    for _ in range(PLACES_COUNT):
        for work in (fail, hang_up, lambda: None):
            answered(workers, work)
    gate = Gate()
    assert fill(workers, Share(), gate) == PLACES_COUNT
    gate.opened.set()
    until(lambda: gate.done_count == PLACES_COUNT)


def test_a_connection_alone_has_all_the_threads_that_one_may_have(workers: Workers) -> None:
    gate = Gate()
    fill(workers, Share(), gate)
    until(lambda: gate.inside_count == THREADS_MAX)
    gate.opened.set()
    until(lambda: gate.done_count == PLACES_COUNT)


def test_calls_that_come_at_once_begin_no_more_threads_than_may_run(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Threads that have begun and not yet looked for a call count, however long a busy machine lets them wait."""
    begun, gate = threading.Event(), Gate()
    monkeypatch.setattr("edge_component.rpc.workers.run_anywhere", lambda: begun.wait(PATIENCE_S))
    fill(workers, Share(), gate)
    assert threads_count(request.node.name) == THREADS_MAX
    begun.set()
    until(lambda: gate.inside_count == THREADS_MAX)
    gate.opened.set()
    until(lambda: gate.done_count == PLACES_COUNT)


def test_each_further_connection_has_less_and_none_has_nothing(workers: Workers) -> None:
    gates = [Gate() for _ in range(12)]
    calls = [fill(workers, Share(), gate) for gate in gates]
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] == CALLS_LEAST
    share = [max(THREADS_MAX >> turn, THREADS_LEAST) for turn in range(len(gates))]
    until(lambda: [gate.inside_count for gate in gates] == share)
    for gate in gates:
        gate.opened.set()
    until(lambda: [gate.done_count for gate in gates] == calls)


def test_a_call_that_ends_may_make_room_for_two(workers: Workers) -> None:
    """Another connection's, and then its own one's next: that one must not wait until something else ends."""
    ending, blocking, waiting = Gate(), Gate(), Gate()
    begins, other = Share(), Share()
    workers.submit(begins, ending)
    inside_count = 1
    for share, count in ((Share(), 7), (begins, 2), (other, 3)):
        for _ in range(count):
            workers.submit(share, blocking)
            inside_count += 1
            until(lambda: ending.inside_count + blocking.inside_count == inside_count)  # noqa: B023 - before the next
    workers.submit(other, waiting)
    workers.submit(begins, waiting)
    answered(workers, lambda: None)
    assert not waiting.inside_count, "both have as many as are left"
    ending.opened.set()
    until(lambda: waiting.inside_count == 2)
    for gate in (waiting, blocking):
        gate.opened.set()
    until(lambda: not begins.calls_count + other.calls_count)


def test_connections_take_turns(workers: Workers) -> None:
    """One call of another is not behind all that the first has asked for."""
    order: list[str] = []
    gate, busy, other = Gate(), Share(), Share()
    for _ in range(THREADS_MAX):
        workers.submit(busy, gate)
    until(lambda: gate.inside_count == THREADS_MAX)
    for _ in range(10):
        workers.submit(busy, lambda: order.append("busy"))
    workers.submit(other, lambda: order.append("other"))
    until(lambda: order == ["other"])
    gate.opened.set()
    until(lambda: len(order) == 11)


def test_no_more_threads_stay_than_one_connection_needs(workers: Workers, request: pytest.FixtureRequest) -> None:
    gates = [Gate() for _ in range(12)]
    for gate in gates:
        workers.submit(Share(), gate)
    until(lambda: all(gate.inside_count for gate in gates))
    assert threads_count(request.node.name) == len(gates)
    for gate in gates:
        gate.opened.set()
    until(lambda: threads_count(request.node.name) == THREADS_MAX)


def test_a_call_that_no_thread_is_to_be_had_for_is_refused_and_never_answered(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, share, answered_late = Gate(), Share(), threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers.submit(share, gate)
    until(lambda: gate.inside_count == 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(CallEnded) as ended:
            workers.submit(share, answered_late.set)
    assert ended.value.status == GrpcCode.UNAVAILABLE
    gate.opened.set()
    answered(workers, lambda: None)
    until(lambda: not share.calls_count)
    assert not answered_late.is_set()


def test_calls_that_come_when_the_server_has_stopped_are_refused() -> None:
    workers = Workers("workers", THREADS_MAX, CALLS_MAX)
    workers.stop()
    with pytest.raises(CallEnded) as ended:
        workers.submit(Share(), lambda: None)
    assert ended.value.status == GrpcCode.UNAVAILABLE


def test_calls_that_wait_when_the_server_stops_are_answered(workers: Workers, request: pytest.FixtureRequest) -> None:
    gate, share = Gate(), Share()
    count = fill(workers, share, gate)
    workers.stop()
    gate.opened.set()
    until(lambda: gate.done_count == count)
    until(lambda: not threads_count(request.node.name))
