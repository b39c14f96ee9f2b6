"""What a client calls its request is what a slow request's line calls it; and no more than that can be made of it."""

import http.client
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from edge_component.clock import ManualClock
from edge_component.contracts.heartbeat import ModelRef
from edge_component.observability.slow_requests import SlowLimits, SlowRequests
from edge_component.serving.oip_service import REQUEST_ID_CHARS_MAX
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.oip.test_doors import ROW, activate, wait_for
from tests.edge_component.serving.oip.test_http_abuse import GOOD

BODY = json.loads(GOOD)


def test_ids_reach_the_slow_requests_lines(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, free_port: int
) -> None:
    runtime = start_runtime(
        config={"oip_rest_port": free_port, "oip_grpc_socket": True, "slow_request_ms": 0.000001, "log_format": "json"}
    )
    wait_for(runtime.work / "oip-grpc.sock")
    activate(runtime, bundles, "1.0.0", 2.0)
    connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)

    def post(document: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        connection.request("POST", "/v2/models/scale/infer", json.dumps(document), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    assert post({**BODY, "id": "rest-body"})[1]["id"] == "rest-body"
    assert post({**BODY, "id": "rest-both"}, **{"X-Request-Id": "overruled"})[1]["id"] == "rest-both"
    assert "id" not in post(BODY, **{"X-Request-Id": "rest-header"})[1]
    wrong = {**BODY, "id": "rest-failed", "inputs": [{**BODY["inputs"][0], "datatype": "FP64"}]}
    assert post(wrong)[0] == 400
    long_id = "x" * 100_000
    assert post({**BODY, "id": long_id})[1]["id"] == long_id
    connection.close()
    client = tritonclient.grpc.InferenceServerClient(f"unix:{runtime.work / 'oip-grpc.sock'}")
    tensor = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
    assert client.infer("scale", [tensor], request_id="grpc-message").get_response().id == "grpc-message"
    assert client.infer("scale", [tensor], headers={"x-request-id": "grpc-metadata"}).get_response().id == ""
    with pytest.raises(InferenceServerException):
        client.infer("scale", [tritonclient.grpc.InferInput("x", [1, 3], "FP64").set_data_from_numpy(ROW.astype("f8"))],
                     request_id="grpc-failed")  # fmt: skip
    client.close()
    runtime.admin.flush()
    lines = [json.loads(line) for line in runtime.log_text().splitlines() if "slow request" in line]
    told = {line["request_id"]: line.get("error_code", "") for line in lines}
    assert told == {
        "rest-body": "", "rest-both": "", "rest-header": "", "rest-failed": "input-dtype",
        "x" * REQUEST_ID_CHARS_MAX: "", "grpc-message": "", "grpc-metadata": "", "grpc-failed": "input-dtype",
    }  # fmt: skip
    assert all(f"request {line['request_id']}" in line["message"] for line in lines)


@pytest.mark.parametrize("request_id", ["a\n2026 ERROR forged", "\x1b[2J", "\ud800", "\u202egnp"])
def test_an_id_makes_no_line_of_its_own(request_id: str, caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowRequests(SlowLimits(threshold_ms=1), ManualClock(datetime(2026, 3, 1, tzinfo=UTC)))
    with caplog.at_level(logging.WARNING):
        slow.counted(ModelRef("weather", "1.2.0", "a" * 64), [2_000.0], [""], [request_id])
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert record.getMessage().endswith(f"request {request_id!a}")
