"""The protocol as its real client speaks it: the same calls over HTTP and gRPC, the same answers as the fast path."""

import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.edge_component.serving.oip.conftest import ELEMENT_TYPES, Doors

ROW = np.array([[1, 2, 3]], np.float32)

SAMPLES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False, True]]),
    "FP16": np.array([[1.5, -0.0, 65504.0]], np.float16),
    "FP32": np.array([[1.5, np.pi, -1e30]], np.float32),
    "FP64": np.array([[1.5, np.pi, -1e300]]),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-32768, 0, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 65535]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 1, 2**64 - 1]], np.uint64),
}

HALVES = np.array([[1.0, -2.5, 0.1]], ml_dtypes.bfloat16)

JSON_TYPES = sorted(SAMPLES.keys() - {"FP16"})  # tritonclient itself refuses FP16 in JSON


def ask(client: Any, kind: Any, name: str, tensors: dict[str, tuple[str, np.ndarray]], **options: Any) -> Any:
    inputs = []
    for tensor, (datatype, array) in tensors.items():
        sent = kind.InferInput(tensor, list(array.shape), datatype)
        if kind is tritonclient.http:
            sent.set_data_from_numpy(array, binary_data=options.get("binary", True))
        else:
            sent.set_data_from_numpy(array)
        inputs.append(sent)
    outputs = None
    if kind is tritonclient.http:
        outputs = [tritonclient.http.InferRequestedOutput("y", binary_data=options.get("binary", True))]
    return client.infer(name, inputs, outputs=outputs, model_version=options.get("version", ""), request_id="r1")


def test_what_is_kept_of_an_answer_says_what_each_answer_says(doors: Doors, http_client: Any) -> None:
    """An answer's JSON is kept where it has no id; one with an id is written anew each time."""

    def described(rows: int, request_id: str) -> dict[str, Any]:
        sent = tritonclient.http.InferInput("x", [rows, 3], "FP32").set_data_from_numpy(np.repeat(ROW, rows, 0))
        answer = http_client.infer("scale", [sent], request_id=request_id)
        assert answer.as_numpy("y").shape == (rows, 3)
        response: dict[str, Any] = answer.get_response()
        assert response.pop("id", "") == request_id
        return response

    for version in ("1.0.0", "1.1.0"):
        for rows in (1, 2, 1, 2):
            response = described(rows, "")
            assert response == described(rows, "7")
            assert response["model_version"] == version
            assert response["outputs"][0]["parameters"] == {"binary_data_size": rows * 12}
        doors.fastpath.scale("1.1.0", 3.0)


def test_every_description_over_http(doors: Doors, http_client: Any) -> None:
    assert http_client.is_server_live()
    assert http_client.is_server_ready()
    assert http_client.is_model_ready("scale")
    assert http_client.is_model_ready("scale", "1.0.0")
    assert not http_client.is_model_ready("nobody")
    assert http_client.get_server_metadata() == {
        "name": "edgewright",
        "version": "1.0.0",
        "extensions": [
            "binary_tensor_data", "classification", "model_configuration", "model_repository", "sequence",
            "statistics", "system_shared_memory",
        ],
    }  # fmt: skip
    tensor = {"datatype": "FP32", "shape": [-1, 3]}
    assert http_client.get_model_metadata("scale", "1.0.0") == {
        "name": "scale", "versions": ["1.0.0"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}],
    }  # fmt: skip
    config = http_client.get_model_config("scale")
    assert config["max_batch_size"] == 4096
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3], "format": "FORMAT_NONE"}]
    assert http_client.get_model_repository_index() == [
        {"name": "scale", "version": "1.0.0", "state": "READY", "reason": ""}
    ]


def test_every_description_over_grpc(doors: Doors, grpc_client: Any) -> None:
    assert grpc_client.is_server_live()
    assert grpc_client.is_server_ready()
    assert grpc_client.is_model_ready("scale")
    assert not grpc_client.is_model_ready("scale", "9.9.9")
    assert grpc_client.get_server_metadata().name == "edgewright"
    metadata = grpc_client.get_model_metadata("scale", "1.0.0")
    assert list(metadata.versions) == ["1.0.0"]
    assert (metadata.inputs[0].datatype, list(metadata.inputs[0].shape)) == ("FP32", [-1, 3])
    config = grpc_client.get_model_config("scale").config
    assert (config.backend, config.max_batch_size, list(config.output[0].dims)) == ("onnxruntime", 4096, [3])
    assert [model.state for model in grpc_client.get_model_repository_index().models] == ["READY"]


@pytest.mark.parametrize("datatype", sorted(SAMPLES))
def test_each_type_is_the_fast_paths_answer(doors: Doors, http_client: Any, grpc_client: Any, datatype: str) -> None:
    name, sample = doors.put_identity(datatype), SAMPLES[datatype]
    expected = doors.fastpath.client().infer(name, {"x": sample}).outputs["y"]
    for client, kind in ((http_client, tritonclient.http), (grpc_client, tritonclient.grpc)):
        answer = ask(client, kind, name, {"x": (datatype, sample)}).as_numpy("y")
        assert answer.dtype == expected.dtype
        assert answer.tobytes() == expected.tobytes()


@pytest.mark.parametrize("datatype", JSON_TYPES)
def test_each_type_in_json(doors: Doors, http_client: Any, datatype: str) -> None:
    name, sample = doors.put_identity(datatype), SAMPLES[datatype]
    answer = ask(http_client, tritonclient.http, name, {"x": (datatype, sample)}, binary=False)
    np.testing.assert_array_equal(answer.as_numpy("y"), sample)


@pytest.mark.parametrize("binary", [True, False])
def test_strings_over_http(doors: Doors, http_client: Any, binary: bool) -> None:
    name = doors.put_identity("BYTES")
    texts = np.array([["", "a", "grün\0"]], object)
    answer = ask(http_client, tritonclient.http, name, {"x": ("BYTES", texts)}, binary=binary).as_numpy("y")
    assert [text.decode() if isinstance(text, bytes) else text for text in answer.flat] == texts.flatten().tolist()


def test_strings_and_bfloat16_over_grpc(doors: Doors, grpc_client: Any) -> None:
    texts = np.array([["", "a", "grün\0"]], object)
    answer = ask(grpc_client, tritonclient.grpc, doors.put_identity("BYTES"), {"x": ("BYTES", texts)}).as_numpy("y")
    assert [text.decode() for text in answer.flat] == texts.flatten().tolist()
    answer = ask(grpc_client, tritonclient.grpc, doors.put_identity("BF16"), {"x": ("BF16", HALVES)}).as_numpy("y")
    assert answer.tobytes() == HALVES.tobytes()


def test_bfloat16_over_http(doors: Doors, http_client: Any) -> None:
    answer = ask(http_client, tritonclient.http, doors.put_identity("BF16"), {"x": ("BF16", HALVES)}).as_numpy("y")
    assert answer.tobytes() == HALVES.tobytes()


def test_the_fast_path_says_that_it_does_not_carry_strings(doors: Doors) -> None:
    with pytest.raises(Exception, match="does not carry"):
        doors.fastpath.client().infer(doors.put_identity("BYTES"), {"x": np.zeros((1, 1), np.uint8)})


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_who_answered_is_told_and_versions_can_be_asked_for(doors: Doors, request: Any, door: str) -> None:
    client, kind = client_of(request, doors, door)
    answer = ask(client, kind, "scale", {"x": ("FP32", ROW)}, version="1.0.0")
    np.testing.assert_array_equal(answer.as_numpy("y"), ROW * 2)
    told = answer.get_response()
    told = (
        told if isinstance(told, dict) else {key: getattr(told, key) for key in ("model_name", "model_version", "id")}
    )
    assert (told["model_name"], told["model_version"], told["id"]) == ("scale", "1.0.0", "r1")
    doors.fastpath.scale("2.0.0", 3.0)
    np.testing.assert_array_equal(ask(client, kind, "scale", {"x": ("FP32", ROW)}).as_numpy("y"), ROW * 3)
    with pytest.raises(InferenceServerException, match=r"version 1\.0\.0 of 'scale' is not on this device"):
        ask(client, kind, "scale", {"x": ("FP32", ROW)}, version="1.0.0")


REFUSED = [
    ("nobody", {"x": ("FP32", ROW)}, ("404", "StatusCode.NOT_FOUND"), "no model named 'nobody'"),
    ("scale@", {"x": ("FP32", ROW)}, ("404", "StatusCode.NOT_FOUND"), "'scale@' asks for a version and names none"),
    ("scale", {"z": ("FP32", ROW)}, ("400", "StatusCode.INVALID_ARGUMENT"), "takes"),
    ("scale", {"x": ("FP64", ROW.astype(np.float64))}, ("400", "StatusCode.INVALID_ARGUMENT"), "x is sent as FP64, the model takes FP32"),
    ("scale", {"x": ("FP32", ROW[:, :2].copy())}, ("400", "StatusCode.INVALID_ARGUMENT"), "x has shape"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "tensors", "statuses", "told"), REFUSED)
@pytest.mark.parametrize("door", ["http", "grpc"])
def test_refusals_have_a_status_a_reason_and_a_remedy(
    doors: Doors, request: Any, door: str, name: str, tensors: Any, statuses: tuple[str, str], told: str
) -> None:
    client, kind = client_of(request, doors, door)
    with pytest.raises(InferenceServerException, match=told) as refusal:
        ask(client, kind, name, tensors)
    assert refusal.value.status() in statuses
    np.testing.assert_array_equal(ask(client, kind, "scale", {"x": ("FP32", ROW)}).as_numpy("y"), ROW * 2)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_load_says_whether_it_serves_and_unload_is_refused(doors: Doors, request: Any, door: str) -> None:
    client, kind = client_of(request, doors, door)
    client.load_model("scale")
    with pytest.raises(InferenceServerException, match="no model named 'nobody'"):
        client.load_model("nobody")
    with pytest.raises(InferenceServerException, match="a deployment brought it"):
        client.unload_model("scale")
    np.testing.assert_array_equal(ask(client, kind, "scale", {"x": ("FP32", ROW)}).as_numpy("y"), ROW * 2)


def test_statistics_count_what_came_through_these_doors(doors: Doors, http_client: Any, grpc_client: Any) -> None:
    for _ in range(3):
        ask(http_client, tritonclient.http, "scale", {"x": ("FP32", ROW)})
    ask(grpc_client, tritonclient.grpc, "scale", {"x": ("FP32", ROW)})
    grpc_client.is_server_live()  # the record of the request before is made once its answer has left
    with pytest.raises(InferenceServerException):
        ask(http_client, tritonclient.http, "scale", {"x": ("FP64", ROW.astype(np.float64))})
    doors.fastpath.client().infer("scale", {"x": ROW})
    (stats,) = http_client.get_inference_statistics("scale")["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("scale", "1", 4)
    assert stats["inference_stats"]["success"]["count"] == 4
    assert stats["inference_stats"]["success"]["ns"] >= stats["inference_stats"]["compute_infer"]["ns"] > 0
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert stats["last_inference"] > 1_700_000_000_000
    assert grpc_client.get_inference_statistics().model_stats[0].inference_count == 4


def test_the_router_and_telemetry_see_these_doors(doors: Doors, http_client: Any, grpc_client: Any) -> None:
    ask(http_client, tritonclient.http, "scale", {"x": ("FP32", ROW)})
    ask(grpc_client, tritonclient.grpc, "scale", {"x": ("FP32", ROW)})
    grpc_client.is_server_live()  # the record of the request before is made once its answer has left
    with pytest.raises(InferenceServerException):
        ask(http_client, tritonclient.http, "scale", {"x": ("FP32", ROW[0])})
    http_client.is_server_live()  # as above
    assert [record.code for record in doors.fastpath.sink.records] == [None, None, "input-shape"]
    assert doors.fastpath.sink.records[0].inputs["x"].tolist() == ROW.tolist()
    assert doors.fastpath.router.totals("scale").answered_count == 2


def test_a_stream_answers_in_order_and_survives_an_error(doors: Doors, grpc_client: Any) -> None:
    answers: list[Any] = []
    done = threading.Semaphore(0)

    def received(result: Any, error: Any) -> None:
        answers.append(error or result)
        done.release()

    grpc_client.start_stream(received)
    for name in ("scale", "nobody", "scale"):
        sent = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
        grpc_client.async_stream_infer(name, [sent])
    for _ in range(3):
        assert done.acquire(timeout=20)
    grpc_client.stop_stream()
    np.testing.assert_array_equal(answers[0].as_numpy("y"), ROW * 2)
    assert "no model named 'nobody'" in str(answers[1])
    np.testing.assert_array_equal(answers[2].as_numpy("y"), ROW * 2)


def test_a_streams_requests_are_each_timed_from_their_own_arrival(doors: Doors, grpc_client: Any) -> None:
    answered = threading.Semaphore(0)
    began_ns = time.perf_counter_ns()
    grpc_client.start_stream(lambda result, error: answered.release())
    for _ in range(20):
        sent = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
        grpc_client.async_stream_infer("scale", [sent])
        assert answered.acquire(timeout=20)
    grpc_client.stop_stream()
    (stats,) = grpc_client.get_inference_statistics("scale").model_stats
    took_ns = time.perf_counter_ns() - began_ns
    assert stats.inference_stats.success.count >= 19
    assert stats.inference_stats.success.ns <= took_ns, (
        "one after the other they cannot have taken longer than all of it"
    )


def client_of(request: Any, doors: Doors, door: str) -> tuple[Any, Any]:
    if door == "http":
        return request.getfixturevalue("http_client"), tritonclient.http
    client = tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}")
    request.addfinalizer(client.close)
    return client, tritonclient.grpc


def test_all_types_of_the_protocol_are_tried() -> None:
    assert set(SAMPLES) | {"BYTES", "BF16"} == set(ELEMENT_TYPES)
