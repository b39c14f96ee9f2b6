"""What travels: compressed bodies, classes instead of outputs, tensors without elements or dimensions, outputs that are chosen."""

import gzip
import json
import zlib
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from edge_component.contracts.manifest import TensorSpec
from edge_component.serving.http_coding import unpacked
from edge_component.serving.http_messages import HttpError
from edge_component.serving.oip_classification import classified
from edge_component.serving.oip_errors import OipUnsupportedError
from tests.edge_component.bundle_factory import serialized
from tests.edge_component.serving.oip.conftest import BODY_BYTES_MAX, Doors
from tests.edge_component.serving.oip.test_clients import ROW, client_of

DOORS = pytest.mark.parametrize("door", ["http", "grpc"])
GOOD = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress}


def sent(kind: Any, array: np.ndarray, datatype: str = "FP32") -> list[Any]:
    return [kind.InferInput("x", list(array.shape), datatype).set_data_from_numpy(array)]


@pytest.mark.parametrize("coding", sorted(PACKERS))
@pytest.mark.parametrize("binary", [True, False])
def test_the_http_client_may_compress(http_client: Any, coding: str, binary: bool) -> None:
    tensor = tritonclient.http.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(ROW, binary_data=binary)
    answer = http_client.infer(
        "scale", [tensor], request_compression_algorithm=coding, response_compression_algorithm=coding
    )
    np.testing.assert_array_equal(answer.as_numpy("y"), ROW * 2)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_the_grpc_client_may_compress(doors: Doors, coding: str) -> None:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{doors.grpc.port}") as client:
        answer = client.infer("scale", sent(tritonclient.grpc, ROW), compression_algorithm=coding)
    np.testing.assert_array_equal(answer.as_numpy("y"), ROW * 2)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", GOOD, 415),
        ("gzip, gzip", GOOD, 415),
        ("gzip", GOOD, 400),
        ("deflate", gzip.compress(GOOD), 400),
        ("gzip", gzip.compress(GOOD)[:-1], 400),
        ("gzip", gzip.compress(GOOD) + b"!", 400),
        ("gzip", b"", 400),
        ("gzip", gzip.compress(bytes(BODY_BYTES_MAX + 1)), 413),
        ("deflate", zlib.compress(bytes(50 * BODY_BYTES_MAX)), 413),
        ("gzip", gzip.compress(GOOD), 200),
        ("GZIP", gzip.compress(GOOD), 200),
        ("identity", GOOD, 200),
    ],
)
def test_bodies_that_unpack_to_what_they_should_not(doors: Doors, coding: str, body: bytes, status: int) -> None:
    assert doors.ask("POST", "/v2/models/scale/infer", body, Content_Encoding=coding)[0] == status
    assert doors.ask("POST", "/v2/models/scale/infer", GOOD)[0] == 200


@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=200))
def test_what_was_packed_is_unpacked(coding: str, body: bytes) -> None:
    packed = memoryview(PACKERS[coding](body))
    assert bytes(unpacked(packed, coding.encode(), len(body))) == body
    if body:
        with pytest.raises(HttpError, match="unpacks to more"):
            unpacked(packed, coding.encode(), len(body) - 1)


@DOORS
def test_classes_instead_of_an_output(doors: Doors, request: Any, door: str) -> None:
    client, kind = client_of(request, doors, door)
    rows = np.array([[0.5, 2, 1], [7, -7, 7]], np.float32)
    wanted = [kind.InferRequestedOutput("y", class_count=2)]
    answer = client.infer("scale", sent(kind, rows), outputs=wanted).as_numpy("y")
    assert [[text.decode() for text in row] for row in answer] == [
        ["4.000000:1", "2.000000:2"],
        ["14.000000:0", "14.000000:2"],
    ]
    named = doors.put_identity("INT8")
    answer = client.infer(named, sent(kind, np.array([[-3, 5]], np.int8), "INT8"), outputs=wanted).as_numpy("y")
    assert [text.decode() for text in answer.flat] == ["5:1", "-3:0"]
    with pytest.raises(InferenceServerException, match="y is BOOL, which has no highest values"):
        client.infer(doors.put_identity("BOOL"), sent(kind, np.array([[True]]), "BOOL"), outputs=wanted)


def test_classes_in_json(doors: Doors) -> None:
    wanted = {"outputs": [{"name": "y", "parameters": {"classification": 9}}]}
    status, body = doors.ask("POST", "/v2/models/scale/infer", json.dumps({**json.loads(GOOD), **wanted}).encode())
    assert (status, json.loads(body)["outputs"]) == (200, [
        {"name": "y", "datatype": "BYTES", "shape": [1, 3], "data": ["6.000000:2", "4.000000:1", "2.000000:0"]}
    ])  # fmt: skip


@given(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4)),
    st.integers(1, 5),
    st.booleans(),
)
def test_classes_are_the_highest_values_in_order(array: np.ndarray, count: int, batched: bool) -> None:
    texts = classified("y", "FP32", array, count, batched=batched)
    rows = array.reshape(array.shape[0], -1) if batched and array.size else array.reshape(1, -1)
    if not array.size:
        assert texts.size == 0
        return
    for row, told in zip(rows, texts.reshape(len(rows), -1), strict=True):
        indices = [int(text.rpartition(":")[2]) for text in told]
        assert len(set(indices)) == len(indices) == min(count, len(row))
        numbers = [-np.inf if np.isnan(row[index]) else row[index] for index in indices]
        assert numbers == sorted(numbers, reverse=True)
        left_out = np.delete(row, indices)
        assert all(np.isnan(value) or value <= numbers[-1] for value in left_out)


def test_text_has_no_highest_value() -> None:
    with pytest.raises(OipUnsupportedError, match="y is BYTES"):
        classified("y", "BYTES", np.array([["a"]], object), 1, batched=True)


@DOORS
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "BOOL"])
def test_tensors_without_elements(doors: Doors, request: Any, door: str, shape: tuple[int, int], datatype: str) -> None:
    client, kind = client_of(request, doors, door)
    empty = np.empty(shape, {"FP32": np.float32, "BYTES": object, "BOOL": bool}[datatype])
    answer = client.infer(doors.put_identity(datatype), sent(kind, empty, datatype))
    told = answer.get_output("y")
    assert tuple(told["shape"] if isinstance(told, dict) else told.shape) == shape
    found = answer.as_numpy("y")
    assert found is None or found.size == 0


@DOORS
def test_a_tensor_without_dimensions(doors: Doors, request: Any, door: str) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    spec = TensorSpec("x", "float32", ())
    doors.fastpath.put("1.0.0", serialized(graph), (spec,), (replace(spec, name="y"),), name="scalar")
    client, kind = client_of(request, doors, door)
    answer = client.infer("scalar", sent(kind, np.array(2.5, np.float32))).as_numpy("y")
    assert (answer.shape, float(answer)) == ((), -2.5)
    assert client.is_model_ready("scalar")
    config = client.get_model_config("scalar", **({"as_json": True} if door == "grpc" else {}))
    assert [int(size) for size in config.get("config", config)["input"][0]["dims"]] == [1]


@DOORS
def test_outputs_that_are_chosen(doors: Doors, request: Any, door: str) -> None:
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y", "z")}
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    specs = {name: TensorSpec(name, "float32", (-1, 3)) for name in tensors}
    graph = helper.make_graph(nodes, "g", [tensors["x"]], [tensors["y"], tensors["z"]])
    doors.fastpath.put("1.0.0", serialized(graph), (specs["x"],), (specs["y"], specs["z"]), name="two")
    client, kind = client_of(request, doors, door)
    both = client.infer("two", sent(kind, -ROW))
    np.testing.assert_array_equal(both.as_numpy("y"), both.as_numpy("z"))
    one = client.infer("two", sent(kind, -ROW), outputs=[kind.InferRequestedOutput("z")])
    np.testing.assert_array_equal(one.as_numpy("z"), ROW)
    assert one.as_numpy("y") is None
    swapped = client.infer("two", sent(kind, ROW), outputs=[kind.InferRequestedOutput(name) for name in ("z", "y")])
    np.testing.assert_array_equal(swapped.as_numpy("z"), ROW)
    np.testing.assert_array_equal(swapped.as_numpy("y"), -ROW)
    with pytest.raises(InferenceServerException, match=r"has the outputs \['y', 'z'\], not 'nothing'"):
        client.infer("two", sent(kind, ROW), outputs=[kind.InferRequestedOutput("nothing")])
    client.is_server_live()  # the record of the request before is made once its answer has left
    assert [record.code for record in doors.fastpath.sink.records] == [None] * 4, "the model answered the last one too"


@DOORS
@pytest.mark.parametrize("what", ["inputs", "outputs"])
def test_a_tensor_that_is_named_twice_is_refused_by_its_name(doors: Doors, request: Any, door: str, what: str) -> None:
    """Each may be wanted in another way: in classes, in shared memory. Which one is meant is not for us to guess."""
    client, kind = client_of(request, doors, door)
    inputs = sent(kind, ROW) * (2 if what == "inputs" else 1)
    outputs = [kind.InferRequestedOutput("y"), kind.InferRequestedOutput("y", class_count=1)]
    with pytest.raises(InferenceServerException, match=rf"{what} name '[xy]' twice") as refusal:
        client.infer("scale", inputs, outputs=outputs[: 2 if what == "outputs" else 1])
    assert refusal.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert client.infer("scale", sent(kind, ROW), outputs=outputs[:1]).as_numpy("y") is not None


@DOORS
@pytest.mark.parametrize("where", ["an input", "an output"])
def test_a_long_name_is_not_sent_back(doors: Doors, request: Any, door: str, where: str) -> None:
    client, kind = client_of(request, doors, door)
    name = "\1" * 300_000
    tensors = sent(kind, ROW)
    if where == "an input":
        tensors = [kind.InferInput(name, [1, 3], "FP32").set_data_from_numpy(ROW)]
    outputs = [kind.InferRequestedOutput(name if where == "an output" else "y")]
    with pytest.raises(InferenceServerException) as refusal:
        client.infer("scale", tensors, outputs=outputs)
    assert 20 < len(refusal.value.message()) < 5_000
    assert refusal.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


@pytest.mark.parametrize("beside", ["raw_input_contents", "shared memory"])
def test_a_tensor_that_is_sent_in_two_ways_is_refused(doors: Doors, beside: str) -> None:
    """They may differ, and one of them would be passed over."""
    asked = service_pb2.ModelInferRequest(model_name="scale")
    tensor = asked.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([1, 2, 3])
    if beside == "shared memory":
        tensor.parameters["shared_memory_region"].string_param = "r"
    else:
        asked.raw_input_contents.append(ROW.tobytes())
    with grpc.insecure_channel(f"127.0.0.1:{doors.grpc.port}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError, match=f"x is sent in contents and in {beside}") as refusal:
            infer(asked.SerializeToString())
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        tensor.ClearField("parameters")
        tensor.ClearField("contents")
        tensor.contents.SetInParent()  # there, and empty
        del asked.raw_input_contents[:]
        asked.raw_input_contents.append(ROW.tobytes())
        answer = service_pb2.ModelInferResponse.FromString(infer(asked.SerializeToString()))
    assert answer.raw_output_contents[0] == (ROW * 2).tobytes()
