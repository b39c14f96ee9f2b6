"""A connection under TLS that one thread reads while others write.

The failure this exists for: OpenSSL's state is one for both directions, and an ``SSLSocket`` that reads in one thread while
another writes corrupts it on Pythons before 3.13. So TLS runs in memory here: what came is decrypted, and what goes is
encrypted, under one lock, which is never held while anybody waits for the socket; or a client that does not read would not be
heard either. A second one keeps what goes in its order.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence

from edge_component.rpc.duplex import PlainDuplex, set_limit
from edge_component.rpc.messages import Buffer

CIPHER_BYTES = 65_536
RECORD_BYTES_MAX = 16_384
SHORTEST_S = 0.001


class TlsDuplex:
    """A :class:`~edge_component.rpc.duplex.Duplex`, made by :func:`shake_hands`."""

    def __init__(self, connection: socket.socket, idle_s: float, send_s: float, context: ssl.SSLContext) -> None:
        """Before the handshake."""
        self._socket = connection
        self._below = PlainDuplex(connection, idle_s, send_s)
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        """Taken first where both are."""
        self._cipher = bytearray(CIPHER_BYTES)

    def shake_hands(self, ends_at_s: float) -> None:
        """TLS's beginning, until a time of the monotonic clock.

        Raises:
            OSError: the client spoke something else, broke off, or was silent for the time set.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                left_s = ends_at_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("the TLS handshake took too long") from None
                set_limit(self._socket, socket.SO_RCVTIMEO, max(left_s, SHORTEST_S))  # 0 would be for ever
                if not self._fill():
                    raise ConnectionResetError("hung up during the TLS handshake") from None
            except ssl.SSLError:
                self._flush()  # the alert that says why
                raise
            else:
                self._flush()
                return

    def limit(self, idle_s: float, send_s: float) -> None:
        """See :meth:`~edge_component.rpc.duplex.PlainDuplex.limit`."""
        self._below.limit(idle_s, send_s)

    def receive(self, target: memoryview) -> int:
        """See :class:`~edge_component.rpc.duplex.Duplex`."""
        while True:
            with self._lock:
                try:
                    return self._tls.read(len(target), target)  # type: ignore[return-value] # an int, where it is given a buffer
                except ssl.SSLWantReadError:
                    answers = self._goes.pending  # as TLS 1.3 does to some of what it reads
                except ssl.SSLZeroReturnError:
                    return 0
            if answers:
                self._flush()
            if not self._fill():
                return 0

    def send(self, parts: Sequence[Buffer]) -> None:
        """See :class:`~edge_component.rpc.duplex.Duplex`."""
        with self._sending:
            with self._lock:
                for part in [b"".join(parts)] if sum(map(len, parts)) <= RECORD_BYTES_MAX else parts:
                    if len(part):
                        self._tls.write(part)
                cipher = self._goes.read()
            self._below.send([cipher])

    def takes_more(self) -> bool:
        """See :class:`~edge_component.rpc.duplex.Duplex`."""
        return self._below.takes_more()

    def stop_receiving(self) -> None:
        """See :class:`~edge_component.rpc.duplex.Duplex`."""
        self._below.stop_receiving()

    def hang_up(self) -> None:
        """See :class:`~edge_component.rpc.duplex.Duplex`; says TLS's own goodbye if that needs no waiting."""
        if self._sending.acquire(blocking=False):
            try:
                with self._lock:
                    with contextlib.suppress(OSError, ValueError):  # its own has not come, or it is gone
                        self._tls.unwrap()
                    goodbye = self._goes.read()
                with contextlib.suppress(OSError):
                    self._socket.send(goodbye, socket.MSG_DONTWAIT)
            finally:
                self._sending.release()
        self._below.hang_up()

    def _fill(self) -> bool:
        """Take in what the socket has; whether there was more than the end."""
        size = self._below.receive(memoryview(self._cipher))
        if size:
            with self._lock:
                self._came.write(memoryview(self._cipher)[:size])
        return size > 0

    def _flush(self) -> None:
        with self._sending:
            with self._lock:
                cipher = self._goes.read()
            if cipher:
                self._below.send([cipher])


def shake_hands(
    connection: socket.socket, context: ssl.SSLContext, hello_s: float, idle_s: float, send_s: float
) -> TlsDuplex:
    """Begin TLS on an accepted socket, all of it within ``hello_s``.

    Raises:
        OSError: the client spoke something else, broke off, or took too long.
    """
    duplex = TlsDuplex(connection, hello_s, min(hello_s, send_s), context)
    duplex.shake_hands(time.monotonic() + hello_s)
    duplex.limit(idle_s, send_s)
    return duplex
