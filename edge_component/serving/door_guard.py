"""What stands at the threshold of one TCP door with keys: the TLS handshake, then the token, before anything is done.

The failure this exists for: work done for strangers. A request's token is looked at as soon as its head is there, before
its body is taken in; and a refusal is said to the client, and to the log once in ``REPORT_S`` with how many there were: a
log must not be what an attack fills.

Where there is a token, the Host header is not looked at: a web page that has this address under a name of its own (DNS
rebinding) does not know the token. Thread-safe. gRPC's side is oip_grpc_guard.py's.
"""

import logging
import socket
import threading
from collections.abc import Callable

from edge_component.clock import Clock
from edge_component.serving.door_keys import DoorKeyring
from edge_component.serving.http_messages import Head, HttpError
from edge_component.serving.tls_stream import TlsStream, shake_hands

log = logging.getLogger(__name__)

REPORT_S = 60.0
NO_TOKEN = "this door asks for a token: send the header Authorization: Bearer <token>"  # noqa: S105 - none
WRONG_TOKEN = "this is not the token of this door"  # noqa: S105 - none
CHALLENGE = b'WWW-Authenticate: Bearer realm="edgewright"%b\r\n'


class DoorGuard:
    """One door's; see the module's text."""

    def __init__(self, door: str, keyring: DoorKeyring, hello_s: float, clock: Clock) -> None:
        """``door`` is for the log; ``hello_s``: for the handshake, and again until the first request begins."""
        self._door = door
        self.keyring = keyring
        self.hello_s = hello_s
        self._clock = clock
        self._lock = threading.Lock()
        self._refused_count = 0
        self._report_again_s = clock.monotonic_s()

    def admits(self, authorization: str) -> bool:
        """Whether a request with this ``authorization`` may be answered; counted if not."""
        if self.keyring.current().keys.admits(authorization):
            return True
        with self._lock:
            self._refused_count += 1
            now_s = self._clock.monotonic_s()
            if now_s >= self._report_again_s:
                log.warning("%s refused %d requests without its token", self._door, self._refused_count)
                self._report_again_s, self._refused_count = now_s + REPORT_S, 0
        return False

    def greet(self, connection: socket.socket) -> TlsStream:
        """The handshake, with the certificate as it is now.

        Raises:
            OSError: see :func:`~edge_component.serving.tls_stream.shake_hands`.
        """
        return shake_hands(connection, self.keyring.current().context, self.hello_s)

    def gate(self, on_admitted: Callable[[], None]) -> Callable[[Head], None]:
        """What each head of one connection must pass; ``on_admitted`` is called when the first has."""
        is_known = False

        def check(head: Head) -> None:
            nonlocal is_known
            authorization = head.headers.get(b"authorization", b"").decode("latin-1")
            if not self.admits(authorization):
                if authorization:
                    raise HttpError(401, WRONG_TOKEN, CHALLENGE % b', error="invalid_token"')
                raise HttpError(401, NO_TOKEN, CHALLENGE % b"")
            if not is_known:
                is_known = True
                on_admitted()

        return check
