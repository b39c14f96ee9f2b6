"""The real clients' asynchronous ways: gevent, threads with callbacks and asyncio, many requests at once over kept connections."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.oip.conftest import Doors
from tests.edge_component.serving.oip.test_clients import ROW

COUNT = 40


def sent(kind: Any, factor: int = 1) -> list[Any]:
    return [kind.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW * np.float32(factor))]


def assert_doubled(answers: list[Any]) -> None:
    assert len(answers) == COUNT
    for factor, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.as_numpy("y"), ROW * 2 * factor)


def test_gevent_asks_many_at_once_over_kept_connections(doors: Doors) -> None:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{doors.rest.port}", concurrency=4) as client:
        asked = [client.async_infer("scale", sent(tritonclient.http, factor)) for factor in range(COUNT)]
        refused = client.async_infer("nobody", sent(tritonclient.http))
        assert_doubled([one.get_result() for one in asked])
        with pytest.raises(InferenceServerException, match="no model named 'nobody'"):
            refused.get_result()
        assert 1 <= doors.rest.connections_count() <= 4


def test_callbacks_get_answers_and_errors(doors: Doors) -> None:
    answers: dict[int, Any] = {}
    done = threading.Semaphore(0)

    def receive(factor: int, result: Any, error: Any) -> None:
        answers[factor] = error or result
        done.release()

    with tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}") as client:
        for factor in range(COUNT):
            client.async_infer(
                "scale", sent(tritonclient.grpc, factor), lambda result, error, factor=factor: receive(factor, result, error)
            )  # fmt: skip
        client.async_infer("nobody", sent(tritonclient.grpc), lambda result, error: receive(COUNT, result, error))
        for _ in range(COUNT + 1):
            assert done.acquire(timeout=20)
    assert answers.pop(COUNT).status() == "StatusCode.NOT_FOUND"
    assert_doubled([answers[factor] for factor in range(COUNT)])


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_asyncio(doors: Doors, door: str) -> None:
    kind: Any = tritonclient.http.aio if door == "http" else tritonclient.grpc.aio
    address = f"127.0.0.1:{doors.rest.port}" if door == "http" else f"unix:{doors.grpc_path}"

    async def ask() -> None:
        async with kind.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("scale", "1.0.0")
            metadata = await client.get_model_metadata("scale")
            assert (metadata if door == "http" else {"name": metadata.name})["name"] == "scale"
            assert_doubled(
                await asyncio.gather(*(client.infer("scale", sent(kind, factor)) for factor in range(COUNT)))
            )
            with pytest.raises(InferenceServerException, match="no model named 'nobody'"):
                await client.infer("nobody", sent(kind))
            np.testing.assert_array_equal((await client.infer("scale", sent(kind))).as_numpy("y"), ROW * 2)

    asyncio.run(ask())


def test_an_asyncio_stream_and_a_cancelled_task(doors: Doors) -> None:
    doors.fastpath.put("1.0.0", endless_model(), name="endless")
    gate = doors.fastpath.router.gate("endless")

    async def requests() -> Any:
        for model in ("scale", "nobody", "scale"):
            yield {"model_name": model, "inputs": sent(tritonclient.grpc.aio)}

    async def ask() -> None:
        async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{doors.grpc.port}") as client:
            answers = [
                error or result.as_numpy("y").tolist() async for result, error in client.stream_infer(requests())
            ]
            assert answers[0] == answers[2] == (ROW * 2).tolist()
            assert "no model named 'nobody'" in str(answers[1])
            task = asyncio.create_task(client.infer("endless", sent(tritonclient.grpc.aio)))
            while gate.in_flight_count == 0:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while gate.in_flight_count:
                await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(ask(), 30))
