"""A nucleus that accepts the connection and then hangs up, or never says another word."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_component.backoff import Backoff
from edge_component.clock import SystemClock
from edge_component.nucleus import GreengrassNucleus
from edge_component.nucleus_address import NucleusAddress, NucleusLimits
from simulator.nucleus.eventstream import Flags, Message, MessageType, encode
from tests.conformance.nucleus_port.conftest import WAIT_S, eventually

ACCEPTED = Message(
    {":message-type": MessageType.CONNECT_ACK, ":message-flags": Flags.CONNECTION_ACCEPTED, ":stream-id": 0}
)


class RudeServer:
    """Greets everyone; ``after`` is done with the connection then."""

    def __init__(self, path: Path, after: Callable[[socket.socket], None]) -> None:
        self.connections: list[socket.socket] = []
        self._after = after
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            connection.recv(10_000)
            connection.sendall(encode(ACCEPTED))
            self._after(connection)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., RudeServer]]:
    made: list[RudeServer] = []

    def make(after: Callable[[socket.socket], None]) -> RudeServer:
        made.append(RudeServer(tmp_path / "ipc.socket", after))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_one_that_hangs_up_again_and_again_is_asked_at_growing_intervals(
    make_server: Callable[..., RudeServer], tmp_path: Path
) -> None:
    server = make_server(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    waits_count = 0

    def random() -> float:
        nonlocal waits_count
        waits_count += 1
        return 0.5

    limits = NucleusLimits(backoff=Backoff(0.01, 0.02), steady_s=WAIT_S * 10)
    address = NucleusAddress(str(tmp_path / "ipc.socket"), "token")
    nucleus = GreengrassNucleus(address, SystemClock(), random, limits)
    nucleus.start()
    eventually(lambda: len(server.connections) >= 5, "it is tried on")
    nucleus.close()
    assert waits_count >= len(server.connections) - 1, "each time after a wait"


def test_one_that_never_answers_does_not_hold_up_the_stop(
    make_server: Callable[..., RudeServer], tmp_path: Path
) -> None:
    server = make_server(lambda _: None)
    limits = NucleusLimits(call_s=10_000, close_s=WAIT_S)
    address = NucleusAddress(str(tmp_path / "ipc.socket"), "token")
    nucleus = GreengrassNucleus(address, SystemClock(), lambda: 0.5, limits)
    nucleus.start()
    assert nucleus.wait_connected(WAIT_S)
    nucleus.close()
    assert not nucleus._thread.is_alive(), "the call that was never answered has ended"
    assert len(server.connections) == 1
