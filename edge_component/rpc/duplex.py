"""A connection that one thread reads while others write: the plain one. TLS is duplex_tls.py's.

Its limits are the kernel's (``SO_RCVTIMEO``, ``SO_SNDTIMEO``), set once, so that they cost a call nothing.
"""

import contextlib
import select
import socket
import struct
from collections.abc import Sequence
from typing import Protocol

from edge_component.polling import NEVER, PolledSocket, Polling
from edge_component.rpc.messages import Buffer

PIECES_MAX = 512
"""Of one send; the kernel takes 1024."""


class Duplex(Protocol):
    """One connection. Receiving is for one thread at a time; sending too, but they may be two."""

    def receive(self, target: memoryview) -> int:
        """Bytes received; 0 at the end. Raises TimeoutError where nothing came for the time set; OSError."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """All of these pieces. Raises OSError, also where the client took nothing for the time set."""

    def takes_more(self) -> bool:
        """Whether something short can be sent without waiting, while nobody else sends."""

    def stop_receiving(self) -> None:
        """Whoever receives sees the end now; what was begun can still be sent."""

    def hang_up(self) -> None:
        """Both ways; whoever receives or sends sees the end now."""


class PlainDuplex:
    """The socket itself."""

    def __init__(self, connection: socket.socket, idle_s: float, send_s: float, polling: Polling = NEVER) -> None:
        """The socket stays the caller's to close."""
        self._socket = connection
        self._receive_into = (
            PolledSocket(connection, polling).receive_into if polling.limit_ns else connection.recv_into
        )
        set_limit(connection, socket.SO_RCVTIMEO, idle_s)
        set_limit(connection, socket.SO_SNDTIMEO, send_s)

    def receive(self, target: memoryview) -> int:
        """See :class:`Duplex`."""
        try:
            return self._receive_into(target)
        except BlockingIOError:
            raise TimeoutError from None

    def send(self, parts: Sequence[Buffer]) -> None:
        """See :class:`Duplex`."""
        send_all(self._socket, parts)

    def takes_more(self) -> bool:
        """See :class:`Duplex`."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLOUT)
        except ValueError:  # closed meanwhile
            return False
        return bool(poll.poll(0))

    def stop_receiving(self) -> None:
        """See :class:`Duplex`."""
        _shut(self._socket, socket.SHUT_RD)

    def hang_up(self) -> None:
        """See :class:`Duplex`."""
        _shut(self._socket, socket.SHUT_RDWR)


def send_all(connection: socket.socket, parts: Sequence[Buffer]) -> None:
    """Each piece, to the last byte.

    Raises:
        OSError: the client has gone, or takes nothing.
    """
    if len(parts) == 1:
        connection.sendall(parts[0])
        return
    if len(parts) > PIECES_MAX:
        parts = [b"".join(parts)]
    sent = connection.sendmsg(parts)
    for part in parts:
        if sent >= len(part):
            sent -= len(part)
            continue
        connection.sendall(memoryview(part)[sent:])
        sent = 0


def set_limit(connection: socket.socket, option: int, limit_s: float) -> None:
    """A call that takes longer ends in EAGAIN."""
    limit = struct.pack("ll", int(limit_s), int(limit_s % 1 * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, option, limit)


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # already gone
        connection.shutdown(how)
