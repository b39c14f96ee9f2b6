"""A gRPC server on one Unix socket or TCP port: a listener, a connection's thread for each client, and the workers.

A door with keys greets by TLS first, and a connection's place is its own only once a call has shown the token (listener.py).
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_component.polling import NEVER, Polling
from edge_component.rpc.calls import Service
from edge_component.rpc.connection import Connection
from edge_component.rpc.duplex import Duplex, PlainDuplex
from edge_component.rpc.frames import Code, go_away, settings
from edge_component.rpc.limits import Limits
from edge_component.rpc.workers import Workers
from edge_component.serving.listener import Listener, Place, TcpDoor

log = logging.getLogger(__name__)

LEAVING_S = 0.5
"""For clients to hang up when they were told that the door closes; those of gRPC do so as soon as they have their answers."""

ServiceFor = Callable[[socket.socket, Callable[[], None]], Service]
"""The service for an accepted connection; the second argument is called when the client has shown who it is."""


class Greeter(Protocol):
    """The TLS of a door with keys."""

    @property
    def hello_s(self) -> float:
        """For the whole handshake."""

    def context(self) -> ssl.SSLContext:
        """With the certificate as it is now."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one server takes on at once for one client that is alone; for all together it is twice that (workers.py).

    Attributes:
        threads_max: for calls that are not answered where they were read.
        calls_max: of these, answered or waiting; more are refused.
    """

    threads_max: int = 32
    calls_max: int = 128


class RpcServer:
    """See the module's text."""

    def __init__(
        self,
        place: Place,
        service_for: ServiceFor,
        limits: Limits,
        capacity: Capacity,
        greeter: Greeter | None = None,
        polling: Polling = NEVER,
    ) -> None:
        """Not yet open."""
        self._place = place
        self._service_for = service_for
        self._limits = limits
        self._capacity = capacity
        self._greeter = greeter
        self._polling = polling
        self._workers: Workers | None = None
        self._connections: dict[socket.socket, Connection] = {}
        self._listener = Listener(place, self._serve, self._refuse, meets_strangers=greeter is not None, end=self._end)

    def open(self) -> None:
        """Listen and answer.

        Raises:
            OSError: the folder is not there, or the port is taken.
        """
        self._workers = Workers(self._place.name, self._capacity.threads_max, self._capacity.calls_max)
        self._workers.relief.start()
        try:
            self._listener.open()
        except OSError:
            self._workers.stop()
            raise

    @property
    def port(self) -> int:
        """Of a TCP door that is open."""
        return self._listener.port

    def stop(self, wait_s: float) -> None:
        """Take no more calls, finish those under way for up to ``wait_s``, hang up."""
        leaving = threading.Timer(min(LEAVING_S, wait_s / 2), self._leave)
        leaving.daemon = True
        try:
            leaving.start()
        except RuntimeError:  # no more threads: then they are not given the time
            self._leave()
        self._listener.stop(wait_s)
        leaving.cancel()
        if self._workers is not None:
            self._workers.stop()

    def _serve(self, accepted: socket.socket) -> None:
        assert self._workers is not None, "it is open"
        if isinstance(self._place, TcpDoor):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # clients of gRPC stay, and some just vanish
        try:
            duplex = self._greeted(accepted)
        except OSError as error:
            log.debug("a TLS handshake was not finished: %s", error)
            return
        service = self._service_for(accepted, lambda: self._listener.keep(accepted))
        connection = Connection(duplex, service, self._workers, self._limits)
        self._connections[accepted] = connection
        try:
            if self._listener.is_stopping:
                connection.drain()
            connection.serve()
        finally:
            self._connections.pop(accepted, None)

    def _greeted(self, accepted: socket.socket) -> Duplex:
        tick_s = self._limits.request_s_max
        if self._greeter is None:
            return PlainDuplex(accepted, tick_s, tick_s, self._polling)
        from edge_component.rpc.duplex_tls import shake_hands  # noqa: PLC0415 - only for doors with keys

        return shake_hands(accepted, self._greeter.context(), self._greeter.hello_s, tick_s, tick_s)

    def _refuse(self, accepted: socket.socket) -> None:
        """There is no place for it; a client of gRPC tries again by itself."""
        if self._greeter is None:
            reason = f"{self._place.connections_max} connections are open already"
            accepted.send(settings({}) + go_away(0, Code.ENHANCE_YOUR_CALM, reason))

    def _leave(self) -> None:
        for connection in list(self._connections.values()):
            connection.leave()

    def _end(self, accepted: socket.socket) -> None:
        connection = self._connections.get(accepted)
        if connection is not None:
            connection.drain()
        else:  # in the middle of its handshake
            accepted.shutdown(socket.SHUT_RDWR)
