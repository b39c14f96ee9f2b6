"""What an HTTP conversation does to its connection, and the plain connection that does it. TLS is tls_stream.py's.

The failure this exists for: a second HTTP server for TLS. An ``SSLSocket`` takes no flags, sends no pieces and knows nothing
of the kernel's time limits, on which http_connection.py is built; so what differs is here, behind six calls, and a plain
connection's are the socket's own.
"""

import socket
import struct
import time
from collections.abc import Sequence
from typing import Protocol

from edge_component.polling import NEVER, PolledSocket, Polling
from edge_component.serving.http_messages import Buffer

DRAIN_BYTES = 16_384


class ByteStream(Protocol):
    """One connection; for one thread."""

    def receive(self, target: memoryview, flags: int = 0) -> int:
        """Bytes received; 0 at the end, or when the time limit has passed. ``flags`` are a wish, such as MSG_WAITALL."""

    def send(self, parts: Sequence[Buffer], /) -> int:
        """Bytes sent of these pieces, at least one. Raises OSError, also when the time limit has passed."""

    def limit_receiving(self, limit_s: float) -> None:
        """How long one call may wait from now on."""

    def limit_sending(self, limit_s: float) -> None:
        """The same for sending."""

    def linger(self, limit_s: float) -> None:
        """Say that nothing more comes, and throw away what still does, for a while.

        Closed with bytes unread, the kernel would throw our last sentence away.
        """

    def close(self) -> None:
        """Hang up."""


class PlainStream:
    """The socket itself. Its time limits are the kernel's (``SO_RCVTIMEO``), which cost an ordinary request no call."""

    def __init__(self, connection: socket.socket, polling: Polling = NEVER) -> None:
        """Take over the socket."""
        self._socket = connection
        self._polled = PolledSocket(connection, polling) if polling.limit_ns else None
        self.send = connection.sendmsg

    def receive(self, target: memoryview, flags: int = 0) -> int:
        """See :class:`ByteStream`."""
        try:
            if self._polled is not None:
                return self._polled.receive_into(target, flags)
            return self._socket.recv_into(target, 0, flags)
        except BlockingIOError:
            return 0

    def limit_receiving(self, limit_s: float) -> None:
        """See :class:`ByteStream`."""
        self._limit(socket.SO_RCVTIMEO, limit_s)

    def limit_sending(self, limit_s: float) -> None:
        """See :class:`ByteStream`."""
        self._limit(socket.SO_SNDTIMEO, limit_s)

    def linger(self, limit_s: float) -> None:
        """See :class:`ByteStream`."""
        self._socket.shutdown(socket.SHUT_WR)
        self.limit_receiving(limit_s)
        thrown_away = memoryview(bytearray(DRAIN_BYTES))
        ends_at_s = time.monotonic() + limit_s
        while self.receive(thrown_away) and time.monotonic() < ends_at_s:
            pass

    def close(self) -> None:
        """See :class:`ByteStream`."""
        self._socket.close()

    def _limit(self, option: int, limit_s: float) -> None:
        """A call that takes longer ends in EAGAIN."""
        seconds, microseconds = int(limit_s), int(limit_s % 1 * 1_000_000)
        self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, microseconds))
