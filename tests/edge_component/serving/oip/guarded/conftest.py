"""Both doors with keys, over the router of plain ones.

0.0.0.0 counts as exposed, and is reached through 127.0.0.1.
"""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tritonclient.grpc
import tritonclient.http

from edge_component.clock import SystemClock
from edge_component.serving.door_guard import DoorGuard
from edge_component.serving.door_keys import DoorKeyring
from edge_component.serving.exposure import KeyFiles, TcpAddress
from edge_component.serving.listener import Listener, TcpDoor
from edge_component.serving.oip_grpc import GrpcDoor
from edge_component.serving.oip_rest_server import rest_listener
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private
from tests.edge_component.serving.oip.conftest import BODY_BYTES_MAX, LIMITS, Doors, MakeDoors
from tests.edge_component.serving.oip.test_http_abuse import GOOD

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
            TcpDoor(TcpAddress(host, 0), connections_max),
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


def hello(guarded: Guarded) -> bytes:
    """What a client begins a handshake with."""
    outgoing = ssl.MemoryBIO()
    tls = guarded.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
