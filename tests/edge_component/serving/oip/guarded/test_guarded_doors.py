"""Doors with keys, both alike: the same answers as without, their addresses, their keys renewed, and crowds of strangers."""

import gc
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from edge_component.serving.door_keys import LOOK_S
from tests.edge_component.serving.certificates import write_certificate, write_private
from tests.edge_component.serving.oip.guarded.conftest import (
    BEARER,
    GRPC_TOKEN,
    LONG_S,
    REST_TOKEN,
    WAIT_S,
    Guarded,
    MakeGuarded,
    hello,
)
from tests.edge_component.serving.oip.test_clients import SAMPLES, ask
from tests.edge_component.waiting import wait_until

HAS_IPV6 = socket.has_dualstack_ipv6()
HOSTS = ["0.0.0.0", "127.0.0.2", *(["::"] if HAS_IPV6 else [])]


@pytest.mark.parametrize("host", HOSTS)
def test_clients_with_the_token_are_answered_as_at_the_loopback_door(open_guarded: MakeGuarded, host: str) -> None:
    guarded = open_guarded(host)
    name = guarded.plain.put_identity("FP32")
    plain_client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{guarded.plain.rest.port}")
    kinds = (
        (tritonclient.http, guarded.http_client(), REST_TOKEN),
        (tritonclient.grpc, guarded.grpc_client(), GRPC_TOKEN),
    )
    array = np.random.default_rng(7).random((300, 1000), np.float32)  # many TLS records, both ways
    for sent in (SAMPLES["FP32"], array):
        expected = ask(plain_client, tritonclient.http, name, {"x": ("FP32", sent)}).as_numpy("y")
        for kind, client, token in kinds:
            tensor = kind.InferInput("x", list(sent.shape), "FP32").set_data_from_numpy(sent)
            answer = client.infer(name, [tensor], headers=token).as_numpy("y")
            assert answer.tobytes() == expected.tobytes()
            assert client.is_server_ready(headers=token)
            assert client.is_model_ready("scale", headers=token)
    for client in (plain_client, *(client for _, client, _ in kinds)):
        client.close()


@pytest.mark.parametrize("host", ["127.0.0.3", *(["::1"] if HAS_IPV6 else [])])
def test_a_door_listens_on_its_address_and_on_no_other(open_guarded: MakeGuarded, host: str) -> None:
    guarded = open_guarded(host)
    for port in (guarded.rest.port, guarded.grpc.port):
        assert {address for address in listeners() if address.endswith(f":{port:04X}")} == {
            f"{in_proc(host)}:{port:04X}"
        }


def listeners() -> set[str]:
    """Addresses of this machine's TCP sockets that listen."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {line.split()[1] for line in lines if line.split()[3] == "0A"}


def in_proc(host: str) -> str:
    """An address as /proc/net writes it: words of the machine's byte order."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", packed))


def test_another_machine_gets_no_shared_memory(guarded: Guarded) -> None:
    answer = guarded.ask("GET", "/v2/systemsharedmemory/status", Authorization=BEARER)
    assert (answer.status, b"beyond loopback" in answer.body) == (501, True)
    assert b"system_shared_memory" not in guarded.ask("GET", "/v2", Authorization=BEARER).body
    client = guarded.grpc_client()
    with pytest.raises(InferenceServerException, match="beyond loopback"):
        client.get_system_shared_memory_status(headers=GRPC_TOKEN)
    client.close()


def test_refusals_reach_the_log_once_in_a_while_and_without_the_token(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        guarded.ask("GET", "/v2", Authorization="Bearer my-secret-elsewhere")
    assert caplog.text.count("the REST door refused 1 requests without its token") == 1
    assert "my-secret" not in caplog.text
    assert caplog.text.count("refused") == 1


def test_two_hundred_half_open_handshakes_beside_a_good_client(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=LONG_S)  # they would hold out for minutes
    begun = hello(guarded)
    rest_client, grpc_client = guarded.http_client(), guarded.grpc_client()
    assert rest_client.is_server_live(headers=REST_TOKEN)
    assert grpc_client.is_server_live(headers=GRPC_TOKEN)
    gc.collect()
    files_before, threads_before = files_open(), connections_threads()
    half_open = []
    for index in range(200):
        half_open.append((guarded.raw(), socket.create_connection(("127.0.0.1", guarded.grpc.port), timeout=WAIT_S)))
        for connection in half_open[-1]:
            if index % 2:
                connection.sendall(begun[: 1 + index])
        if index % 20 == 0:
            assert guarded.is_served(), "a new connection, among them"
            assert rest_client.is_server_live(headers=REST_TOKEN), "one that was there before them"
            assert grpc_client.is_server_live(headers=GRPC_TOKEN)
    newcomer = guarded.grpc_client()
    assert newcomer.is_server_live(headers=GRPC_TOKEN)
    newcomer.close()
    assert guarded.rest.connections_count() <= 64
    for connection in (each for pair in half_open for each in pair):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    half_open.clear()
    wait_until(lambda: connections_threads() <= threads_before)
    wait_until(lambda: files_open() <= files_before)
    assert guarded.is_served()
    rest_client.close()
    grpc_client.close()


def connections_threads() -> int:
    """Not those that answer: a call that takes long on a busy machine is given one that stays (rpc/relief.py)."""
    return sum(thread.name == "0.0.0.0:0" for thread in threading.enumerate())


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_renewed_keys_are_used_without_a_restart(guarded: Guarded, tmp_path: Path) -> None:
    old_certificate = guarded.context()
    kept = guarded.http_client()
    assert kept.is_server_live(headers=REST_TOKEN)
    write_certificate(tmp_path / "new")
    (tmp_path / "new.key").replace(guarded.files.private_key)
    (tmp_path / "new.pem").replace(guarded.files.certificate)
    write_private(guarded.files.token, b"another-token-of-mine")
    renewed = {"Authorization": "Bearer another-token-of-mine"}
    time.sleep(LOOK_S)
    assert guarded.ask("GET", "/v2", **renewed).status == 200
    assert guarded.ask("GET", "/v2", Authorization=BEARER).status == 401
    client = guarded.grpc_client()
    assert client.is_server_live(headers={"authorization": renewed["Authorization"]})
    with pytest.raises(InferenceServerException, match="not the token"):
        client.is_server_live(headers=GRPC_TOKEN)
    client.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        old_certificate.wrap_socket(guarded.raw(), server_hostname="127.0.0.1")
    assert kept.is_server_live(headers=renewed), "a connection from before goes on, with the new token"
    kept.close()
