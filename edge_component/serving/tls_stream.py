"""A connection under TLS as http_connection.py uses it, and the handshake that begins it.

The failures this exists for: a client that opens a connection and never finishes its handshake (it has ``limit_s``, all
steps together, and nobody waits for it but its own thread), and one that nobody can hang up on: wrapping a socket would
take it out of the listener's hands. So TLS has a duplicate of the descriptor, and the listener's own still ends it.
"""

import contextlib
import socket
import ssl
from collections.abc import Sequence

from edge_component.serving.http_messages import Buffer
from edge_component.serving.http_stream import PlainStream

RECORD_BYTES_MAX = 16_384
"""What one TLS record carries; an answer that fits is sent in one, in one call."""


class TlsStream:
    """A :class:`~edge_component.serving.http_stream.ByteStream`; its time limits are the ``ssl`` module's."""

    def __init__(self, secured: ssl.SSLSocket, connection: socket.socket) -> None:
        """After the handshake; ``connection`` is the socket below."""
        self._socket = secured
        self._below = PlainStream(connection)
        self._limit_s = self._receive_s = self._send_s = secured.gettimeout() or 0.0

    def receive(self, target: memoryview, flags: int = 0) -> int:
        """See :class:`~edge_component.serving.http_stream.ByteStream`; a record at most."""
        del flags
        self._use(self._receive_s)
        try:
            return self._socket.recv_into(target, len(target))
        except TimeoutError:
            return 0

    def send(self, parts: Sequence[Buffer], /) -> int:
        """See :class:`~edge_component.serving.http_stream.ByteStream`."""
        self._use(self._send_s)
        small = sum(map(len, parts)) <= RECORD_BYTES_MAX
        return self._socket.send(b"".join(parts) if small else parts[0])

    def limit_receiving(self, limit_s: float) -> None:
        """See :class:`~edge_component.serving.http_stream.ByteStream`."""
        self._receive_s = limit_s

    def limit_sending(self, limit_s: float) -> None:
        """See :class:`~edge_component.serving.http_stream.ByteStream`."""
        self._send_s = limit_s

    def linger(self, limit_s: float) -> None:
        """See :class:`~edge_component.serving.http_stream.ByteStream`; what still comes is not even decrypted."""
        self._say_goodbye()
        self._socket.settimeout(None)  # both descriptors are one file: the one below blocks again
        self._below.linger(limit_s)

    def close(self) -> None:
        """See :class:`~edge_component.serving.http_stream.ByteStream`."""
        self._say_goodbye()
        self._socket.close()
        self._below.close()

    def _say_goodbye(self) -> None:
        """Send TLS's own end, so that the client can tell it from a cut; without waiting for the client's."""
        with contextlib.suppress(OSError, ValueError):  # it is gone, or has not said its own goodbye yet
            self._socket.settimeout(0.0)
            self._socket.unwrap()

    def _use(self, limit_s: float) -> None:
        if limit_s != self._limit_s:
            self._limit_s = limit_s
            self._socket.settimeout(limit_s)


def shake_hands(connection: socket.socket, context: ssl.SSLContext, limit_s: float) -> TlsStream:
    """Begin TLS on an accepted socket, within the time limit; the socket stays the caller's when this raises.

    Raises:
        OSError: the client spoke something else, broke off, or took too long.
    """
    with connection.dup() as duplicate:  # no longer its own once it is wrapped
        duplicate.settimeout(limit_s)
        secured = context.wrap_socket(duplicate, server_side=True, do_handshake_on_connect=False)
    try:
        secured.do_handshake()
    except BaseException:
        with contextlib.suppress(OSError):
            secured.settimeout(None)  # of both descriptors: the caller gets its socket back as it was
        secured.close()
        raise
    return TlsStream(secured, connection)
