"""The asyncio client over the real socket: the same answers and errors as the blocking one, without blocking the loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from edge_component.client import DeadlineExceededError, InputError, UnavailableError, UnknownModelError
from edge_component.client.aio import AsyncClient
from tests.edge_component.bundle_factory import scale_model
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.waiting import wait_until


@asynccontextmanager
async def client_of(door: Door, deadline_s: float = 10.0) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(door.path, deadline_s=deadline_s) as client:
        yield client


def run(door: Door, body: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client_of(door) as client:
            await body(client)

    threads = threading.active_count()
    asyncio.run(main())
    wait_until(lambda: threading.active_count() <= threads)


def test_answers_of_all_sizes_and_a_swap(door: Door) -> None:
    async def body(client: AsyncClient) -> None:
        for rows in (1, 3, 40_000, 0, 1):
            batch = np.random.default_rng(rows).random((rows, 3), np.float32)
            np.testing.assert_array_equal((await client.infer("scale", {"x": batch})).outputs["y"], batch * 2)
        door.scale("1.1.0", 3.0)
        answer = await client.infer("scale", {"x": ROW}, copy=False)
        np.testing.assert_array_equal(answer.outputs["y"], ROW * 3)
        assert answer.model.version == "1.1.0"

    run(door, body)


def test_requests_made_together_are_answered_in_order_and_the_loop_runs_on(door: Door) -> None:
    async def body(client: AsyncClient) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(client.infer("scale", {"x": ROW * n}) for n in range(50)))
        ticking.cancel()
        for number, answer in enumerate(answers):
            np.testing.assert_array_equal(answer.outputs["y"], ROW * number * 2)
        assert ticks > 50

    run(door, body)


def test_errors_are_the_blocking_clients(door: Door) -> None:
    async def body(client: AsyncClient) -> None:
        with pytest.raises(UnknownModelError):
            await client.infer("other", {"x": ROW})
        with pytest.raises(InputError, match="x has shape"):
            await client.infer("scale", {"x": ROW[0]})
        assert (await client.infer("scale", {"x": ROW})).model.version == "1.0.0"

    run(door, body)


def test_a_deadline_ends_the_wait_and_the_next_request_is_answered(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")

    async def body(client: AsyncClient) -> None:
        with pytest.raises(DeadlineExceededError):
            await client.infer("endless", {"x": ROW}, deadline_s=0.2)
        assert (await client.infer("scale", {"x": ROW})).model.version == "1.0.0"

    run(door, body)


def test_a_cancelled_request_does_not_answer_the_next_one(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")

    async def body(client: AsyncClient) -> None:
        asking = asyncio.create_task(client.infer("endless", {"x": ROW}, deadline_s=1.0))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await client.infer("scale", {"x": ROW})).model.name == "scale"

    run(door, body)
    wait_until(lambda: door.listener.connections_count() == 0)


def test_waiting_for_others_is_part_of_the_deadline(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")

    async def body(client: AsyncClient) -> None:
        first = asyncio.create_task(client.infer("endless", {"x": ROW}, deadline_s=0.4))
        await asyncio.sleep(0.01)
        with pytest.raises((DeadlineExceededError, UnavailableError)):
            await client.infer("scale", {"x": ROW}, deadline_s=0.05)
        with pytest.raises(DeadlineExceededError):
            await first

    run(door, body)


def test_nobody_there_is_told_by_the_deadline_and_a_new_door_is_found(door: Door, open_door: MakeDoor) -> None:
    async def body(client: AsyncClient) -> None:
        await client.infer("scale", {"x": ROW})
        door.listener.stop(1.0)
        with pytest.raises(UnavailableError) as caught:
            await client.infer("scale", {"x": ROW}, deadline_s=0.1)
        assert caught.value.code == "runtime-unavailable"
        again = open_door(door.folder)
        again.scale("1.1.0", 3.0)
        assert (await client.infer("scale", {"x": ROW})).model.version == "1.1.0"

    asyncio.run(_with_client(door, body))


async def _with_client(door: Door, body: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async with client_of(door) as client:
        await body(client)


def test_closing_while_a_request_is_under_way_connects_it_anew(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")

    async def body(client: AsyncClient) -> None:
        asking = asyncio.create_task(client.infer("endless", {"x": ROW}, deadline_s=5))
        while client._connection is None or client._connection._waiting is None:
            await asyncio.sleep(0.001)
        door.scale("2.0.0", 2.0)
        door.put("1.1.0", scale_model(3.0), name="endless")
        client.close()
        np.testing.assert_array_equal((await asking).outputs["y"], ROW * 3)
        for _ in range(3):  # and whoever gets the descriptor's number next is watched as ever
            client.close()
            np.testing.assert_array_equal((await client.infer("scale", {"x": ROW})).outputs["y"], ROW * 2)

    run(door, body)
