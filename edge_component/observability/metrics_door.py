"""``GET /metrics`` for Prometheus, on a port of 127.0.0.1 or a Unix socket; off unless configured.

The failure this exists for: a metrics port that the whole network can read, and that a slow reader can stop the device
with. It never listens beyond loopback (a collector on the device forwards), a few connections are served at once, each
within a few seconds, and what they read costs no request anything.
"""

import logging
import socket

from edge_component.observability.device_figures import ReadFigures, families
from edge_component.observability.exposition import CONTENT_TYPE, exposition
from edge_component.serving.http_connection import AfterSending, HttpConnection, HttpLimits, HttpRequest
from edge_component.serving.http_messages import Reply
from edge_component.serving.http_stream import PlainStream
from edge_component.serving.listener import Listener, LoopbackDoor, Place

log = logging.getLogger(__name__)

SOCKET_NAME = "metrics.sock"
CONNECTIONS_MAX = 4
LIMITS = HttpLimits(head_bytes_max=8_192, body_bytes_max=0, idle_s=30.0, request_s_max=5.0)
LOOPBACK_HOSTS = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})


class MetricsService:
    """An :class:`~edge_component.serving.http_connection.HttpService`."""

    aligned_by = b""

    def __init__(self, read: ReadFigures, *, over_tcp: bool) -> None:
        """``over_tcp``: then a request must name a loopback host, which a web page cannot forge (DNS rebinding)."""
        self._read = read
        self._over_tcp = over_tcp

    def respond(self, request: HttpRequest) -> tuple[Reply, AfterSending | None]:
        """See :class:`~edge_component.serving.http_connection.HttpService`."""
        return self._answer(request), None

    def refusal(self, status: int, message: str) -> Reply:
        """See :class:`~edge_component.serving.http_connection.HttpService`."""
        return Reply(status, [f"{message}\n".encode()], b"text/plain; charset=utf-8")

    def _answer(self, request: HttpRequest) -> Reply:
        if self._over_tcp and not _names_loopback(request.head.headers.get(b"host", b"")):
            return self.refusal(403, "only requests to localhost are answered here; the Host header names another")
        if request.head.target.partition("?")[0] != "/metrics":
            return self.refusal(404, "there is /metrics here, and nothing else")
        if request.head.method not in ("GET", "HEAD"):
            return self.refusal(405, "/metrics takes GET")
        try:
            body = exposition(families(self._read()))
        except Exception:  # a defect costs this scrape
            log.exception("the metrics could not be read")
            return self.refusal(500, "an unforeseen error; see the runtime's log")
        return Reply(200, [body], CONTENT_TYPE.encode())


def metrics_listener(place: Place, read: ReadFigures) -> Listener:
    """The door, closed."""
    service = MetricsService(read, over_tcp=isinstance(place, LoopbackDoor))

    def serve(connection: socket.socket) -> None:
        HttpConnection(PlainStream(connection), LIMITS, service).serve()

    def refuse(connection: socket.socket) -> None:
        reply = service.refusal(503, f"{place.connections_max} scrapes are under way already")
        connection.sendmsg(reply.parts(keep_alive=False))

    return Listener(place, serve, refuse)


def _names_loopback(host: bytes) -> bool:
    name = host.lower()
    if not name.endswith(b"]"):
        name = name.rpartition(b":")[0] or name
    return name in LOOPBACK_HOSTS
