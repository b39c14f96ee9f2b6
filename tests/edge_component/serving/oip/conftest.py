"""Every door of the Open Inference Protocol in this process, beside a fast path over the same router."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto, helper

from edge_component.contracts.manifest import TensorSpec
from edge_component.serving.access import OWNER_ONLY
from edge_component.serving.http_connection import HttpLimits
from edge_component.serving.listener import Door as UnixDoor, Listener, LoopbackDoor
from edge_component.serving.oip_grpc import GrpcDoor
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_rest_server import rest_listener
from edge_component.serving.serving import Serving
from tests.edge_component.bundle_factory import serialized
from tests.edge_component.serving.conftest import Door, MakeDoor

BODY_BYTES_MAX = 4_000_000
LIMITS = HttpLimits(body_bytes_max=BODY_BYTES_MAX, request_s_max=1.0)

ELEMENT_TYPES = {
    "BOOL": (TensorProto.BOOL, "bool"), "BYTES": (TensorProto.STRING, "string"), "BF16": (TensorProto.BFLOAT16, "bfloat16"),
    "FP16": (TensorProto.FLOAT16, "float16"), "FP32": (TensorProto.FLOAT, "float32"), "FP64": (TensorProto.DOUBLE, "float64"),
    "INT8": (TensorProto.INT8, "int8"), "INT16": (TensorProto.INT16, "int16"), "INT32": (TensorProto.INT32, "int32"),
    "INT64": (TensorProto.INT64, "int64"), "UINT8": (TensorProto.UINT8, "uint8"), "UINT16": (TensorProto.UINT16, "uint16"),
    "UINT32": (TensorProto.UINT32, "uint32"), "UINT64": (TensorProto.UINT64, "uint64"),
}  # fmt: skip


def identity(element_type: int) -> bytes:
    x = helper.make_tensor_value_info("x", element_type, ["n", "m"])
    y = helper.make_tensor_value_info("y", element_type, ["n", "m"])
    return serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))


class UnixHttp(HTTPConnection):
    """The standard library's client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


@dataclass
class Doors:
    """All doors over one router."""

    fastpath: Door
    behind: Behind
    rest: Listener
    rest_unix: Listener
    grpc: GrpcDoor
    grpc_unix: GrpcDoor
    folder: Path

    @property
    def rest_path(self) -> Path:
        return self.folder / "rest.sock"

    @property
    def grpc_path(self) -> Path:
        return self.folder / "grpc.sock"

    def put_identity(self, datatype: str) -> str:
        """A model ``y = x`` of that datatype and rank 2; its name."""
        element_type, dtype = ELEMENT_TYPES[datatype]
        name = f"same-{datatype.lower()}"
        inputs, outputs = (TensorSpec("x", dtype, (-1, -1)),), (TensorSpec("y", dtype, (-1, -1)),)
        self.fastpath.put("1.0.0", identity(element_type), inputs, outputs, name=name)
        return name

    def http(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.rest.port, timeout=20)

    def raw_http(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.rest.port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = self.http()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


MakeDoors = Callable[..., Doors]


@pytest.fixture
def open_doors(open_door: MakeDoor, tmp_path: Path) -> Iterator[MakeDoors]:
    opened: list[Any] = []

    def make(*, shared_memory: bool = True, http: HttpLimits = LIMITS, **limits: Any) -> Doors:
        fastpath = open_door(tmp_path / "work", **limits)
        fastpath.scale("1.0.0", 2.0)
        serving: Serving = fastpath.serving
        behind = Behind.make(serving, shared_memory=shared_memory, tensor_bytes_max=BODY_BYTES_MAX)
        folder = tmp_path / "work"
        unix = UnixDoor(folder / "rest.sock", socket.SOCK_STREAM, OWNER_ONLY, serving.config.connections_max)
        unix_grpc = UnixDoor(folder / "grpc.sock", socket.SOCK_STREAM, OWNER_ONLY, serving.config.connections_max)
        doors = Doors(
            fastpath,
            behind,
            rest_listener(LoopbackDoor(0, serving.config.connections_max), behind, http),
            rest_listener(unix, behind, http),
            GrpcDoor(LoopbackDoor(0, serving.config.connections_max), behind, BODY_BYTES_MAX),
            GrpcDoor(unix_grpc, behind, BODY_BYTES_MAX),
            folder,
        )
        for door in (doors.rest, doors.rest_unix, doors.grpc, doors.grpc_unix):
            door.open()
            opened.append(door)
        return doors

    yield make
    for door in opened:
        door.stop(2.0)


@pytest.fixture
def doors(open_doors: MakeDoors) -> Doors:
    return open_doors()


@pytest.fixture
def http_client(doors: Doors) -> Iterator[tritonclient.http.InferenceServerClient]:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{doors.rest.port}")
    yield client
    client.close()


@pytest.fixture(params=["tcp", "unix"])
def grpc_client(doors: Doors, request: pytest.FixtureRequest) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    address = f"127.0.0.1:{doors.grpc.port}" if request.param == "tcp" else f"unix:{doors.grpc_path}"
    client = tritonclient.grpc.InferenceServerClient(address)
    yield client
    client.close()
