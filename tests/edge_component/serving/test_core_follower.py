"""A connection's thread goes to its client's core, and back to all of them."""

import os
import socket
import threading

import pytest

from edge_component.serving.core_follower import CoreFollower, ProcessorOf, peer_process_id
from tests.edge_component.serving.conftest import Door
from tests.edge_component.serving.test_fastpath import ROW, wait_until

CORES = sorted(os.sched_getaffinity(0))
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="there is one core: everybody shares it anyway")


@pytest.fixture(autouse=True)
def _same_cores_afterwards() -> object:
    yield
    os.sched_setaffinity(0, CORES)


@needs_two_cores
def test_short_runs_are_followed_and_long_ones_are_not() -> None:
    where = [CORES[0]]
    follower = CoreFollower(lambda: where[0], run_us_max=100)
    follower.look(50)
    assert os.sched_getaffinity(0) == {CORES[0]}
    where[0] = CORES[1]
    follower.look(100)
    assert os.sched_getaffinity(0) == {CORES[1]}
    follower.look(101)
    assert sorted(os.sched_getaffinity(0)) == CORES


@pytest.mark.parametrize("lost", [None, 4095])
def test_a_client_that_cannot_be_seen_or_runs_elsewhere_is_left_to_the_scheduler(lost: int | None) -> None:
    where: list[int | None] = [CORES[0]]
    follower = CoreFollower(lambda: where[0], run_us_max=100)
    follower.look(1)
    where[0] = lost
    follower.look(1)
    assert sorted(os.sched_getaffinity(0)) == CORES


def test_where_a_thread_ran_is_read_and_a_thread_that_is_not_there_is_none() -> None:
    own = ProcessorOf(os.getpid(), threading.get_native_id())
    os.sched_setaffinity(0, {CORES[-1]})
    assert own() == CORES[-1]
    own.close()
    assert own() is None
    assert ProcessorOf(os.getpid(), 2**22 + 1)() is None


def test_the_kernel_names_the_peer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert peer_process_id(ours) == os.getpid()


@needs_two_cores
def test_a_pinned_client_is_served_on_its_core(door: Door) -> None:
    os.sched_setaffinity(0, {CORES[1]})
    client = door.client()
    client.infer("scale", {"x": ROW})
    client.infer("scale", {"x": ROW})
    (serving,) = door.listener._connections.values()
    wait_until(lambda: os.sched_getaffinity(serving.native_id or 0) == {CORES[1]})
