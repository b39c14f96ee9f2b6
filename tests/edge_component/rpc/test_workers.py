"""A server's threads for calls: each call once, each place given back once, whatever the system has no room for."""

import threading
from collections.abc import Callable, Iterator

import pytest

from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.workers import Workers
from tests.edge_component.rpc.raw_client import PATIENCE_S

THREADS_MAX, CALLS_MAX = 2, 3
PLACES_COUNT = THREADS_MAX + CALLS_MAX


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers("workers", THREADS_MAX, CALLS_MAX)
    yield made
    made.stop()


def free_places(workers: Workers) -> int:
    """How many calls get one now."""
    for count in range(PLACES_COUNT + 2):
        try:
            workers.enter()
        except CallEnded as ended:
            assert ended.status == GrpcCode.RESOURCE_EXHAUSTED  # noqa: PT017 - counted above
            for _ in range(count):
                workers.leave()
            return count
    raise AssertionError("there is no end of places")


def answered(workers: Workers, work: Callable[[], None]) -> None:
    """Have it done, and wait until the place is back."""
    done = threading.Event()
    workers.enter()
    workers.submit(work)
    workers.enter()
    workers.submit(done.set)
    assert done.wait(PATIENCE_S)


def test_a_place_is_given_back_whatever_becomes_of_the_call(workers: Workers) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a defect")

    def hang_up() -> None:
        raise ConnectionResetError("the client has gone")

    for work in (fail, hang_up, lambda: None):
        answered(workers, work)
    waited = threading.Event()
    while free_places(workers) < PLACES_COUNT:
        waited.wait(0.01)
    assert free_places(workers) == PLACES_COUNT


def test_a_call_that_no_thread_is_to_be_had_for_is_refused_and_never_answered(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor keeps it all the same, and another thread comes upon it later."""
    inside, gate, answered_late = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        gate.wait(PATIENCE_S)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers.enter()
    workers.submit(wait)
    assert inside.wait(PATIENCE_S)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        workers.enter()
        with pytest.raises(CallEnded) as ended:
            workers.submit(answered_late.set)
    assert ended.value.status == GrpcCode.UNAVAILABLE
    gate.set()
    answered(workers, lambda: None)
    assert not answered_late.is_set()
    waited = threading.Event()
    while free_places(workers) < PLACES_COUNT:
        waited.wait(0.01)
    assert free_places(workers) == PLACES_COUNT


def test_calls_that_come_when_the_server_has_stopped_are_refused() -> None:
    workers = Workers("workers", THREADS_MAX, CALLS_MAX)
    workers.stop()
    workers.enter()
    with pytest.raises(CallEnded) as ended:
        workers.submit(lambda: None)
    assert ended.value.status == GrpcCode.UNAVAILABLE
    assert free_places(workers) == PLACES_COUNT
