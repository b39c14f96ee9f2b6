"""Doors with keys: TLS and a token on both, the same answers behind them, and strangers who keep nobody out.

0.0.0.0 counts as exposed, and is reached through 127.0.0.1.
"""

import gc
import http.client
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from edge_component.clock import SystemClock
from edge_component.serving.door_guard import DoorGuard
from edge_component.serving.door_keys import LOOK_S, DoorKeyring
from edge_component.serving.exposure import KeyFiles, TcpAddress
from edge_component.serving.listener import Listener, TcpDoor
from edge_component.serving.oip_grpc import GrpcDoor
from edge_component.serving.oip_rest_server import rest_listener
from tests.edge_component.inference.test_trial import endless_model
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private
from tests.edge_component.serving.oip.conftest import BODY_BYTES_MAX, LIMITS, Doors, MakeDoors
from tests.edge_component.serving.oip.test_cancelling import ended
from tests.edge_component.serving.oip.test_clients import SAMPLES, ask
from tests.edge_component.serving.oip.test_http_abuse import GOOD, HEAD, read_all

HAS_IPV6 = socket.has_dualstack_ipv6()
HOSTS = ["0.0.0.0", "127.0.0.2", *(["::"] if HAS_IPV6 else [])]
BEARER = f"Bearer {TOKEN}"
REST_TOKEN = {"Authorization": BEARER}
GRPC_TOKEN = {"authorization": BEARER}
LONG_S = 600.0
WAIT_S = 20.0
WRONG = ["", "Bearer", "Bearer wrong-wrong-wrong-wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]


@dataclass
class Guarded:
    """Both doors with keys, over the router of plain ones."""

    plain: Doors
    files: KeyFiles
    rest: Listener
    grpc: GrpcDoor
    host: str

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.certificate))

    def raw(self) -> socket.socket:
        return socket.create_connection((self.host, self.rest.port), timeout=WAIT_S)

    def secured(self) -> ssl.SSLSocket:
        return self.context().wrap_socket(self.raw(), server_hostname=self.host, suppress_ragged_eofs=False)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        """One request on a connection of its own, read."""
        connection = http.client.HTTPSConnection(self.host, self.rest.port, timeout=WAIT_S, context=self.context())
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def is_served(self) -> bool:
        return self.ask("POST", "/v2/models/scale/infer", GOOD, Authorization=BEARER).status == 200

    def http_client(self) -> tritonclient.http.InferenceServerClient:
        address = f"{self.host}:{self.rest.port}"
        return tritonclient.http.InferenceServerClient(
            address, ssl=True, ssl_options={"ca_certs": str(self.files.certificate)}
        )

    def grpc_client(self) -> tritonclient.grpc.InferenceServerClient:
        address = f"{self.host}:{self.grpc.port}"
        return tritonclient.grpc.InferenceServerClient(address, ssl=True, root_certificates=str(self.files.certificate))


MakeGuarded = Callable[..., Guarded]


@pytest.fixture
def open_guarded(open_doors: MakeDoors, tmp_path: Path) -> Iterator[MakeGuarded]:
    opened = ExitStack()

    def make(
        host: str = "0.0.0.0", hello_s: float = LONG_S, connections_max: int = 64, request_s: float = 5.0
    ) -> Guarded:
        plain = open_doors()
        files = KeyFiles(write_certificate(tmp_path / "door"), tmp_path / "door.key", tmp_path / "token")
        write_private(files.token, TOKEN.encode())
        keyring = DoorKeyring(files, SystemClock())
        behind = plain.behind.without_shared_memory()
        rest = rest_listener(
            TcpDoor(TcpAddress(host, 0), connections_max), behind, replace(LIMITS, request_s_max=request_s),
            DoorGuard("the REST door", keyring, hello_s, SystemClock()),
        )  # fmt: skip
        grpc_door = GrpcDoor(
            TcpDoor(TcpAddress(host, 0), 64),
            behind,
            BODY_BYTES_MAX,
            DoorGuard("the gRPC door", keyring, hello_s, SystemClock()),
        )
        for door in (rest, grpc_door):
            door.open()
            opened.callback(door.stop, 2.0)
        reached = host if host.startswith("127.") else "127.0.0.1"
        return Guarded(plain, files, rest, grpc_door, reached)

    yield make
    opened.close()


@pytest.fixture
def guarded(open_guarded: MakeGuarded) -> Guarded:
    return open_guarded()


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
    """Addresses of this machine's TCP sockets that listen; gRPC has IPv4 ones in IPv6's clothes."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    return {address.removeprefix("0000000000000000FFFF0000") for address in listening}


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


@pytest.mark.parametrize("authorization", WRONG)
def test_without_the_token_rest_says_how_and_does_nothing(guarded: Guarded, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for method, path, body in (
        ("POST", "/v2/models/scale/infer", GOOD), ("GET", "/v2/health/live", None), ("GET", "/nowhere", None)
    ):  # fmt: skip
        answer = guarded.ask(method, path, body, **headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="edgewright"')
        assert ("invalid_token" in answer.headers["WWW-Authenticate"]) is bool(authorization)
        assert TOKEN not in answer.body.decode()
    assert guarded.plain.fastpath.sink.records == []
    assert guarded.is_served()


def test_a_strangers_body_is_not_waited_for(guarded: Guarded) -> None:
    with guarded.secured() as connection:
        connection.sendall(HEAD % BODY_BYTES_MAX)
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")
    with guarded.secured() as connection:
        connection.sendall(HEAD % BODY_BYTES_MAX + bytes(1_000_000))
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("authorization", WRONG)
def test_without_the_token_grpc_says_so_and_does_nothing(guarded: Guarded, authorization: str) -> None:
    client = guarded.grpc_client()
    headers = {"authorization": authorization} if authorization else {}
    tensor = tritonclient.grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(np.ones((1, 3), np.float32))
    for call in (
        lambda: client.infer("scale", [tensor], headers=headers),
        lambda: client.is_server_live(headers=headers),
        lambda: client.get_model_metadata("nobody", headers=headers),
    ):
        with pytest.raises(InferenceServerException, match="token") as refusal:
            call()
        assert refusal.value.status() == "StatusCode.UNAUTHENTICATED"
    told: list[Any] = []
    arrived = threading.Event()
    client.start_stream(lambda result, error: (told.append(error), arrived.set()), headers=headers)
    assert arrived.wait(WAIT_S)
    assert "token" in str(told[0])
    client.stop_stream()
    client.close()
    assert guarded.plain.fastpath.sink.records == []


def test_two_tokens_are_none(guarded: Guarded) -> None:
    credentials = grpc.ssl_channel_credentials(guarded.files.certificate.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{guarded.grpc.port}", credentials) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert call(b"", metadata=(("authorization", BEARER),)) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refusal:
            call(b"", metadata=(("authorization", BEARER), ("authorization", "Bearer other")))
        assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_refusals_reach_the_log_once_in_a_while_and_without_the_token(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        guarded.ask("GET", "/v2", Authorization="Bearer my-secret-elsewhere")
    assert caplog.text.count("the REST door refused 1 requests without its token") == 1
    assert "my-secret" not in caplog.text
    assert caplog.text.count("refused") == 1


def test_a_request_may_name_any_host_once_it_has_the_token(guarded: Guarded) -> None:
    assert guarded.ask("GET", "/v2", Authorization=BEARER, Host="press-7.plant.example").status == 200


def test_plain_http_is_told_that_this_door_speaks_tls(guarded: Guarded) -> None:
    for message in (HEAD % len(GOOD) + GOOD, b"GET /v2 HTTP/1.1\r\n\r\n", HEAD % 900_000 + bytes(900_000)):
        with guarded.raw() as connection:
            connection.sendall(message)
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "this door speaks TLS: ask with https"
    plain = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{guarded.grpc.port}")
    with pytest.raises(InferenceServerException):
        plain.is_server_live()
    plain.close()
    assert guarded.is_served()


@pytest.mark.parametrize(
    ("message", "status"), [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/3.0\r\n\r\n", 505), (b"X" * 20_000, 431)]
)
def test_what_is_no_request_is_answered_under_tls_too_and_ended_as_tls_ends(
    guarded: Guarded, message: bytes, status: int
) -> None:
    with guarded.secured() as connection:  # which raises if the end is a cut
        connection.sendall(message)
        assert read_all(connection).startswith(b"HTTP/1.1 %d " % status)
    assert guarded.is_served()


def test_who_does_not_finish_the_handshake_is_hung_up_on(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=1.0)
    begun = hello(guarded)
    with ExitStack() as opened:
        silent = opened.enter_context(guarded.secured())
        connections = [opened.enter_context(guarded.raw()) for _ in range(6)]
        for connection, said in zip(
            connections,
            (b"", begun[:1], begun[: len(begun) // 2], begun, b"\x16\x03\x01\xff\xff", os.urandom(300)),
            strict=True,
        ):
            connection.sendall(said)
        for connection in connections:
            read_all(connection)  # returns when the server hangs up
        assert silent.recv(1) == b"", "silent after the handshake"
    assert guarded.is_served()


def test_half_a_record_is_waited_for_only_so_long(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=1.0, request_s=0.5)
    with guarded.raw() as connection:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = guarded.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65_536))
        tls.write(HEAD % len(GOOD))
        connection.sendall(outgoing.read()[:-5])
        read_all(connection)
    assert guarded.is_served()


def hello(guarded: Guarded) -> bytes:
    """What a client begins a handshake with."""
    outgoing = ssl.MemoryBIO()
    tls = guarded.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_two_hundred_half_open_handshakes_beside_a_good_client(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=LONG_S)  # they would hold out for minutes
    begun = hello(guarded)
    rest_client, grpc_client = guarded.http_client(), guarded.grpc_client()
    assert rest_client.is_server_live(headers=REST_TOKEN)
    assert grpc_client.is_server_live(headers=GRPC_TOKEN)
    gc.collect()
    files_before, threads_before = files_open(), threading.active_count()
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
    wait_until(lambda: threading.active_count() <= threads_before)
    wait_until(lambda: files_open() <= files_before)
    assert guarded.is_served()
    rest_client.close()
    grpc_client.close()


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_at_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_at_s
        time.sleep(0.01)


def test_a_place_is_kept_by_who_has_shown_the_token_and_by_nobody_else(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(connections_max=2)
    with ExitStack() as kept:
        first = kept.enter_context(guarded.secured())
        assert is_answered(first)
        strangers = [kept.enter_context(guarded.secured()) for _ in range(6)]  # each in the place of the one before
        with pytest.raises(ssl.SSLEOFError):
            strangers[0].recv(1)
        assert is_answered(first)
        second = kept.enter_context(guarded.secured())
        assert is_answered(second)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            guarded.secured()
        assert is_answered(first)
        assert is_answered(second)


def is_answered(connection: ssl.SSLSocket) -> bool:
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nAuthorization: %b\r\n\r\n" % BEARER.encode())
    return connection.recv(65_536).endswith(b'{"live":true}')


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


def test_a_client_that_hangs_up_under_tls_ends_its_run(guarded: Guarded) -> None:
    doors = guarded.plain
    doors.fastpath.put("1.0.0", endless_model(), name="endless")
    active = doors.fastpath.router.active("endless")
    assert active is not None
    with guarded.secured() as connection:
        head = (HEAD % len(GOOD)).replace(b"models/scale", b"models/endless")
        connection.sendall(head.replace(b"Host", b"Authorization: %b\r\nHost" % BEARER.encode()) + GOOD)
        wait_until(lambda: active.gate.in_flight_count == 1)
    assert ended(doors, active) == "cancelled"
    assert guarded.is_served()


def test_a_door_that_is_closed_hangs_up_on_whoever_is_there(open_guarded: MakeGuarded) -> None:
    guarded = open_guarded(hello_s=LONG_S)
    with guarded.secured() as known, guarded.secured() as silent, guarded.raw() as half_open:
        assert is_answered(known)
        guarded.rest.stop(WAIT_S)
        for connection in (known, silent, half_open):
            assert connection.recv(1) == b""


def test_under_tls_a_run_goes_on_as_long_as_its_client_waits(guarded: Guarded) -> None:
    guarded.plain.fastpath.put("1.0.0", endless_model(), name="endless")
    gate = guarded.plain.fastpath.router.gate("endless")
    body = GOOD[:-1] + b', "parameters": {"timeout": 300000}}'
    answer = guarded.ask("POST", "/v2/models/endless/infer", body, Authorization=BEARER)
    assert (answer.status, json.loads(answer.body)["code"]) == (504, "deadline-exceeded")  # type: ignore[attr-defined]
    connection = http.client.HTTPSConnection(guarded.host, guarded.rest.port, timeout=WAIT_S, context=guarded.context())
    connection.request("POST", "/v2/models/endless/infer", GOOD, {"Authorization": BEARER})
    wait_until(lambda: gate.in_flight_count == 1)
    connection.close()
    wait_until(lambda: gate.in_flight_count == 0)
    assert [record.code for record in guarded.plain.fastpath.sink.records] == ["deadline-exceeded", "cancelled"]
