"""The gRPC door's keys: its TLS, and the token that a call must carry. Imported where keys are configured.

The failure this exists for: a call that is taken in, up to 64 MB of it, and only then found to be a stranger's. A call's
token is looked at when its headers are there, and of one without it nothing more is taken in.
"""

import ssl
from collections.abc import Callable

from edge_component.rpc.errors import CallEnded, GrpcCode
from edge_component.rpc.headers import Head
from edge_component.serving.door_guard import NO_TOKEN, WRONG_TOKEN, DoorGuard

IDLE_S = 60.0
"""After which a connection without calls is ended; a client's channel opens another by itself."""


class GrpcGreeter:
    """A :class:`~edge_component.rpc.server.Greeter` with the door's certificate as it is at each handshake."""

    def __init__(self, guard: DoorGuard) -> None:
        """For one door."""
        self._guard = guard
        self.hello_s = guard.hello_s

    def context(self) -> ssl.SSLContext:
        """See :class:`~edge_component.rpc.server.Greeter`."""
        return self._guard.keyring.current().http2_context


def admission(guard: DoorGuard, keep: Callable[[], None]) -> Callable[[Head], None]:
    """What each call of one connection must pass; ``keep`` is called when the first has."""
    is_known = False

    def admit(head: Head) -> None:
        nonlocal is_known
        sent = head.values(b"authorization")
        authorization = sent[0].decode("latin-1") if len(sent) == 1 else ""
        if not guard.admits(authorization):
            raise CallEnded(GrpcCode.UNAUTHENTICATED, WRONG_TOKEN if authorization else NO_TOKEN)
        if not is_known:
            is_known = True
            keep()

    return admit
