"""A gRPC server of this process with a small service, on a Unix socket, and clients of it by hand or by grpcio."""

import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from edge_component.rpc.calls import Call, Reply, Service
from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.limits import Limits
from edge_component.rpc.messages import Buffer
from edge_component.rpc.server import Capacity, RpcServer
from edge_component.serving.access import OWNER_ONLY
from edge_component.serving.exposure import LOOPBACK, TcpAddress
from edge_component.serving.listener import Door, Place, TcpDoor
from tests.edge_component.rpc.raw_client import INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, PATIENCE_S, RawClient
from tests.edge_component.serving.certificates import write_certificate

PARTIES = 6
ALL_ROOM = (INITIAL_WINDOW_SIZE, 2**31 - 1), (MAX_FRAME_SIZE, 2**24 - 1)
"""Of a client that the server never has to wait for, but for its socket."""


@dataclass
class Behind:
    """What the service's methods wait for, and what they saw."""

    gate: threading.Event = field(default_factory=threading.Event)
    inside: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(PARTIES))
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    sent_count: int = 0
    closed_count: int = 0
    times_left_s: list[float | None] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)

    def service(self) -> Service:
        unary = {
            "Echo": self.echo, "Large": self.large, "Gate": self.at_gate, "Meet": self.meet, "Refuse": self.refuse,
            "Defect": self.defect, "TimeLeft": self.time_left,
        }  # fmt: skip
        streaming = {"Chat": self.chat, "Flood": self.flood, "Stall": self.stall, "NoFile": self.no_file}
        return Service(
            {f"/t.T/{name}".encode(): method for name, method in unary.items()},
            {f"/t.T/{name}".encode(): method for name, method in streaming.items()},
            close=self._closed,
        )

    def _closed(self) -> None:
        self.closed_count += 1

    def echo(self, data: Buffer, _: Call) -> Reply:
        return Reply((bytes(data),), self._sent)

    def large(self, data: Buffer, _: Call) -> Reply:
        """As many bytes as asked for, counted up."""
        return Reply((pattern(int(bytes(data))),), self._sent)

    def at_gate(self, data: Buffer, call: Call) -> Reply:
        self.inside.release()
        assert self.gate.wait(PATIENCE_S), "nobody opened the gate"
        self.wanted.append(call.is_wanted())
        return Reply((bytes(data),), self._sent)

    def meet(self, data: Buffer, _: Call) -> Reply:
        """Only together with others."""
        self.barrier.wait(PATIENCE_S)
        return Reply((data,))

    def refuse(self, _: Buffer, __: Call) -> Reply:
        raise CallEnded(GrpcCode.NOT_FOUND, "100 % \u00e4rgerlich\n")

    def defect(self, _: Buffer, __: Call) -> Reply:
        raise ZeroDivisionError("a defect")

    def time_left(self, data: Buffer, call: Call) -> Reply:
        self.times_left_s.append(call.time_left_s())
        return Reply((data,))

    def chat(self, received: Iterator[Buffer], _: Call) -> Generator[Reply, None, None]:
        try:
            for data in received:
                yield Reply((bytes(data),), self._sent)
        finally:
            self.left.release()

    def flood(self, received: Iterator[Buffer], call: Call) -> Generator[Reply, None, None]:
        try:
            next(received)
            self.inside.release()
            while call.is_wanted():
                yield Reply((bytes(50_000),), self._sent)
        finally:
            self.left.release()

    def stall(self, received: Iterator[Buffer], _: Call) -> Generator[Reply, None, None]:
        """Takes nothing until the gate is open, and then everything without a word."""
        assert self.gate.wait(PATIENCE_S), "nobody opened the gate"
        for _ in received:
            yield from ()

    def no_file(self, received: Iterator[Buffer], _: Call) -> Generator[Reply, None, None]:
        for data in received:
            yield Reply((data,))
            raise FileNotFoundError("a service's own OSError")

    def _sent(self, _: int) -> None:
        self.sent_count += 1


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what nothing announces."""
    waited = threading.Event()
    for _ in range(int(PATIENCE_S * 100)):
        if is_so():
            return
        waited.wait(0.01)
    raise AssertionError("it never came to that")


@dataclass
class Served:
    """One server that is open."""

    server: RpcServer
    behind: Behind
    path: Path
    tls_certificate: Path
    clients: list[RawClient] = field(default_factory=list)
    channels: list[grpc.Channel] = field(default_factory=list)

    def connect(self, kind: Callable[[socket.socket], socket.socket] = lambda plain: plain) -> RawClient:
        """A client that has said nothing."""
        if self.path.name:
            plain = socket.socket(socket.AF_UNIX)
            plain.connect(str(self.path))
        else:
            plain = socket.create_connection((LOOPBACK, self.server.port))
        client = RawClient(kind(plain))
        self.clients.append(client)
        return client

    def client(self, *settings: tuple[int, int]) -> RawClient:
        """One that has greeted."""
        client = self.connect()
        client.greet(*settings)
        return client

    def is_sending(self) -> bool:
        """Whether a flood got any further in a while."""
        before = self.behind.sent_count
        threading.Event().wait(0.05)
        return self.behind.sent_count > before

    def channel(self) -> grpc.Channel:
        channel = grpc.insecure_channel(f"unix:{self.path}", (("grpc.use_local_subchannel_pool", 1),))
        self.channels.append(channel)
        return channel


def ask(channel: grpc.Channel, method: str, content: bytes, timeout_s: float = PATIENCE_S) -> bytes:
    answer: bytes = channel.unary_unary(f"/t.T/{method}")(content, timeout=timeout_s)
    return answer


@dataclass(frozen=True, slots=True)
class TestGreeter:
    """TLS with a certificate of the tests' own."""

    __test__ = False
    certificate: Path
    hello_s: float = 2.0

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        context.set_alpn_protocols(["h2"])
        return context


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def tls_client(served: Served, *settings: tuple[int, int]) -> RawClient:
    client = served.connect(trusting().wrap_socket)
    client.greet(*settings)
    return client


Open = Callable[..., Served]


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[Open]:
    opened: list[Served] = []

    def make(
        *,
        request_s_max: float = PATIENCE_S,
        message_bytes_max: int = 4_000_000,
        idle_s: float | None = None,
        answer_s_max: float = 3 * PATIENCE_S,
        capacity: Capacity | None = None,
        connections_max: int = 16,
        tls: bool = False,
        hello_s: float = 2.0,
    ) -> Served:
        behind = Behind()
        limits = Limits(message_bytes_max, request_s_max, idle_s, answer_s_max)
        path = Path() if tls else tmp_path / f"{len(opened)}.sock"
        place: Place = Door(path, socket.SOCK_STREAM, OWNER_ONLY, connections_max)
        greeter, certificate = None, Path()
        if tls:
            place = TcpDoor(TcpAddress(LOOPBACK, 0), connections_max)
            certificate = write_certificate(tmp_path / "door")
            greeter = TestGreeter(certificate, hello_s)
        server = RpcServer(place, lambda *_: behind.service(), limits, capacity or Capacity(), greeter)
        server.open()
        opened.append(Served(server, behind, path, certificate))
        return opened[-1]

    yield make
    for served in opened:
        served.behind.gate.set()
        for channel in served.channels:
            channel.close()
        for client in served.clients:
            client.close()
        served.server.stop(PATIENCE_S)


@pytest.fixture
def served(open_server: Open) -> Served:
    return open_server()


@pytest.fixture
def client(served: Served) -> RawClient:
    return served.client()
