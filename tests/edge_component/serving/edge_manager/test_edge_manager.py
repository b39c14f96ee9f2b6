"""The agent's API through two clients of the tests' own: one that protoc generates from the documented field numbers,
and one that writes the wire format by hand."""

import ctypes
import importlib
import json
import os
import struct
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import pytest

from edge_component.contracts.manifest import TensorSpec
from edge_component.serving import sysv_memory
from edge_component.serving.access import OWNER_ONLY
from edge_component.serving.edge_manager_capture import CaptureStatus
from edge_component.serving.edge_manager_errors import SegmentForeignError
from edge_component.serving.edge_manager_grpc import EdgeManagerDoor, EdgeManagerParts
from edge_component.serving.sysv_memory import read_segment
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.conftest import Door, MakeDoor

PROTO = Path(__file__).with_name("documented_agent.proto")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
FLOAT32, WAIT_S = 5, 15.0


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """What protoc makes of the documentation's proto."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed: make test installs it")
    folder = tmp_path_factory.mktemp("generated")
    assert protoc.main(["protoc", f"--proto_path={PROTO.parent}", f"--python_out={folder}", str(PROTO)]) == 0
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("documented_agent_pb2")
    finally:
        sys.path.remove(str(folder))


@dataclass
class AgentClient:
    """As the agent's generated stub, with the seven documented methods."""

    channel: grpc.Channel
    messages: ModuleType

    def call(self, method: str, timeout: float = WAIT_S, **fields: Any) -> Any:
        request = getattr(self.messages, f"{method}Request")(**fields)
        response = getattr(self.messages, f"{method}Response")
        path = f"/AWS.SageMaker.Edge.Agent/{method}"
        return self.channel.unary_unary(path, type(request).SerializeToString, response.FromString)(request, timeout)

    def tensor(self, array: np.ndarray, name: str = "x", data_type: int = FLOAT32) -> Any:
        metadata = self.messages.TensorMetadata(name=name, data_type=data_type, shape=array.shape)
        return self.messages.Tensor(tensor_metadata=metadata, byte_data=array.tobytes())

    def refused(self, method: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as refusal:
            self.call(method, **fields)
        return refusal.value.code(), refusal.value.details()


@dataclass
class Migration:
    door: Door
    client: AgentClient
    listener: EdgeManagerDoor


@pytest.fixture
def open_migration(open_door: MakeDoor, agent: ModuleType) -> Iterator[Callable[..., Migration]]:
    opened: list[tuple[grpc.Channel, EdgeManagerDoor]] = []

    def make(capture_bytes_max: int = 1_000_000) -> Migration:
        door = open_door()
        listener = EdgeManagerDoor(
            EdgeManagerParts(door.folder, door.serving, OWNER_ONLY, capture_bytes_max, lambda: NOW)
        )
        listener.open()
        channel = grpc.insecure_channel(f"unix:{door.folder / 'edge-manager.sock'}")
        opened.append((channel, listener))
        return Migration(door, AgentClient(channel, agent), listener)

    yield make
    for channel, listener in opened:
        channel.close()
        listener.stop(2.0)


@pytest.fixture
def migration(open_migration: Callable[..., Migration]) -> Migration:
    made = open_migration()
    made.door.scale("1.0.0", 2.0)
    return made


def test_the_documented_flow_of_a_client(migration: Migration) -> None:
    client = migration.client
    loaded = client.call("LoadModel", url="/models/scale", name="scale").model
    assert (loaded.url, loaded.name) == ("/models/scale", "scale")
    assert [model.name for model in client.call("ListModels").models] == ["scale"]
    (taken,) = client.call("DescribeModel", name="scale").model.input_tensor_metadatas
    assert (taken.name, taken.data_type, list(taken.shape)) == ("x", FLOAT32, [-1, 3])
    (answer,) = client.call("Predict", name="scale", tensors=[client.tensor(ROWS)]).tensors
    assert (answer.tensor_metadata.name, list(answer.tensor_metadata.shape)) == ("y", [2, 3])
    np.testing.assert_array_equal(np.frombuffer(answer.byte_data, np.float32).reshape(2, 3), ROWS * 2)
    client.call("UnLoadModel", name="scale")
    assert list(client.call("ListModels").models) == []
    code, details = client.refused("Predict", name="scale", tensors=[client.tensor(ROWS)])
    assert code == grpc.StatusCode.NOT_FOUND
    assert "LoadModel" in details
    client.call("LoadModel", url="/models/scale", name="scale")
    assert client.call("Predict", name="scale", tensors=[client.tensor(ROWS)]).tensors


def test_a_swap_reaches_clients_of_the_agent_too_and_is_recorded(migration: Migration) -> None:
    migration.door.scale("2.0.0", 10.0)
    (answer,) = migration.client.call("Predict", name="scale", tensors=[migration.client.tensor(ROWS)]).tensors
    np.testing.assert_array_equal(np.frombuffer(answer.byte_data, np.float32).reshape(2, 3), ROWS * 10)
    assert [(record.version, record.code) for record in migration.door.sink.records] == [("2.0.0", None)]
    assert migration.door.router.totals("scale").answered_count == 1


def test_a_tensor_without_metadata_is_the_models_input(migration: Migration) -> None:
    bare = migration.client.messages.Tensor(byte_data=ROWS.tobytes())
    (answer,) = migration.client.call("Predict", name="scale", tensors=[bare]).tensors
    np.testing.assert_array_equal(np.frombuffer(answer.byte_data, np.float32), (ROWS * 2).reshape(-1))


def test_each_status_is_the_documented_one(migration: Migration) -> None:
    client, status = migration.client, grpc.StatusCode
    ok = client.tensor(ROWS)
    client.call("LoadModel", url="u", name="scale")
    cases: list[tuple[str, dict[str, Any], grpc.StatusCode, str]] = [
        ("LoadModel", {"name": "scale"}, status.ALREADY_EXISTS, "loaded already"),
        ("LoadModel", {"name": "other", "url": "/tmp/x"}, status.NOT_FOUND, "deploy"),
        ("UnLoadModel", {"name": "other"}, status.NOT_FOUND, "other"),
        ("DescribeModel", {"name": "other"}, status.NOT_FOUND, "other"),
        ("Predict", {"name": "other", "tensors": [ok]}, status.NOT_FOUND, "other"),
        ("Predict", {"name": "scale"}, status.INVALID_ARGUMENT, "x"),
        ("Predict", {"name": "scale", "tensors": [ok, ok]}, status.INVALID_ARGUMENT, "2 tensors"),
        ("Predict", {"name": "scale", "tensors": [client.tensor(ROWS, "z")]}, status.INVALID_ARGUMENT, "'z'"),
        (
            "Predict",
            {"name": "scale", "tensors": [client.tensor(ROWS, data_type=6)]},
            status.INVALID_ARGUMENT,
            "type 6",
        ),
        ("Predict", {"name": "scale", "tensors": [client.tensor(ROWS[:, :2])]}, status.INVALID_ARGUMENT, "shape"),
    ]
    for method, fields, code, named in cases:
        found, details = client.refused(method, **fields)
        assert (found, named in details) == (code, True), (method, fields, details)
    short = client.tensor(ROWS)
    short.byte_data = short.byte_data[:-1]
    assert client.refused("Predict", name="scale", tensors=[short])[0] == status.INVALID_ARGUMENT
    empty = client.messages.Tensor(tensor_metadata=ok.tensor_metadata)
    assert "neither" in client.refused("Predict", name="scale", tensors=[empty])[1]


def test_garbage_is_an_invalid_argument_and_the_door_lives(migration: Migration) -> None:
    raw = migration.client.channel.unary_unary("/AWS.SageMaker.Edge.Agent/Predict")
    for content in (b"\xff\xff\xff", b"\x0a\xff", bytes(range(256))):
        with pytest.raises(grpc.RpcError) as refusal:
            raw(content, WAIT_S)
        assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert migration.client.call("ListModels").models


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_the_wire_is_the_documented_one_byte_for_byte(migration: Migration) -> None:
    """Tags and lengths by hand: PredictRequest{name=1, tensors=2{tensor_metadata=1{name=1, type=2, shape=3}, byte_data=4}}."""
    metadata = field(1, b"x") + bytes([2 << 3, FLOAT32]) + field(3, bytes([2, 3]))
    request = field(1, b"scale") + field(2, field(1, metadata) + field(4, ROWS.tobytes()))
    answer = migration.client.channel.unary_unary("/AWS.SageMaker.Edge.Agent/Predict")(request, WAIT_S)
    metadata = field(1, b"y") + bytes([2 << 3, FLOAT32]) + field(3, bytes([2, 3]))
    assert answer == field(1, field(1, metadata) + field(4, (ROWS * 2).tobytes()))


def test_models_that_the_protocol_cannot_name_say_so(migration: Migration) -> None:
    from onnx import TensorProto, helper

    from tests.edge_component.bundle_factory import serialized

    x = helper.make_tensor_value_info("x", TensorProto.UINT32, [2])
    y = helper.make_tensor_value_info("y", TensorProto.UINT32, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    specs = (TensorSpec("x", "uint32", (2,)),), (TensorSpec("y", "uint32", (2,)),)
    migration.door.put("1.0.0", serialized(graph), *specs, name="same")
    code, details = migration.client.refused("DescribeModel", name="same")
    assert (code, "Open Inference Protocol" in details) == (grpc.StatusCode.UNIMPLEMENTED, True)
    assert [model.name for model in migration.client.call("ListModels").models] == ["scale"]


@pytest.fixture
def segment() -> Iterator[Callable[[bytes], int]]:
    """System V segments, made as a client makes them."""
    libc, made = ctypes.CDLL(None, use_errno=True), []
    libc.shmat.restype = ctypes.c_void_p

    def make(content: bytes) -> int:
        identifier = libc.shmget(0, len(content), 0o600 | 0o1000)
        assert identifier >= 0, os.strerror(ctypes.get_errno())
        address = libc.shmat(identifier, None, 0)
        ctypes.memmove(address, content, len(content))
        libc.shmdt(ctypes.c_void_p(address))
        made.append(identifier)
        return identifier

    yield make
    for identifier in made:
        libc.shmctl(identifier, 0, None)


def test_shared_memory_is_read_where_the_handle_says(migration: Migration, segment: Callable[[bytes], int]) -> None:
    client = migration.client
    handle = client.messages.SharedMemoryHandle(
        size=ROWS.nbytes, offset=16, segment_id=segment(bytes(16) + ROWS.tobytes())
    )
    tensor = client.tensor(ROWS)
    tensor.shared_memory_handle.CopyFrom(handle)
    for _ in range(3):
        (answer,) = client.call("Predict", name="scale", tensors=[tensor]).tensors
        np.testing.assert_array_equal(np.frombuffer(answer.byte_data, np.float32).reshape(2, 3), ROWS * 2)
    tensor.shared_memory_handle.offset = 17
    assert client.refused("Predict", name="scale", tensors=[tensor])[0] == grpc.StatusCode.OUT_OF_RANGE
    tensor.shared_memory_handle.offset = 2**64 - 8
    assert client.refused("Predict", name="scale", tensors=[tensor])[0] == grpc.StatusCode.OUT_OF_RANGE
    for missing in (2**31 - 1, 2**40):
        tensor.shared_memory_handle.segment_id = missing
        assert client.refused("Predict", name="scale", tensors=[tensor])[0] == grpc.StatusCode.PERMISSION_DENIED


def test_a_strangers_segment_is_refused_and_nothing_stays_attached(segment: Callable[[bytes], int]) -> None:
    identifier = segment(b"secret")
    assert read_segment(identifier, 2, 4, lambda user_id: user_id == os.geteuid()) == b"cret"
    with pytest.raises(SegmentForeignError, match=f"belongs to user {os.geteuid()}"):
        read_segment(identifier, 0, 6, lambda user_id: False)
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    assert [row[6] for row in rows if int(row[1]) == identifier] == ["0"]


def test_the_kernels_structure_is_read_as_the_kernel_shows_it(segment: Callable[[bytes], int]) -> None:
    identifier = segment(bytes(12_345))
    buffer = ctypes.create_string_buffer(sysv_memory.STATUS_BYTES_MAX)
    assert ctypes.CDLL(None).shmctl(identifier, 2, buffer) == 0
    (row,) = [
        line.split()
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        if line.split()[1] == str(identifier)
    ]
    _, uid, gid, cuid, cgid, size = sysv_memory.STATUS.unpack_from(buffer)
    assert [uid, gid, cuid, cgid, size] == [int(row[place]) for place in (7, 8, 9, 10, 3)]
    assert struct.calcsize("P") == 8


def capture_fields(client: AgentClient, capture_id: str, seconds: int | None = None) -> dict[str, Any]:
    stamp = client.messages.Timestamp(seconds=int(NOW.timestamp()) if seconds is None else seconds, nanos=5_000)
    note = client.messages.AuxilaryData(name="note", encoding=1, byte_data=b'{"line": 4}')
    return {
        "model_name": "scale",
        "capture_id": capture_id,
        "inference_timestamp": stamp,
        "input_tensors": [client.tensor(ROWS)],
        "output_tensors": [client.tensor(ROWS * 2, "y")],
        "inputs": [note],
    }


def await_status(client: AgentClient, capture_id: str, wanted: CaptureStatus) -> None:
    deadline = time.monotonic() + WAIT_S
    while client.call("GetCaptureDataStatus", capture_id=capture_id).status != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_capture_is_kept_as_sagemaker_writes_one(migration: Migration) -> None:
    client, capture_id = migration.client, str(uuid.uuid4())
    client.call("CaptureData", **capture_fields(client, capture_id))
    await_status(client, capture_id, CaptureStatus.SUCCESS)
    (line,) = (migration.door.folder / "captures" / "edge-manager.jsonl").read_text().splitlines()
    document = json.loads(line)
    assert document["eventMetadata"] == {"eventId": capture_id, "inferenceTime": "2026-03-01T12:00:00.000005Z"}
    given = json.loads(document["captureData"]["endpointInput"]["data"])
    assert [(each["name"], each["kind"], each["shape"]) for each in given] == [
        ("x", "FLOAT32", [2, 3]),
        ("note", "JSON", []),
    ]
    assert document["captureData"]["endpointOutput"]["mode"] == "OUTPUT"


def test_what_is_wrong_with_a_capture_is_the_documented_status(migration: Migration) -> None:
    client, status, capture_id = migration.client, grpc.StatusCode, str(uuid.uuid4())
    client.call("CaptureData", **capture_fields(client, capture_id))
    assert client.refused("CaptureData", **capture_fields(client, capture_id))[0] == status.ALREADY_EXISTS
    assert client.refused("CaptureData", **capture_fields(client, "no-uuid"))[0] == status.INVALID_ARGUMENT
    later = int(NOW.timestamp()) + 60
    assert client.refused("CaptureData", **capture_fields(client, str(uuid.uuid4()), later))[0] == status.OUT_OF_RANGE
    assert client.refused("CaptureData", **capture_fields(client, str(uuid.uuid4()), 2**62))[0] == status.OUT_OF_RANGE
    await_status(client, str(uuid.uuid4()), CaptureStatus.NOT_FOUND)


def test_captures_that_are_off_or_cannot_be_written_say_so(open_migration: Callable[..., Migration]) -> None:
    client = open_migration(capture_bytes_max=0).client
    assert (
        client.refused("CaptureData", **capture_fields(client, str(uuid.uuid4())))[0] == grpc.StatusCode.UNIMPLEMENTED
    )


def test_a_disk_that_refuses_is_a_failed_capture(migration: Migration) -> None:
    (migration.door.folder / "captures").write_text("a file where the folder should be")
    client, capture_id = migration.client, str(uuid.uuid4())
    client.call("CaptureData", **capture_fields(client, capture_id))
    await_status(client, capture_id, CaptureStatus.FAILURE)


def test_a_runtime_with_the_door_configured(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, agent: ModuleType
) -> None:
    runtime = start_runtime(config={"edge_manager_socket": "true"})
    bundle = bundles.scale("1.0.0", 2.0)
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    path = runtime.work / "edge-manager.sock"
    deadline = time.monotonic() + WAIT_S
    while not path.exists():  # the optional doors open after the prediction socket
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        client = AgentClient(channel, agent)
        (answer,) = client.call("Predict", name="scale", tensors=[client.tensor(ROWS)]).tensors
        np.testing.assert_array_equal(np.frombuffer(answer.byte_data, np.float32).reshape(2, 3), ROWS * 2)
    assert path.stat().st_mode & 0o777 == 0o600
    assert runtime.terminate() == 0
    assert not path.exists()
