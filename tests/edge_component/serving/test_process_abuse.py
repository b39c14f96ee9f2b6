"""A whole runtime among hostile neighbours: the good client is served throughout, and nothing is left behind."""

import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client
from edge_component.config import RuntimeConfig
from edge_component.contracts.fastpath import (
    MESSAGE_BYTES_MAX,
    REQUEST_HEAD,
    Hello,
    Kind,
    Open,
    Opened,
    pack_control,
    unpack_control,
)
from tests.edge_component.bundle_factory import BundleFactory
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.conftest import ROW
from tests.edge_component.waiting import wait_until

HELLO_S = 0.3
CONNECTIONS_MAX = 64


class GoodClient:
    """Asks without a pause on a thread of its own, and counts."""

    def __init__(self, socket_path: Path) -> None:
        self.answered_count = 0
        self.failure: BaseException | None = None
        self._client = Client(socket_path, deadline_s=20)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            while not self._stop.is_set():
                np.testing.assert_array_equal(self._client.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)
                self.answered_count += 1
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self.failure = error

    def served_since(self, count: int) -> bool:
        assert self.failure is None, self.failure
        return self.answered_count > count + 20

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()
        assert self.failure is None, self.failure


class Guarded:
    """The runtime, the good client, and what the runtime holds."""

    def __init__(self, runtime: RuntimeProcess) -> None:
        self.runtime = runtime
        self.good = GoodClient(runtime.infer_socket)
        wait_until(lambda: self.good.served_since(0))
        self.before = self.held()

    def held(self) -> dict[str, int]:
        folder = Path(f"/proc/{self.runtime.process.pid}")
        return {
            "descriptors": sum(1 for _ in (folder / "fd").iterdir()),
            "threads": sum(1 for _ in (folder / "task").iterdir()),
            "memories": (folder / "maps").read_text().count("/memfd:edgewright"),
        }

    def still_serves(self) -> None:
        count = self.good.answered_count
        wait_until(lambda: self.good.served_since(count))

    def raw(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(self.runtime.infer_socket))
        connection.settimeout(20)
        return connection

    def greeted(self) -> socket.socket:
        connection = self.raw()
        connection.send(pack_control(Kind.HELLO, Hello().to_document()))
        unpack_control(connection.recv(MESSAGE_BYTES_MAX), Kind.WELCOME)
        return connection

    def opened(self, connection: socket.socket, room_bytes: int = 0) -> tuple[Opened, int]:
        connection.send(pack_control(Kind.OPEN, Open("scale", {"x": room_bytes}).to_document()))
        message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, 1)
        return Opened.read(unpack_control(message, Kind.OPENED)[1]), descriptors[0]


@pytest.fixture
def guarded(start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory) -> Iterator[Guarded]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    runtime = start_runtime(config={"probation_s": 0, "hello_s_max": HELLO_S, "connections_max": CONNECTIONS_MAX})
    bundle = bundles.scale("1.0.0", 2.0)
    assert runtime.admin.activate(bundle.archive, bundle.component, bundle.version).outcome == "activated"
    found = Guarded(runtime)
    yield found
    try:
        found.still_serves()
        wait_until(lambda: found.held() == found.before)
        assert runtime.process.poll() is None
    finally:
        found.good.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def request(channel: Opened, rows: int = 1, slot: int = 0) -> bytes:
    head = REQUEST_HEAD.pack(Kind.REQUEST, slot, channel.channel, 1, 0)
    return head + rows.to_bytes(4, "little") + (3).to_bytes(4, "little")


def flood(connection: socket.socket, message: bytes) -> None:
    """Send until the runtime takes no more."""
    with suppress(BlockingIOError):
        while True:
            connection.send(message)


def test_a_thousand_connections_at_once(guarded: Guarded) -> None:
    connections = [guarded.raw() for _ in range(1000)]
    guarded.still_serves()
    for connection in connections:
        connection.close()


def test_a_thousand_connections_one_after_the_other(guarded: Guarded) -> None:
    for number in range(1000):
        with guarded.raw() as connection:
            if number % 2:
                connection.send(pack_control(Kind.HELLO, Hello().to_document()))


def test_whoever_says_nothing_loses_its_place_to_others(guarded: Guarded) -> None:
    silent = [guarded.raw() for _ in range(CONNECTIONS_MAX + 8)]
    with Client(guarded.runtime.infer_socket, deadline_s=20) as late:
        assert late.infer("scale", {"x": ROW}).model.version == "1.0.0"
    for connection in silent:
        connection.close()


def test_a_hello_of_one_byte_at_a_time_is_no_hello(guarded: Guarded) -> None:
    hello = pack_control(Kind.HELLO, Hello().to_document())
    for at in range(3):
        with guarded.raw() as connection:
            connection.send(hello[at : at + 1])
            assert connection.recv(MESSAGE_BYTES_MAX)[0] == Kind.REFUSED
            assert connection.recv(1) == b""


def test_a_slow_client_after_its_hello_may_be_slow(guarded: Guarded) -> None:
    with guarded.greeted() as connection:
        channel, descriptor = guarded.opened(connection)
        os.close(descriptor)
        threading.Event().wait(HELLO_S * 3)
        connection.send(request(channel))
        assert connection.recv(MESSAGE_BYTES_MAX)[0] == Kind.ANSWER


def test_clients_that_vanish_in_mid_tensor(guarded: Guarded) -> None:
    for number in range(60):
        connection = guarded.greeted()
        channel, descriptor = guarded.opened(connection, room_bytes=12_000_000)
        connection.send(request(channel, rows=1_000_000))
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        os.close(descriptor)


def test_a_client_that_asks_and_never_listens(guarded: Guarded) -> None:
    with guarded.greeted() as connection:
        channel, descriptor = guarded.opened(connection)
        os.close(descriptor)
        connection.setblocking(False)
        flood(connection, request(channel))
        guarded.still_serves()


def test_memory_that_is_to_shrink_or_grow_stays_as_it_is(guarded: Guarded) -> None:
    with guarded.greeted() as connection:
        channel, descriptor = guarded.opened(connection)
        for size in (0, 1, channel.size_bytes * 2):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        connection.send(request(channel))
        assert connection.recv(MESSAGE_BYTES_MAX)[0] == Kind.ANSWER
        os.close(descriptor)


def test_descriptors_that_a_client_sends_are_not_kept(guarded: Guarded) -> None:
    with guarded.greeted() as connection, Path("/dev/null").open("rb") as null:
        for _ in range(50):
            socket.send_fds(connection, [pack_control(Kind.OPEN, Open("nobody").to_document())], [null.fileno()] * 8)
            assert connection.recv(MESSAGE_BYTES_MAX)[0] == Kind.REFUSED
        assert guarded.held()["descriptors"] <= guarded.before["descriptors"] + 2


def test_channels_of_one_user_keep_no_hand_over_out(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory
) -> None:
    """As many as its limits allow are more than the open files that a process usually may have."""
    usual = ("prlimit", "--nofile=1024:4096")
    runtime = start_runtime(config={"probation_s": 0}, wrapper=usual)
    bundle = bundles.scale("1.0.0", 2.0)
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    held: list[socket.socket] = []
    try:
        for _ in range(RuntimeConfig().connections_max):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            held.append(connection)
            connection.settimeout(10)
            connection.connect(str(runtime.infer_socket))
            connection.send(pack_control(Kind.HELLO, Hello().to_document()))
            unpack_control(connection.recv(MESSAGE_BYTES_MAX), Kind.WELCOME)
            for _ in range(RuntimeConfig().channels_max):
                connection.send(pack_control(Kind.OPEN, Open("scale").to_document()))
                unpack_control(connection.recv(MESSAGE_BYTES_MAX), Kind.OPENED)  # without its descriptor
        newer = bundles.scale("1.1.0", 3.0)
        assert runtime.admin.activate(newer.archive, newer.component, newer.version).outcome == "activated"
    finally:
        for connection in held:
            connection.close()
