"""Clients across a fork: the child connects anew, and neither reads what the other has asked."""

import asyncio
import os
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from edge_component.client import Client, DeadlineExceededError, UnavailableError
from edge_component.client.admin import AdminClient
from edge_component.client.aio import AsyncClient
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.conftest import ROW, Door
from tests.edge_component.waiting import wait_until

REQUESTS_COUNT = 200


def in_child(body: Callable[[], None]) -> int:
    """Run it in a forked child; returns the child's process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forking beside threads is risky is the point
        child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_parent_and_child_each_get_the_answers_to_their_own_questions(door: Door) -> None:
    client = door.client()
    client.infer("scale", {"x": ROW})

    def ask_many(offset: int) -> None:
        for number in range(REQUESTS_COUNT):
            asked = np.full((1, 3), offset + number, np.float32)
            np.testing.assert_array_equal(client.infer("scale", {"x": asked}).outputs["y"], asked * 2)

    child = in_child(lambda: ask_many(100_000))
    ask_many(0)
    assert exit_code(child) == 0
    wait_until(lambda: door.listener.connections_count() == 1)  # the child's went with it
    client.infer("scale", {"x": ROW})
    assert door.listener.connections_count() == 1, "the parent's never went"


def test_a_child_does_not_wait_for_the_parents_threads(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")
    client = door.client(deadline_s=3)

    def occupy() -> None:
        with pytest.raises(DeadlineExceededError):
            client.infer("endless", {"x": ROW})

    thread = threading.Thread(target=occupy)
    thread.start()
    wait_until(client._lock.locked)

    def ask() -> None:
        np.testing.assert_array_equal(client.infer("scale", {"x": ROW}, deadline_s=30).outputs["y"], ROW * 2)

    assert exit_code(in_child(ask)) == 0
    thread.join()


def test_the_asyncio_client_connects_anew_too(door: Door) -> None:
    client = AsyncClient(door.path)

    async def ask(value: float) -> None:
        for _ in range(20):
            asked = np.full((1, 3), value, np.float32)
            np.testing.assert_array_equal((await client.infer("scale", {"x": asked})).outputs["y"], asked * 2)

    with asyncio.Runner() as runner:
        runner.run(ask(1))
        child = in_child(lambda: asyncio.run(ask(2)))
        runner.run(ask(3))
        assert exit_code(child) == 0
        client.close()


def test_a_socket_that_this_user_may_not_use_is_told_from_a_runtime_that_is_away(door: Door) -> None:
    door.path.chmod(0)

    def ask() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)
        for ask_there in (
            lambda: Client(door.path, deadline_s=0.05).infer("scale", {"x": ROW}),
            lambda: AdminClient(door.path).status(),
        ):
            with pytest.raises(UnavailableError) as caught:
                ask_there()
            assert "Ask as the component's user" in caught.value.remedy

    assert exit_code(in_child(ask)) == 0
