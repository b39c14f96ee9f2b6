"""A client that no longer waits: its run is stopped, its place is free again, and the model is not blamed."""

import json
import threading
import time
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from edge_component.clock import SystemClock
from edge_component.contracts.routes import BatchRule
from edge_component.inference.batching import Batcher
from edge_component.inference.deadline import DeadlineWatch, Leash
from edge_component.inference.errors import RunDeadlineError
from edge_component.inference.router import Totals
from edge_component.inference.versions import NO_TURN, ActiveModel
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.oip.conftest import Doors, UnixHttp
from tests.edge_component.serving.oip.test_clients import ROW
from tests.edge_component.waiting import wait_until

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
WAIT_S = 20.0


@pytest.fixture
def endless(doors: Doors) -> ActiveModel:
    """A model that never comes to an end by itself; its place."""
    doors.fastpath.put("1.0.0", endless_model(), name="endless")
    active = doors.fastpath.router.active("endless")
    assert active is not None
    return active


@pytest.fixture
def grpc(doors: Doors) -> Any:
    client = tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}")
    yield client
    client.close()


def ended(doors: Doors, endless: ActiveModel) -> str | None:
    """How the one request ended, once its run has."""
    wait_until(lambda: endless.gate.in_flight_count == 0 and bool(doors.fastpath.sink.records))
    (record,) = doors.fastpath.sink.records
    return record.code


def sent(kind: Any) -> list[Any]:
    return [kind.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)]


def test_a_call_that_is_cancelled_ends_its_run(doors: Doors, endless: ActiveModel, grpc: Any) -> None:
    told: list[Any] = []
    call = grpc.async_infer("endless", sent(tritonclient.grpc), lambda result, error: told.append(error or result))
    wait_until(lambda: endless.gate.in_flight_count == 1)
    call.cancel()
    assert ended(doors, endless) == "cancelled"
    wait_until(lambda: bool(told))
    assert told[0].status() == "StatusCode.CANCELLED"
    assert doors.fastpath.router.totals("endless") == Totals()
    assert grpc.infer("scale", sent(tritonclient.grpc)).as_numpy("y").tolist() == (ROW * 2).tolist()


def test_a_call_whose_deadline_passes_ends_its_run(doors: Doors, endless: ActiveModel, grpc: Any) -> None:
    with pytest.raises(InferenceServerException) as late:  # in our words or in grpc's own: both ends watch the clock
        grpc.infer("endless", sent(tritonclient.grpc), client_timeout=0.3)
    assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert ended(doors, endless) in ("deadline-exceeded", "cancelled"), "which of the two ends noticed first"
    assert doors.fastpath.router.totals("endless") == Totals(), "a deadline that short says nothing about the model"


def test_a_stream_that_is_cancelled_ends_its_run(doors: Doors, endless: ActiveModel, grpc: Any) -> None:
    grpc.start_stream(lambda result, error: None)
    grpc.async_stream_infer("endless", sent(tritonclient.grpc))
    wait_until(lambda: endless.gate.in_flight_count == 1)
    grpc.stop_stream(cancel_requests=True)
    assert ended(doors, endless) == "cancelled"


@pytest.mark.parametrize("place", ["tcp", "unix"])
def test_an_http_client_that_hangs_up_ends_its_run(doors: Doors, endless: ActiveModel, place: str) -> None:
    client = doors.http() if place == "tcp" else UnixHttp(doors.rest_path)
    client.request("POST", "/v2/models/endless/infer", BODY)
    wait_until(lambda: endless.gate.in_flight_count == 1)
    client.close()
    assert ended(doors, endless) == "cancelled"
    assert doors.fastpath.router.totals("endless") == Totals()


def test_a_request_timeout_of_the_http_client_ends_the_run(doors: Doors, endless: ActiveModel) -> None:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{doors.rest.port}", network_timeout=0.3)
    with pytest.raises(TimeoutError):
        client.infer("endless", sent(tritonclient.http))
    client.close()
    assert ended(doors, endless) == "cancelled"


def test_a_door_that_stops_finishes_what_is_under_way(doors: Doors, endless: ActiveModel) -> None:
    client = doors.http()
    client.request("POST", "/v2/models/endless/infer", BODY[:-1] + b', "parameters": {"timeout": 500000}}')
    wait_until(lambda: endless.gate.in_flight_count == 1)
    doors.rest.stop(WAIT_S)
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (504, "deadline-exceeded")
    client.close()


@pytest.mark.parametrize("asked", ["is_wanted", "is_there"])
def test_a_batch_outlives_the_caller_who_leads_it(endless: ActiveModel, asked: str) -> None:
    """Two requests are computed together by the first one's thread; nobody waits for that one."""
    batcher = Batcher(endless.session, BatchRule(4, 200_000))
    watch = DeadlineWatch(SystemClock())
    watch.start()
    leader = watch.leash()
    setattr(leader, asked, lambda: False)
    took_s: list[float] = []

    def ask(leash: Leash) -> None:
        began_s = time.monotonic()
        with pytest.raises(RunDeadlineError):
            batcher.run({"x": ROW}, leash, 1.0, NO_TURN)
        took_s.append(time.monotonic() - began_s)

    threads = [threading.Thread(target=ask, args=(leash,)) for leash in (leader, watch.leash())]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(WAIT_S)
    watch.stop()
    assert len(took_s) == 2
    assert min(took_s) > 0.5


def test_an_answer_is_an_answer_as_long_as_somebody_waits(doors: Doors, grpc: Any) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(grpc.infer("scale", sent(tritonclient.grpc)).as_numpy("y"), ROW * 2)
    wait_until(lambda: len(doors.fastpath.sink.records) == 3)  # the last one's is made once its answer has left
    assert [record.code for record in doors.fastpath.sink.records] == [None, None, None]
