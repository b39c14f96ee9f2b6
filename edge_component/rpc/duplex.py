"""A connection that one thread reads while others write: the plain one. TLS is duplex_tls.py's.

Its limits are the kernel's (``SO_RCVTIMEO``, ``SO_SNDTIMEO``), set once, so that they cost a call nothing. The kernel's for
sending begins anew with each piece that is taken, so it is short, and a send that it ends part way is looked at here.
"""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Protocol

from edge_component.polling import NEVER, PolledSocket, Polling
from edge_component.rpc.messages import Buffer

PIECES_MAX = 512
"""Of one send; the kernel takes 1024."""
SEND_TICK_S = 1.0
"""After which the kernel gives up a send of which it can pass on nothing more."""


class Duplex(Protocol):
    """One connection. Receiving is for one thread at a time; sending too, but they may be two."""

    def receive(self, target: memoryview) -> int:
        """Bytes received; 0 at the end. Raises TimeoutError where nothing came for the time set; OSError."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """All of these pieces. Raises OSError, also where the client did not take them within the time set."""

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
        self.limit(idle_s, send_s)

    def limit(self, idle_s: float, send_s: float) -> None:
        """How long nothing may come, and how long one send may take."""
        self._send_s = send_s
        set_limit(self._socket, socket.SO_RCVTIMEO, idle_s)
        set_limit(self._socket, socket.SO_SNDTIMEO, min(send_s, SEND_TICK_S))

    def receive(self, target: memoryview) -> int:
        """See :class:`Duplex`."""
        try:
            return self._receive_into(target)
        except BlockingIOError:
            raise TimeoutError from None

    def send(self, parts: Sequence[Buffer]) -> None:
        """See :class:`Duplex`."""
        send_all(self._socket, parts, self._send_s)

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


def send_all(connection: socket.socket, parts: Sequence[Buffer], send_s: float) -> None:
    """Each piece, to the last byte, within about that time.

    Raises:
        OSError: the client has gone, or takes too long.
    """
    if len(parts) > PIECES_MAX:
        parts = [b"".join(parts)]
    ends_at_s = 0.0
    while True:
        try:
            sent = connection.send(parts[0]) if len(parts) == 1 else connection.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        parts = _after(sent, parts)
        if not parts:
            return
        ends_at_s = ends_at_s or time.monotonic() + send_s
        if time.monotonic() > ends_at_s:
            raise TimeoutError("the client takes too little of what it is sent")


def _after(sent: int, parts: Sequence[Buffer]) -> Sequence[Buffer]:
    """What is left of them."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return ()


def set_limit(connection: socket.socket, option: int, limit_s: float) -> None:
    """A call that takes longer ends in EAGAIN."""
    limit = struct.pack("ll", int(limit_s), int(limit_s % 1 * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, option, limit)


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # already gone
        connection.shutdown(how)
