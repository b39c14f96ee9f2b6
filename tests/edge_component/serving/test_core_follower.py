"""A connection's thread goes to its client's core, and back to all of them."""

import os
import socket
import threading
import time
from dataclasses import dataclass

import pytest

from edge_component.cores import ThreadOf
from edge_component.serving.core_follower import (
    LOOKS_APART_COUNT,
    PAUSE_NS,
    CoreFollower,
    LongRuns,
    look_every_count,
    peer_process_id,
)
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.waiting import wait_until

CORES = sorted(os.sched_getaffinity(0))
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="there is one core: everybody shares it anyway")


@pytest.fixture(autouse=True)
def _same_cores_afterwards() -> object:
    yield
    os.sched_setaffinity(0, CORES)


@dataclass
class FakeThread:
    """A client's thread, moved by the test."""

    where: int | None
    pinned: bool = False

    def core(self) -> int | None:
        return self.where

    def is_pinned(self) -> bool:
        return self.pinned


@needs_two_cores
def test_short_runs_are_followed_and_long_ones_are_not() -> None:
    client = FakeThread(CORES[0])
    follower = CoreFollower(client, 100, LongRuns())
    follower.look(50)
    assert os.sched_getaffinity(0) == {CORES[0]}
    client.where = CORES[1]
    follower.look(100)
    assert os.sched_getaffinity(0) == {CORES[1]}
    follower.look(101)
    assert sorted(os.sched_getaffinity(0)) == CORES


@needs_two_cores
def test_long_runs_follow_a_pinned_client_and_only_one_of_them_each_core() -> None:
    client = FakeThread(CORES[0], pinned=True)
    long_runs = LongRuns()
    one, other = (CoreFollower(client, 100, long_runs) for _ in range(2))
    one.look(5_000)
    assert os.sched_getaffinity(0) == {CORES[0]}
    other._core = CORES[0]  # the two share this test's thread
    other.look(5_000)
    assert sorted(os.sched_getaffinity(0)) == CORES
    one.stop()
    other.look(5_000)
    assert os.sched_getaffinity(0) == {CORES[0]}
    client.pinned = False
    other.look(5_000)
    assert sorted(os.sched_getaffinity(0)) == CORES


@needs_two_cores
def test_a_client_that_is_no_longer_pinned_gives_its_core_to_another_that_is() -> None:
    long_runs = LongRuns()
    moved, staying = FakeThread(CORES[0], pinned=True), FakeThread(CORES[0], pinned=True)
    one, other = CoreFollower(moved, 100, long_runs), CoreFollower(staying, 100, long_runs)
    one.look(5_000)
    moved.pinned = False
    one.look(5_000)
    other.look(5_000)
    assert os.sched_getaffinity(0) == {CORES[0]}


def test_the_longer_the_runs_the_fewer_between_two_looks() -> None:
    assert [look_every_count(run_us) for run_us in (0, 5, 100, 2_500, 40_000)] == [256, 256, 250, 10, 1]


@pytest.mark.parametrize("lost", [None, 4095])
def test_a_client_that_cannot_be_seen_or_runs_elsewhere_is_left_to_the_scheduler(lost: int | None) -> None:
    client = FakeThread(CORES[0])
    follower = CoreFollower(client, 100, LongRuns())
    follower.look(1)
    client.where = lost
    follower.look(1)
    assert sorted(os.sched_getaffinity(0)) == CORES


def test_where_a_thread_ran_is_read_and_a_thread_that_is_not_there_is_none() -> None:
    own = ThreadOf(os.getpid(), threading.get_native_id())
    os.sched_setaffinity(0, {CORES[-1]})
    assert own.core() == CORES[-1]
    assert own.is_pinned()
    os.sched_setaffinity(0, CORES)
    assert own.is_pinned() is (len(CORES) == 1)
    own.close()
    assert own.core() is None
    gone = ThreadOf(os.getpid(), 2**22 + 1)
    assert gone.core() is None
    assert not gone.is_pinned()


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


@needs_two_cores
def test_a_client_that_was_moved_in_a_pause_is_found_after_it(door: Door) -> None:
    os.sched_setaffinity(0, {CORES[0]})
    client = door.client()
    for _ in range(LOOKS_APART_COUNT + 1):
        client.infer("scale", {"x": ROW})
    (serving,) = door.listener._connections.values()
    wait_until(lambda: os.sched_getaffinity(serving.native_id or 0) == {CORES[0]})
    os.sched_setaffinity(0, {CORES[1]})
    time.sleep(2 * PAUSE_NS / 1e9)  # the pause itself
    client.infer("scale", {"x": ROW})
    wait_until(lambda: os.sched_getaffinity(serving.native_id or 0) == {CORES[1]})


@needs_two_cores
@pytest.mark.parametrize("threads", ["intra_op_threads", "inter_op_threads"])
def test_sessions_with_several_threads_are_not_followed(open_door: MakeDoor, threads: str) -> None:
    door = open_door(**{threads: 2})
    door.scale("1.0.0", 2.0)
    os.sched_setaffinity(0, {CORES[1]})
    client = door.client()
    for _ in range(3):  # it looks after the first one already
        client.infer("scale", {"x": ROW})
    (serving,) = door.listener._connections.values()
    assert sorted(os.sched_getaffinity(serving.native_id or 0)) == CORES
