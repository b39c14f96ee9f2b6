"""The metrics of a real runtime, scraped over its port and its socket, as any HTTP client does."""

import http.client
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client, ClientError
from edge_component.contracts.heartbeat import OutboxState
from edge_component.observability.device_figures import DeviceFigures, read_process
from edge_component.observability.metrics_door import metrics_listener
from edge_component.serving.listener import LoopbackDoor
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.observability.test_exposition import parse
from tests.edge_component.runtime_process import RuntimeProcess

WAIT_S = 15.0
ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=WAIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(str(self._path))


def get(connection: http.client.HTTPConnection, target: str = "/metrics", method: str = "GET", **headers: str):
    try:
        connection.request(method, target, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


def test_a_runtime_is_scraped_by_port_and_by_socket(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    stream = {
        "model": "scale",
        "source": {"kind": "folder", "path": str(tmp_path / "in")},
        "sink": {"kind": "file", "path": "o"},
    }
    config = {
        "metrics_port": free_port,
        "metrics_socket": "true",
        "slow_request_ms": 0.000001,
        "streams": {"gate": stream},
    }
    runtime = start_runtime(config=config)
    bundle = bundles.scale("1.0.0", 2.0)
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    with Client(runtime.infer_socket) as client:
        for _ in range(20):
            client.infer("scale", {"x": ROW})
        with pytest.raises(ClientError):
            client.infer("scale", {"x": ROW.astype(np.float64)})
    model = {("model", "scale"), ("version", "1.0.0")}
    answered = ("edgewright_requests_total", frozenset(model | {("outcome", "answered")}))
    path = runtime.work / "metrics.sock"
    deadline = time.monotonic() + WAIT_S
    while (found := parse(get(UnixHttp(path))[2])).get(answered, 0) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found["edgewright_request_seconds_count", frozenset(model)] >= 20
    assert found["edgewright_model_serving_info", frozenset(model | {("digest", bundle.digest)})] == 1
    assert found["edgewright_runtime_info", frozenset({("version", "1.0.0")})] == 1
    assert found["edgewright_stream_waiting", frozenset({("model", "scale"), ("stream", "gate")})] == 0
    assert found["edgewright_requests_in_flight", frozenset({("model", "scale")})] == 0
    status, kind, body = get(http.client.HTTPConnection("127.0.0.1", free_port, timeout=WAIT_S))
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parse(body)[answered] >= 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "slow request: scale 1.0.0 took" in runtime.log_text()
    assert runtime.terminate() == 0
    assert not path.exists()


def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else(
    start_runtime: Callable[..., RuntimeProcess], free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        runtime = start_runtime(config={"metrics_port": free_port})
        deadline = time.monotonic() + WAIT_S
        while not any(
            f"127.0.0.1:{free_port} could not be opened" in reason for reason in runtime.admin.status().reasons
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert runtime.terminate() == 0


@pytest.fixture
def port():
    def read() -> DeviceFigures:
        if broken:
            raise RuntimeError("a defect")
        return DeviceFigures("1", read_process(), {}, {}, {}, 0, OutboxState())

    broken: list[bool] = []
    listener = metrics_listener(LoopbackDoor(0, 4), read)
    listener.open()
    yield listener.port, broken
    listener.stop(1.0)


def test_what_is_no_scrape_is_refused(port) -> None:
    number, broken = port

    def connection() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", number, timeout=WAIT_S)

    assert get(connection(), "/")[0] == 404
    assert get(connection(), method="POST")[0] == 405
    assert get(connection(), method="HEAD")[::2] == (200, b"")
    assert get(connection(), Host="attacker.example")[0] == 403
    assert get(connection(), Host="localhost:9100")[0] == 200
    with socket.create_connection(("127.0.0.1", number), timeout=WAIT_S) as raw:
        raw.sendall(b"garbage\r\n\r\n")
        assert raw.recv(64).startswith(b"HTTP/1.1 400 ")
    broken.append(True)
    status, _, body = get(connection())
    assert (status, body) == (500, b"an unforeseen error; see the runtime's log\n")


def test_more_scrapes_than_there_is_room_for_are_told_so(port) -> None:
    number, _ = port
    silent = [socket.create_connection(("127.0.0.1", number), timeout=WAIT_S) for _ in range(4)]
    deadline = time.monotonic() + WAIT_S
    while True:
        with socket.create_connection(("127.0.0.1", number), timeout=WAIT_S) as late:
            late.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if b" 503 " in late.recv(64):
                break
        assert time.monotonic() < deadline
    for each in silent:
        each.close()
