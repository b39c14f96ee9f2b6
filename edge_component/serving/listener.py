"""A socket that listens, accepts and counts: what the doors with a thread for each connection have in common.

The failures this exists for: a stale socket file of a killed runtime; a socket that exists before anybody listens or
with the wrong mode; and a connection flood. The socket is bound under another name, given its mode, made to listen and
only then renamed to its own: whoever finds it can connect, and whatever lay there before is replaced. On the way out the
name is only removed if it is still ours: a successor may have taken it.

One thread accepts; each connection has a thread of its own.
"""

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_component.contracts.unix_address import unix_address
from edge_component.serving.access import SocketAccess, own_user_id, peer_of
from edge_component.serving.exposure import LOOPBACK, TcpAddress

log = logging.getLogger(__name__)

Serve = Callable[[socket.socket], None]
"""Serves one accepted socket to its end and closes it."""


COMPLAINT_S = 60.0
"""Between two sentences in the log about clients that cannot be served."""
TURNED_AWAY_MAX = 16
"""Refused TCP connections that are kept open until they have read why, or until more come."""
EMPTIED_BYTES = 65_537
"""More than any one message may have; of a longer one the kernel throws the rest away."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens; ``leave`` is called before it is closed."""

    listening: socket.socket
    leave: Callable[[], None]


class Place(Protocol):
    """Where to listen.

    Attributes:
        name: for logs and threads.
        connections_max: served at once; ``refuse`` gets those beyond.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    @property
    def connections_max(self) -> int: ...  # noqa: D102 - see the class

    def bind(self) -> Bound:
        """Listen. Raises OSError where that is not possible."""

    def admits(self, connection: socket.socket) -> bool:
        """Whether whoever connected may be served."""


@dataclass(frozen=True, slots=True)
class Door:
    """A Unix socket.

    Attributes:
        path: of the socket.
        kind: ``SOCK_SEQPACKET`` or ``SOCK_STREAM``.
        access: who may connect: the file's mode and group, and whom the kernel must name as the peer.
        connections_max: see :class:`Place`.
    """

    path: Path
    kind: socket.SocketKind
    access: SocketAccess
    connections_max: int

    @property
    def name(self) -> str:
        """The file's."""
        return self.path.name

    def bind(self) -> Bound:
        """See :class:`Place`."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, self.kind)
        try:
            with unix_address(beside) as address:
                listening.bind(address)
            restrict(beside, self.access)
            listening.listen(self.connections_max + 16)
            inode = beside.stat().st_ino
            beside.replace(self.path)
        except OSError:
            listening.close()
            beside.unlink(missing_ok=True)
            raise
        return Bound(listening, lambda: remove_name(self.path, inode))

    def admits(self, connection: socket.socket) -> bool:
        """See :class:`Place`."""
        peer = peer_of(connection)
        admitted = self.access.admits(peer, own_user_id())
        if not admitted:
            log.warning("%s: user %d (process %d) may not connect", self.name, peer.user_id, peer.process_id)
        return admitted


@dataclass(frozen=True, slots=True)
class TcpDoor:
    """A TCP address, or all of a port's; whoever can reach it may connect. Whether it may be opened is exposure.py's."""

    address: TcpAddress
    connections_max: int

    @property
    def name(self) -> str:
        """The address."""
        return self.address.name

    def bind(self) -> Bound:
        """See :class:`Place`."""
        host, port = self.address.host, self.address.port
        listening = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=self.connections_max + 16,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
        return Bound(listening, lambda: None)

    def admits(self, connection: socket.socket) -> bool:
        """See :class:`Place`; the kernel does not say who connects over TCP."""
        del connection
        return True


class LoopbackDoor(TcpDoor):
    """A TCP port of 127.0.0.1; 0 is any free one. Whoever has a process on this device may connect."""

    __slots__ = ()

    def __init__(self, port: int, connections_max: int) -> None:
        """Nothing is opened."""
        super().__init__(TcpAddress(LOOPBACK, port), connections_max)


class Listener:
    """Accepts on one door."""

    def __init__(
        self, door: Place, serve: Serve, refuse: Serve, *, meets_strangers: bool = False, end: Serve | None = None
    ) -> None:
        """Not yet open; see :meth:`open`.

        ``end`` tells a connection that the door closes: its thread should come to an end with what is under way. Without,
        it sees the end of its input.

        ``meets_strangers``: a connection's place is its own only once :meth:`keep` has been called for it; until then, where
        all places are taken, it goes for the next one to come. So whoever connects and says nothing keeps nobody out.
        """
        self._strangers: dict[socket.socket, None] | None = {} if meets_strangers else None
        self._door = door
        self._serve = serve
        self._refuse = refuse
        self._end: Serve = end or _end_input
        self._bound: Bound | None = None
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._turned_away: deque[socket.socket] = deque()
        self._lock = threading.Lock()
        self._stopping = False
        self._quiet_until_s = 0.0

    def open(self) -> None:
        """Listen from now on.

        Raises:
            OSError: the folder is not there or may not be written, or the port is taken.
        """
        self._bound = self._door.bind()
        listening = self._bound.listening
        self._thread = threading.Thread(
            target=self._accept, args=(listening,), name=f"accept-{self._door.name}", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Of a TCP door that is open."""
        assert self._bound is not None, "opened first"
        port: int = self._bound.listening.getsockname()[1]
        return port

    @property
    def is_stopping(self) -> bool:
        """:meth:`stop` has been called."""
        return self._stopping

    def stop(self, wait_s: float) -> None:
        """Accept no more; let requests in flight finish for up to ``wait_s``, then hang up."""
        self._stopping = True
        bound, self._bound = self._bound, None
        if bound is None:
            return
        bound.leave()
        listening = bound.listening
        listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        listening.close()
        for connection in self._turned_away:
            connection.close()
        served = self._snapshot()
        for connection, _ in served:
            try:
                self._end(connection)
            except OSError as error:
                log.debug("a client left before the door closed: %s", error)
        ends_at_s = time.monotonic() + wait_s  # for all of them together: Greengrass kills what stops too slowly
        for connection, thread in served:
            thread.join(max(ends_at_s - time.monotonic(), 0))
            _shut(connection, socket.SHUT_RDWR)

    def keep(self, connection: socket.socket) -> None:
        """It has shown who it is: its place is its own from now on."""
        if self._strangers is not None:
            with self._lock:
                self._strangers.pop(connection, None)

    def connections_count(self) -> int:
        """Connections being served."""
        return len(self._connections)

    def _accept(self, listening: socket.socket) -> None:
        while not self._stopping:
            try:
                connection, _ = listening.accept()
            except OSError as error:
                if not self._stopping:
                    self._complain("accepting on %s failed: %s", error)
                    threading.Event().wait(0.1)  # out of descriptors: others must hang up first
                continue
            try:
                self._take(connection)
            except Exception as error:  # noqa: BLE001 - out of memory, say: costs this client, and never the door
                self._complain("a connection on %s was dropped: %r", error)
                self._forget(connection)
                connection.close()

    def _complain(self, sentence: str, error: Exception) -> None:
        """Say it, but not with every client that meets it."""
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + COMPLAINT_S
            log.warning(sentence, self._door.name, error)

    def _take(self, connection: socket.socket) -> None:
        if not self._door.admits(connection):
            connection.close()
            return
        with self._lock:
            full = len(self._connections) >= self._door.connections_max and not self._part_with_a_stranger()
            if not full:
                thread = threading.Thread(target=self._run, args=(connection,), name=self._door.name, daemon=True)
                self._connections[connection] = thread
                if self._strangers is not None:
                    self._strangers[connection] = None
        if full:
            self._turn_away(connection)
            return
        try:
            thread.start()
        except RuntimeError as error:  # no more threads or memory for one: this client goes, the door stays
            self._complain("a connection on %s was turned away: %s", error)
            self._forget(connection)
            self._turn_away(connection)

    def _turn_away(self, connection: socket.socket) -> None:
        """Say why, and see to it that this can be read.

        Closed at once, with what the client has sent unread, the kernel would throw our sentence away. A Unix socket can
        be told to take no more and be emptied; what TCP still has on its way cannot, so such a socket is kept a while.
        """
        connection.setblocking(False)
        try:
            self._refuse(connection)
        except OSError as error:
            log.debug("a client that was turned away did not listen: %s", error)
        if connection.family == socket.AF_UNIX:
            _empty(connection)
            connection.close()
            return
        self._turned_away.append(connection)
        if len(self._turned_away) > TURNED_AWAY_MAX:
            self._turned_away.popleft().close()

    def _run(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        except Exception:  # a defect of ours must cost this connection only
            log.exception("a connection on %s ended in an unforeseen error", self._door.name)
        finally:
            self._forget(connection)
            connection.close()

    def _part_with_a_stranger(self) -> bool:
        """Hang up on the one that has been here longest; whether there was one. Its thread sees the end by itself."""
        if not self._strangers:
            return False
        longest = next(iter(self._strangers))
        del self._strangers[longest]
        self._connections.pop(longest, None)
        _shut(longest, socket.SHUT_RDWR)
        return True

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.pop(connection, None)
            if self._strangers is not None:
                self._strangers.pop(connection, None)

    def _snapshot(self) -> list[tuple[socket.socket, threading.Thread]]:
        with self._lock:
            return list(self._connections.items())


def restrict(path: Path, access: SocketAccess) -> None:
    """Give a socket's file its group and mode."""
    if access.group_id is not None:
        os.chown(path, -1, access.group_id)
    path.chmod(access.mode)


def remove_name(path: Path, inode: int) -> None:
    """Remove a socket's name, unless a successor has taken it."""
    try:
        if path.stat().st_ino == inode:
            path.unlink()
    except OSError as error:
        log.debug("the socket's name was gone already: %s", error)


def has_hung_up(connection: socket.socket) -> bool:
    """Whether a Unix socket's other side is closed, and not merely sends no more; any thread may ask, at any time."""
    descriptor = connection.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is told of unasked
    return bool(poll.poll(0))


def _empty(connection: socket.socket) -> None:
    """Take no more, and throw away what is there; the socket does not block."""
    _shut(connection, socket.SHUT_RD)
    try:
        while connection.recv(EMPTIED_BYTES):
            pass
    except OSError:
        return  # the other side is gone


def _end_input(connection: socket.socket) -> None:
    """Its thread sees the end of input after what it is answering."""
    _shut(connection, socket.SHUT_RD)


def _shut(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError:
        return  # already gone
