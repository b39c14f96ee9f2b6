"""A fast-path door in this process, over models that a test puts into its router."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_component.client import Client
from edge_component.clock import SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Hello, Kind, pack_control, unpack_control
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.router import Router
from edge_component.inference.session import Session
from edge_component.serving.fastpath_server import fastpath_listener
from edge_component.serving.listener import Listener
from edge_component.serving.serving import Serving
from edge_component.telemetry_sink import NullSink, Outcome
from tests.edge_component.bundle_factory import scale_model
from tests.edge_component.inference.test_session import MANIFEST

ROW = np.array([[1, 2, 3]], np.float32)


@dataclass
class Recorded:
    version: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    code: str | None


class KeepingSink(NullSink):
    """Keeps copies of what it is told."""

    def __init__(self) -> None:
        self.records: list[Recorded] = []
        self.failing = False

    def record(self, outcome: Outcome) -> None:
        if self.failing:
            raise RuntimeError("a defect in telemetry")
        copies = (
            {name: array.copy() for name, array in tensors.items()} for tensors in (outcome.inputs, outcome.outputs)
        )
        self.records.append(Recorded(outcome.model.version, *copies, outcome.error_code))


@dataclass
class Door:
    """The door and everything behind it."""

    folder: Path
    listener: Listener
    router: Router
    sink: KeepingSink
    config: RuntimeConfig
    serving: Serving
    clients: list[Client] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "infer.sock"

    def client(self, deadline_s: float = 10.0) -> Client:
        client = Client(self.path, deadline_s=deadline_s)
        self.clients.append(client)
        return client

    def put(
        self,
        version: str,
        model: bytes,
        inputs: tuple[TensorSpec, ...] = MANIFEST.inputs,
        outputs: tuple[TensorSpec, ...] = MANIFEST.outputs,
        name: str = "scale",
        nan_policy: str = "accept",
    ) -> None:
        path = self.folder / f"{name}-{version}.onnx"
        path.write_bytes(model)
        manifest: Manifest = replace(
            MANIFEST, model_name=name, version=version, inputs=inputs, outputs=outputs, nan_policy=nan_policy
        )
        self.router.switch(ModelRef(name, version, f"{len(version):064x}"), manifest, Session.load(path, manifest))

    def scale(self, version: str, factor: float) -> None:
        self.put(version, scale_model(factor))

    def raw(self) -> socket.socket:
        """A connected, not yet greeted socket."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(self.path))
        connection.settimeout(10)
        return connection

    def greeted(self) -> socket.socket:
        connection = self.raw()
        connection.send(pack_control(Kind.HELLO, Hello().to_document()))
        unpack_control(connection.recv(MESSAGE_BYTES_MAX), Kind.WELCOME)
        return connection


MakeDoor = Callable[..., Door]


@pytest.fixture
def open_door(tmp_path: Path) -> Iterator[MakeDoor]:
    doors: list[tuple[Door, DeadlineWatch]] = []

    def make(folder: Path | None = None, router: Router | None = None, **limits: Any) -> Door:
        folder = folder or tmp_path / "door"
        folder.mkdir(parents=True, exist_ok=True)
        config = replace(RuntimeConfig(), **limits)
        router, sink, watch = router or Router(), KeepingSink(), DeadlineWatch(SystemClock())
        serving = Serving(router, sink, watch, config, "1.0.0")
        listener = fastpath_listener(folder, serving)
        watch.start()
        listener.open()
        door = Door(folder, listener, router, sink, config, serving)
        doors.append((door, watch))
        return door

    yield make
    for door, watch in doors:
        for client in door.clients:
            client.close()
        door.listener.stop(2.0)
        watch.stop()


@pytest.fixture
def door(open_door: MakeDoor) -> Door:
    """With ``scale`` 1.0.0 doubling."""
    door = open_door()
    door.scale("1.0.0", 2.0)
    return door
