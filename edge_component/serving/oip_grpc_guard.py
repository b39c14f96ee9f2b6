"""The gRPC door's keys: its credentials, and the token that a call must carry. Imported where keys are configured.

The failure this exists for: a call that is taken in, up to 64 MB of it, and only then found to be a stranger's. The
interceptor sees a call's metadata alone, and puts in its handler's place one that reads no message and ends the call.

gRPC's core accepts and shakes hands on threads of its own: a silent client keeps nobody waiting. What it would let a
stranger have without end is bounded by the options here.
"""

import resource
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from edge_component.serving.door_guard import NO_TOKEN, WRONG_TOKEN, DoorGuard

IDLE_S = 60.0
"""After which a connection without calls is ended; a client's channel opens another by itself."""
CONNECTIONS_MIN = 64


class TokenInterceptor(grpc.ServerInterceptor):
    """Ends each call whose metadata does not carry the token."""

    def __init__(self, guard: DoorGuard) -> None:
        """For one door."""
        self._guard = guard

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:  # noqa: ANN401 - grpc's own handler
        """See grpc."""
        sent = [value for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        authorization = str(sent[0]) if len(sent) == 1 else ""
        if self._guard.admits(authorization):
            return continuation(handler_call_details)
        return _WRONG if authorization else _MISSING


def secure_credentials(guard: DoorGuard) -> grpc.ServerCredentials:
    """The certificate as it is at each handshake."""
    given = guard.keyring.current()

    def renewed() -> Any:  # noqa: ANN401 - grpc's own; None keeps the last
        nonlocal given
        now = guard.keyring.current()
        if now is given:
            return None
        given = now
        return _certificate(now.keys.private_key, now.keys.certificate)

    first = _certificate(given.keys.private_key, given.keys.certificate)
    return grpc.dynamic_ssl_server_credentials(first, renewed, require_client_authentication=False)


def guarded_options(guard: DoorGuard) -> list[tuple[str, int]]:
    """What strangers may have of the server."""
    return [
        ("grpc.server_handshake_timeout_ms", int(guard.hello_s * 1000)),
        ("grpc.max_connection_idle_ms", int(IDLE_S * 1000)),
        ("grpc.max_allowed_incoming_connections", _connections_max()),
    ]


def _connections_max() -> int:
    """A quarter of the files that the process may open: the other doors need theirs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else max(soft // 4, CONNECTIONS_MIN)


def _certificate(private_key: bytes, certificate: bytes) -> Any:  # noqa: ANN401 - grpc's own
    return grpc.ssl_server_certificate_configuration([(private_key, certificate)])


def _ending(details: str) -> Any:  # noqa: ANN401 - grpc's own handler
    """A handler that reads nothing: the one for streams is not given its messages before it asks for them."""

    def end(_requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:  # noqa: ANN401 - never returns
        context.abort(grpc.StatusCode.UNAUTHENTICATED, details)

    return grpc.stream_stream_rpc_method_handler(end)


_MISSING = _ending(NO_TOKEN)
_WRONG = _ending(WRONG_TOKEN)
