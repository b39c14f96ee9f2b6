"""A whole runtime whose doors leave loopback: with keys they serve; without, they stay shut, and all else serves."""

import http.client
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from edge_component.client import Client
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private
from tests.edge_component.serving.oip.test_doors import ROW, activate, infer, wait_for

pytestmark = pytest.mark.usefixtures("bundles")  # which put a key into the trust folder
KEYS = {"oip_certificate_file": "door.pem", "oip_key_file": "door.key", "oip_token_file": "token"}
SOCKET = {"oip_rest_socket": True}
StartRuntime = Callable[..., RuntimeProcess]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder with keys in it."""
    work = tmp_path / "work"
    work.mkdir()
    write_certificate(work / "door")
    write_private(work / "token", f"{TOKEN}\n".encode())
    return work


def reasons(runtime: RuntimeProcess) -> str:
    """What the heartbeat says, once all doors have been tried."""
    wait_for(runtime.work / "oip-rest.sock")
    while not (told := " ".join(runtime.admin.status().reasons)):
        pass
    return told


def test_both_doors_serve_with_keys_and_end_with_the_runtime(
    start_runtime: StartRuntime, bundles: BundleFactory, free_port: int, work: Path
) -> None:
    """One after the other: there is one port that was free a moment ago."""
    runtime = start_runtime(work, config={"oip_host": "0.0.0.0", "oip_rest_port": free_port, **SOCKET, **KEYS})
    wait_for(work / "oip-rest.sock")
    activate(runtime, bundles, "1.0.0", 2.0)
    token = {"Authorization": f"Bearer {TOKEN}"}
    rest = tritonclient.http.InferenceServerClient(
        f"127.0.0.1:{free_port}", ssl=True, ssl_options={"ca_certs": str(work / "door.pem")}
    )
    sent = tritonclient.http.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
    assert rest.infer("scale", [sent], headers=token).as_numpy("y").tolist() == (ROW * 2).tolist()
    assert runtime.admin.status().reasons == ()
    assert runtime.terminate() == 0, "with a connection open"
    rest.close()
    start_runtime(work, config={"oip_host": "0.0.0.0", "oip_grpc_port": free_port, "oip_grpc_socket": True, **KEYS})
    wait_for(work / "oip-grpc.sock")
    address = f"127.0.0.1:{free_port}"
    client = tritonclient.grpc.InferenceServerClient(address, ssl=True, root_certificates=str(work / "door.pem"))
    tensor = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
    answer = client.infer("scale", [tensor], headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.as_numpy("y").tolist() == (ROW * 2).tolist()
    client.close()
    local = tritonclient.grpc.InferenceServerClient(f"unix:{work / 'oip-grpc.sock'}")
    assert infer(local, tritonclient.grpc).as_numpy("y").tolist() == (ROW * 2).tolist(), "no token on a Unix socket"
    local.close()


def test_exposed_without_keys_both_doors_stay_shut_and_are_reported_and_the_rest_serves(
    start_runtime: StartRuntime, bundles: BundleFactory, free_port: int
) -> None:
    runtime = start_runtime(
        config={"oip_host": "0.0.0.0", "oip_rest_port": free_port, "oip_grpc_port": free_port, **SOCKET}
    )
    told = reasons(runtime)
    for kind in ("REST", "gRPC"):
        assert (
            f"the {kind} door 0.0.0.0:{free_port} stays shut until the next start: it would listen on 0.0.0.0, beyond loopback"
            in told
        )
    assert "Set oip_host to 127.0.0.1, or oip_certificate_file, oip_key_file and oip_token_file" in told
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port))
    activate(runtime, bundles, "1.0.0", 2.0)
    with Client(runtime.infer_socket) as client:
        assert client.infer("scale", {"x": ROW}).outputs["y"].tolist() == (ROW * 2).tolist()


def shared_key(work: Path) -> None:
    (work / "door.key").chmod(0o644)


def another_certificate(work: Path) -> None:
    write_certificate(work / "other")
    (work / "other.pem").replace(work / "door.pem")


def no_token(work: Path) -> None:
    (work / "token").unlink()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize(
    ("harm", "changed", "named"),
    [
        (shared_key, {}, "door.key: its mode is 644"),
        (another_certificate, {}, "door.pem and .*door.key are no certificate and unencrypted key that belong together"),
        (no_token, {}, "token: No such file"),
        (lambda work: None, {"oip_key_file": "", "oip_token_file": ""}, "oip_key_file and oip_token_file: not set"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used_leave_the_door_shut_on_loopback_too(
    start_runtime: StartRuntime,
    free_port: int,
    work: Path,
    host: str,
    harm: Callable[[Path], None],
    changed: dict[str, Any],
    named: str,
) -> None:
    harm(work)
    keys = {name: value for name, value in {**KEYS, **changed}.items() if value}
    told = reasons(start_runtime(work, config={"oip_host": host, "oip_rest_port": free_port, **SOCKET, **keys}))
    assert f"the REST door {host}:{free_port} stays shut until the next start: " in told
    assert re.search(named, told)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port))


def test_a_certificate_about_to_end_is_in_the_heartbeat_until_it_is_renewed(
    start_runtime: StartRuntime, bundles: BundleFactory, free_port: int, work: Path
) -> None:
    write_certificate(work / "door", datetime.now(UTC) - timedelta(days=80), timedelta(days=90))
    runtime = start_runtime(work, config={"oip_rest_port": free_port, **SOCKET, **KEYS})
    assert "door.pem: the certificate ends at" in reasons(runtime)
    write_certificate(work / "door")
    while runtime.admin.status().reasons:
        pass
    connection = http.client.HTTPSConnection(
        "127.0.0.1", free_port, timeout=20, context=ssl.create_default_context(cafile=str(work / "door.pem"))
    )
    connection.request("GET", "/v2", headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 200, "keys are used on loopback too"
    connection.close()
    assert "were read again" in runtime.log_text()


def test_a_loopback_address_of_ones_own_needs_no_keys(
    start_runtime: StartRuntime, bundles: BundleFactory, free_port: int
) -> None:
    runtime = start_runtime(config={"oip_host": "127.0.0.9", "oip_rest_port": free_port, **SOCKET})
    wait_for(runtime.work / "oip-rest.sock")
    activate(runtime, bundles, "1.0.0", 2.0)
    assert "/_ssl." not in Path(f"/proc/{runtime.process.pid}/maps").read_text(), "who has no keys carries no TLS"
    client = tritonclient.http.InferenceServerClient(f"127.0.0.9:{free_port}")
    assert np.array_equal(infer(client, tritonclient.http).as_numpy("y"), ROW * 2)
    client.close()
    for host, status in (("evil.example", 403), ("127.0.0.9", 200), ("localhost:1", 200)):
        connection = http.client.HTTPConnection("127.0.0.9", free_port, timeout=20)
        connection.request("GET", "/v2", headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()
