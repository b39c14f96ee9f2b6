"""REST as any HTTP client speaks it: JSON in and out, mixtures with binary, and each message that is none."""

import json
from typing import Any

import numpy as np
import pytest

from edge_component.inference.router import Totals
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.oip.conftest import Doors, UnixHttp

EMPTY = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
INPUT = {**EMPTY, "data": [1, 2, 3]}


def infer(doors: Doors, document: Any, model: str = "scale", **headers: str) -> tuple[int, dict[str, Any]]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    status, answer = doors.ask("POST", f"/v2/models/{model}/infer", body, **headers)
    return status, json.loads(answer)


def test_plain_json_over_tcp_and_over_a_unix_socket(doors: Doors) -> None:
    status, answer = infer(doors, {"id": "7", "inputs": [INPUT]})
    assert (status, answer["id"]) == (200, "7")
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 4.0, 6.0]}]
    client = UnixHttp(doors.rest_path)
    client.request("POST", "/v2/models/scale/versions/1.0.0/infer", json.dumps({"inputs": [INPUT]}))
    assert json.loads(client.getresponse().read())["outputs"][0]["data"] == [2.0, 4.0, 6.0]
    client.close()


def test_nested_data_is_the_same_tensor(doors: Doors) -> None:
    nested = {**INPUT, "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}
    assert infer(doors, {"inputs": [nested]})[1]["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


def test_half_floats_have_a_json_form_and_bfloat16_has_none(doors: Doors) -> None:
    halves = {"name": "x", "datatype": "FP16", "shape": [1, 2], "data": [1.5, -2]}
    assert infer(doors, {"inputs": [halves]}, doors.put_identity("FP16"))[1]["outputs"][0]["data"] == [1.5, -2.0]
    status, answer = infer(doors, {"inputs": [{**halves, "datatype": "BF16"}]}, doors.put_identity("BF16"))
    assert (status, answer["code"]) == (501, "oip-unsupported")


def test_binary_outputs_of_a_json_request(doors: Doors) -> None:
    body = json.dumps({"inputs": [INPUT], "parameters": {"binary_data_output": True}}).encode()
    connection = doors.http()
    connection.request("POST", "/v2/models/scale/infer", body)
    answer = connection.getresponse()
    json_bytes = int(answer.headers["Inference-Header-Content-Length"])
    content = answer.read()
    connection.close()
    assert json.loads(content[:json_bytes])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(content[json_bytes:], np.float32).tolist() == [2.0, 4.0, 6.0]


def test_the_same_json_with_other_tensors_behind_it(doors: Doors) -> None:
    """A connection reads a repeated head once; what is not in it is read each time, and so is what only looks alike."""
    given = {**INPUT, "parameters": {"binary_data_size": 12}}
    del given["data"]
    head = json.dumps({"inputs": [given]}).encode()
    connection = doors.http()

    def ask(tensor: bytes, text: bytes = head, **headers: str) -> tuple[int, dict[str, Any]]:
        length = {"Inference-Header-Content-Length": str(len(text))}
        connection.request("POST", "/v2/models/scale/infer", text + tensor, {**length, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    for number in range(4):
        row = np.full(3, number, np.float32)
        assert ask(row.tobytes())[1]["outputs"][0]["data"] == (row * 2).tolist()
    for wrong in (b"", b"1234", b"0123456789abcdef"):
        status, answer = ask(wrong)
        assert (status, "binary" in answer["error"]) == (400, True)
        assert ask(row.tobytes())[0] == 200
    assert ask(row.tobytes(), head.replace(b"[1, 3]", b"[3, 1]"))[0] == 400
    for number in (5, 6):  # a head with its tensor inside comes again only with the same tensor
        whole = json.dumps({"inputs": [{**INPUT, "data": [number] * 3}]}).encode()
        assert ask(b"", whole)[1]["outputs"][0]["data"] == [number * 2.0] * 3
    assert ask(row.tobytes())[1]["outputs"][0]["data"] == (row * 2).tolist()
    connection.close()


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_binary_inputs_at_every_alignment(doors: Doors, length: int) -> None:
    """A crooked UINT8 tensor before it cannot make a float tensor be read wrongly."""
    document = {
        "id": "i" * length,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}],
    }
    head = json.dumps(document).encode()
    body = head + np.array([1, 2, 3], np.float32).tobytes()
    status, answer = infer(doors, body, Inference_Header_Content_Length=str(len(head)))
    assert (status, answer["outputs"][0]["data"]) == (200, [2.0, 4.0, 6.0])


MALFORMED: list[tuple[Any, int, str]] = [
    (b"{", 400, "JSON cannot be read"),
    (b"[" * 100_000, 400, "JSON cannot be read"),
    (b"\xff\xfe\x00", 400, "JSON cannot be read"),
    ([], 400, "must be a JSON object"),
    ({"inputs": {}}, 400, "inputs must be an array"),
    ({"inputs": [1]}, 400, "inputs must be an array of objects"),
    ({"inputs": []}, 400, "the model takes"),
    ({"inputs": [INPUT, INPUT]}, 400, "inputs name 'x' twice"),
    ({"inputs": [{**INPUT, "name": ""}]}, 400, "an input has no name"),
    ({"inputs": [{"name": "x", "shape": [1]}]}, 400, "x needs a datatype and a shape"),
    ({"inputs": [{**INPUT, "datatype": "FP8"}]}, 400, "x: datatype 'FP8' is none of"),
    ({"inputs": [{**INPUT, "shape": [-1, 3]}]}, 400, "x: shape must hold whole numbers"),
    ({"inputs": [{**INPUT, "shape": [1, 4]}]}, 400, "x: 3 values; shape [1, 4] takes 4"),
    ({"inputs": [{**INPUT, "shape": [0, *[2**31 - 1] * 3], "data": []}]}, 400, "x: shape [0, 2147483647,"),
    ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3]}]}, 400, "x has neither data"),
    ({"inputs": [{**INPUT, "parameters": []}]}, 400, "x: parameters must be an object"),
    ({"inputs": [{**EMPTY, "parameters": {"binary_data_size": 12}}]}, 400, "0 bytes are left in the body"),
    ({"inputs": [{**INPUT, "parameters": {"binary_data_size": 0}}]}, 400, "x is sent in data and in binary_data_size"),
    (
        {"inputs": [{**INPUT, "parameters": {"shared_memory_region": "r"}}]},
        400,
        "x is sent in data and in shared memory",
    ),
    ({"inputs": [{**INPUT, "parameters": {"binary_data_size": -1}}]}, 400, "must be a number of bytes"),
    ({"id": 7, "inputs": [INPUT]}, 400, "id must be text"),
    ({"inputs": [INPUT], "outputs": [{"name": "z"}]}, 400, "not 'z'"),
    ({"inputs": [INPUT], "outputs": [{}]}, 400, "an output has no name"),
    (
        {"inputs": [INPUT], "outputs": [{"name": "y", "parameters": {"classification": -1}}]},
        400,
        "must be a number of classes",
    ),
    ({"inputs": [INPUT], "parameters": {"sequence_id": 5.5}}, 400, "sequence_id must be"),
    ({"inputs": [INPUT], "parameters": {"timeout": "1"}}, 400, "number of microseconds"),
    ({"inputs": [INPUT], "parameters": {"edgewright_key": 1}}, 400, "edgewright_key must be text"),
    ({"inputs": [{**EMPTY, "parameters": {"shared_memory_region": "r"}}]}, 400, "shared_memory_region"),
]


@pytest.mark.parametrize(("document", "status", "told"), MALFORMED)
def test_what_is_wrong_is_named(doors: Doors, document: Any, status: int, told: str) -> None:
    found, answer = infer(doors, document)
    assert (found, told in answer["error"]) == (status, True), answer


def test_binary_data_that_belongs_to_nobody(doors: Doors) -> None:
    head = json.dumps({"inputs": [INPUT]}).encode()
    status, answer = infer(doors, head + b"1234", Inference_Header_Content_Length=str(len(head)))
    assert (status, "4 bytes of binary data belong to no input" in answer["error"]) == (400, True)
    status, answer = infer(doors, head, Inference_Header_Content_Length=str(len(head) + 1))
    assert (status, "Inference-Header-Content-Length is" in answer["error"]) == (400, True)


def test_nan_goes_out_in_binary_only(doors: Doors) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[NaN,1,2]}]}'
    status, answer = infer(doors, body)
    assert (status, "holds NaN" in answer["error"], "binary_data" in answer["error"]) == (501, True, True)
    (record,) = doors.fastpath.sink.records
    assert (record.code, np.isnan(record.outputs["y"]).sum()) == (None, 1), "what the model answers is seen"
    assert doors.behind.repository.statistics("scale", "")["model_stats"][0]["inference_count"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/v2/models/scale/infer", 405, "takes POST"),
        ("POST", "/v2/health/live", 405, "takes GET"),
        ("GET", "/", 404, "no part of"),
        ("GET", "/v2/models/scale/nothing", 404, "no part of"),
        ("DELETE", "/v2/models/scale", 405, "takes GET"),
        ("GET", "/v2/models/nobody", 404, "no model named 'nobody'"),
        ("GET", "/v2/models/scale/versions/7.7.7", 404, "version 7.7.7"),
    ],
)
def test_paths(doors: Doors, method: str, path: str, status: int, told: str) -> None:
    found, answer = doors.ask(method, path)
    assert (found, told in json.loads(answer)["error"]) == (status, True), answer


def test_models_whose_names_must_be_escaped(doors: Doors) -> None:
    doors.fastpath.put("1.0.0", (doors.folder / "scale-1.0.0.onnx").read_bytes(), name="a b")
    assert doors.ask("GET", "/v2/models/a%20b/ready") == (200, b'{"name":"a b","ready":true}')


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_a_web_page_cannot_reach_the_door_by_another_name(doors: Doors, host: str) -> None:
    assert doors.ask("GET", "/v2", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]", "[::1]:8000"])
def test_loopback_names_are_served(doors: Doors, host: str) -> None:
    assert doors.ask("GET", "/v2", Host=host)[0] == 200


def test_a_deadline_stops_the_run(doors: Doors) -> None:
    doors.fastpath.put("1.0.0", endless_model(), name="endless")
    status, answer = infer(doors, {"inputs": [INPUT], "parameters": {"timeout": 200_000}}, "endless")
    assert (status, answer["code"]) == (504, "deadline-exceeded")
    assert infer(doors, {"inputs": [INPUT]})[0] == 200
    assert doors.fastpath.router.totals("endless") == Totals(), "a deadline that short says nothing about the model"


def test_a_request_waits_for_its_place_as_long_as_its_deadline_allows(doors: Doors) -> None:
    gate = doors.fastpath.router.active("scale").gate
    for _ in range(gate.limits.in_flight_max):
        gate.enter(1.0)
    status, answer = infer(doors, {"inputs": [INPUT], "parameters": {"timeout": 100_000}})
    assert (status, answer["code"]) == (504, "deadline-exceeded")
    for _ in range(gate.limits.in_flight_max):
        gate.leave()
    assert infer(doors, {"inputs": [INPUT]})[0] == 200
