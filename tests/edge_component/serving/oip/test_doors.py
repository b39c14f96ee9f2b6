"""The doors of a whole runtime: configured, beside a taken port, through swaps and restarts, and not there at all."""

import builtins
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from edge_component.client import Client
from edge_component.config import RuntimeConfig
from edge_component.serving.access import SocketAccess
from edge_component.serving.oip_doors import GRPC_SOCKET_NAME, REST_SOCKET_NAME, OipDoors
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.conftest import MakeDoor
from tests.edge_component.serving.oip.conftest import UnixHttp
from tests.edge_component.serving.test_access import ask_as

ROW = np.array([[1, 2, 3]], np.float32)
SOCKETS = {"oip_rest_socket": True, "oip_grpc_socket": "true"}


def activate(runtime: RuntimeProcess, bundles: BundleFactory, version: str, factor: float) -> None:
    bundle = bundles.scale(version, factor)
    assert runtime.admin.activate(bundle.archive, bundle.component, bundle.version).outcome == "activated"


def infer(client: Any, kind: Any) -> Any:
    return client.infer("scale", [kind.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)])


def test_swaps_and_a_restart_under_load_through_every_door(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, free_port: int
) -> None:
    runtime = start_runtime(config={**SOCKETS, "oip_rest_port": free_port, "probation_s": 0})
    wait_for(runtime.work / GRPC_SOCKET_NAME)
    activate(runtime, bundles, "1.0.0", 2.0)
    stop, wrong, counts = threading.Event(), list[str](), [0, 0]

    def ask(index: int, make: Callable[[], Any], kind: Any) -> None:
        client = make()
        while not stop.is_set():
            answer = infer(client, kind)
            factor = {"1.0.0": 2.0, "2.0.0": 3.0, "3.0.0": 4.0}[version_of(answer)]
            if not np.array_equal(answer.as_numpy("y"), ROW * factor):
                wrong.append(str(answer.get_response()))
            counts[index] += 1
        client.close()

    grpc_address = f"unix:{runtime.work / GRPC_SOCKET_NAME}"
    threads = [
        threading.Thread(target=ask, args=(0, lambda: tritonclient.grpc.InferenceServerClient(grpc_address), tritonclient.grpc)),
        threading.Thread(target=ask, args=(1, lambda: tritonclient.http.InferenceServerClient(f"127.0.0.1:{free_port}"), tritonclient.http)),
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    activate(runtime, bundles, "2.0.0", 3.0)
    activate(runtime, bundles, "3.0.0", 4.0)
    before = list(counts)
    while all(count < 50 + earlier for count, earlier in zip(counts, before, strict=True)) and not wrong:
        assert all(thread.is_alive() for thread in threads)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert runtime.terminate() == 0
    assert not (runtime.work / REST_SOCKET_NAME).exists()
    again = start_runtime(runtime.work, config=SOCKETS)
    wait_for(again.work / GRPC_SOCKET_NAME)
    client = tritonclient.grpc.InferenceServerClient(grpc_address)
    assert infer(client, tritonclient.grpc).as_numpy("y").tolist() == (ROW * 4).tolist()
    client.close()
    again.process.kill()
    again.process.wait()
    third = start_runtime(again.work, config={"oip_rest_socket": True})
    wait_for(third.work / REST_SOCKET_NAME)
    assert not (third.work / GRPC_SOCKET_NAME).exists()
    http = UnixHttp(third.work / REST_SOCKET_NAME)
    http.request("GET", "/v2/models/scale")
    assert http.getresponse().status == 200
    http.close()


def wait_for(path: Path) -> None:
    """These doors open after the fast path's and the administration's."""
    ends_at_s = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < ends_at_s, f"{path.name} never opened"
        time.sleep(0.01)


def version_of(answer: Any) -> str:
    told = answer.get_response()
    return told["model_version"] if isinstance(told, dict) else told.model_version


def test_a_port_that_is_taken_is_reported_and_the_fast_path_serves(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        runtime = start_runtime(config={"oip_rest_port": port, "oip_grpc_port": port, "oip_rest_socket": True})
        wait_for(runtime.work / REST_SOCKET_NAME)
        activate(runtime, bundles, "1.0.0", 2.0)
        with Client(runtime.infer_socket) as client:
            assert client.infer("scale", {"x": ROW}).outputs["y"].tolist() == (ROW * 2).tolist()
        reasons = " ".join(runtime.admin.status().reasons)
        while "gRPC" not in reasons:  # the last door to be tried
            reasons = " ".join(runtime.admin.status().reasons)
    assert f"the REST door 127.0.0.1:{port} could not be opened" in reasons
    assert f"the gRPC door 127.0.0.1:{port} could not be opened" in reasons


def test_no_door_is_open_and_nothing_is_imported_by_default(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    activate(runtime, bundles, "1.0.0", 2.0)
    mapped = Path(f"/proc/{runtime.process.pid}/maps").read_text()
    assert "grpc" not in mapped
    assert "google" not in mapped
    assert sorted(path.name for path in runtime.work.glob("*.sock")) == ["admin.sock", "infer.sock"]


def test_a_runtime_without_protobuf_says_so(
    open_door: MakeDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = replace(open_door().serving, config=replace(RuntimeConfig(), oip_grpc_port=1, oip_rest_socket=True))
    doors = OipDoors(tmp_path, serving)
    real_import = builtins.__import__

    def without_grpc(name: str, *rest: Any) -> Any:
        if name == "edge_component.serving.oip_grpc":
            raise ModuleNotFoundError("No module named 'google'")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_grpc)
    (problem,) = doors.open()
    monkeypatch.undo()
    assert "published without --with-grpc: No module named 'google'" in problem
    assert (tmp_path / REST_SOCKET_NAME).exists()
    doors.stop(1.0)


@pytest.mark.root
def test_a_grpc_socket_asks_the_kernel_who_connects(open_door: MakeDoor, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to connect as other users")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    serving = replace(open_door().serving, config=replace(RuntimeConfig(), oip_grpc_socket=True))
    doors = OipDoors(tmp_path, serving, SocketAccess(4242, frozenset({5001})))
    assert doors.open() == ()
    path = tmp_path / GRPC_SOCKET_NAME
    assert "\x00" in ask_as(path, 5001, "4242"), "the settings that every HTTP/2 connection begins with"
    assert ask_as(path, 5002, "4242") == "hung up"
    doors.stop(1.0)


def test_sockets_in_a_deep_folder_and_their_mode(open_door: MakeDoor, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    config = replace(RuntimeConfig(), oip_grpc_socket=True, oip_rest_socket=True)
    door = open_door()
    door.scale("1.0.0", 2.0)
    doors = OipDoors(deep, replace(door.serving, config=config), SocketAccess(0))
    assert doors.open() == ()
    for name in (GRPC_SOCKET_NAME, REST_SOCKET_NAME):
        assert (deep / name).stat().st_mode & 0o777 == 0o660
    link = tmp_path / "g.sock"
    link.symlink_to(deep / GRPC_SOCKET_NAME)
    client = tritonclient.grpc.InferenceServerClient(f"unix:{link}")
    assert infer(client, tritonclient.grpc).as_numpy("y").tolist() == (ROW * 2).tolist()
    client.close()
    doors.stop(1.0)
    assert not list(deep.iterdir())
