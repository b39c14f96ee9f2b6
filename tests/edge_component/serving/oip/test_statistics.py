"""Where a request's time went: waiting counts apart from computing, and requests that are computed together are one run."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from edge_component.contracts.routes import BatchRule, ModelRules, RouteTable
from edge_component.inference.router import Router
from tests.edge_component.serving.oip.conftest import Doors, MakeDoors
from tests.edge_component.serving.oip.test_clients import ROW, ask
from tests.edge_component.serving.oip.test_extensions import active
from tests.edge_component.serving.test_fastpath_routes import closing_shadows
from tests.edge_component.waiting import wait_until

PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


def stats_of(doors: Doors, client: Any) -> Any:
    client.is_server_live()  # the record of the request before is made once its answer has left
    (found,) = client.get_inference_statistics("scale")["model_stats"]
    figures = found["inference_stats"]
    assert figures["success"]["ns"] == sum(figures[part]["ns"] for part in PARTS)
    assert {figures[part]["count"] for part in PARTS} == {figures["success"]["count"]}
    return found


def asking(doors: Doors, count: int) -> Callable[[], list[Any]]:
    def one(number: int) -> Any:
        with tritonclient.http.InferenceServerClient(f"localhost:{doors.rest.port}") as client:
            return ask(client, tritonclient.http, "scale", {"x": ("FP32", ROW * number)}).as_numpy("y")

    pool = ThreadPoolExecutor(count)
    answers = [pool.submit(one, number) for number in range(count)]
    return lambda: [answer.result(20) for answer in answers]


def test_what_waited_for_a_place_was_in_the_queue(doors: Doors, http_client: Any) -> None:
    ask(http_client, tritonclient.http, "scale", {"x": ("FP32", ROW)})
    before = stats_of(doors, http_client)
    assert before["execution_count"] == 1
    gate = active(doors).gate
    places = [gate.places.pop() for _ in range(len(gate.places))]
    answers = asking(doors, 1)
    wait_until(lambda: gate.waiting_count == 1)
    began_ns = time.perf_counter_ns()
    wait_until(lambda: time.perf_counter_ns() - began_ns > before["inference_stats"]["success"]["ns"])
    held_ns = time.perf_counter_ns() - began_ns
    for _ in places:
        gate.leave()
    answers()
    wait_until(lambda: stats_of(doors, http_client)["inference_count"] == 2)
    after = stats_of(doors, http_client)["inference_stats"]
    assert after["queue"]["ns"] - before["inference_stats"]["queue"]["ns"] >= held_ns


def test_requests_that_are_computed_together_are_one_execution(open_doors: MakeDoors) -> None:
    with closing_shadows() as equipment:
        doors = open_doors(router=Router(equipment=equipment))
        table = RouteTable(1, models={"scale": ModelRules(batch=BatchRule(4, 10_000_000))})
        doors.fastpath.router.set_table(table)
        for number, answer in enumerate(asking(doors, 4)()):
            np.testing.assert_array_equal(answer, ROW * number * 2)
        with tritonclient.http.InferenceServerClient(f"127.0.0.1:{doors.rest.port}") as client:
            wait_until(lambda: stats_of(doors, client)["inference_count"] == 4)
            stats = stats_of(doors, client)
        assert stats["execution_count"] == 1
        assert stats["inference_stats"]["queue"]["ns"] > 0, "for each other"


def test_a_request_that_never_ran_is_no_execution(doors: Doors, http_client: Any) -> None:
    ask(http_client, tritonclient.http, "scale", {"x": ("FP32", ROW)})
    for _ in range(2):
        with pytest.raises(InferenceServerException):
            ask(http_client, tritonclient.http, "scale", {"x": ("FP64", ROW.astype(np.float64))})
    stats = stats_of(doors, http_client)
    assert (stats["execution_count"], stats["inference_stats"]["fail"]["count"]) == (1, 2)
