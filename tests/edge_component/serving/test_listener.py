"""The door itself: what goes wrong with one connection is that connection's, and silence gives its place away."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_component.serving import admin_server
from edge_component.serving.access import OWNER_ONLY
from edge_component.serving.listener import Door, Listener
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.waiting import wait_until


class MoodyDoor(Door):
    """Fails to judge whoever connects, as often as it is told."""

    failures_left = 0

    def admits(self, connection: socket.socket) -> bool:
        if MoodyDoor.failures_left:
            MoodyDoor.failures_left -= 1
            raise MemoryError
        return True


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def test_a_client_that_cannot_be_taken_costs_neither_the_door_nor_a_page_of_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    door = MoodyDoor(tmp_path / "a.sock", socket.SOCK_STREAM, OWNER_ONLY, 4)
    listener = Listener(door, lambda connection: connection.sendall(b"served"), lambda _: None)
    listener.open()
    MoodyDoor.failures_left = 3
    for _ in range(3):
        with connected(door.path) as client:
            assert client.recv(10) == b""
    with connected(door.path) as client:
        assert client.recv(10) == b"served"
    listener.stop(5.0)
    assert len([record for record in caplog.records if "was dropped" in record.message]) == 1


def test_a_silent_admin_connection_gives_its_place_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "SILENCE_S_MAX", 0.05)
    listener = admin_server.admin_listener(tmp_path, None)  # type: ignore[arg-type]
    listener.open()
    with connected(tmp_path / "admin.sock") as client:
        assert client.recv(10) == b""
    listener.stop(5.0)


def test_whoever_asks_and_goes_leaves_no_traceback(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    bundle = bundles.scale("1.0.0", 2.0)
    asked = (
        '{"schema":"edgewright.command/1","command":"activate","request_id":"1","deadline_ms":60000,"arguments":'
        f'{{"bundle":"{bundle.archive}","component_name":"{bundle.component}","version":"{bundle.version}"}}}}\n'
    )
    with connected(runtime.work / "admin.sock") as client:
        client.sendall(asked.encode())
    wait_until(lambda: any(model.active.version == "1.0.0" for model in runtime.admin.status().models))
    again = runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    assert again.outcome == "already-active", "carried out all the same: the next hand-over finds it done"
    assert runtime.terminate() == 0
    assert "Traceback" not in runtime.log_text()
