"""The REST door as a listener: a thread and an :class:`OipRest` for each connection, on a Unix socket or a TCP port.

Where the door has keys, a connection begins with the TLS handshake, on its own thread, and is a stranger's (listener.py)
until its first request has shown the token. Nothing of that is imported for a door without.
"""

import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_component.serving.access import peer_of
from edge_component.serving.http_connection import LINGER_S, HttpConnection, HttpLimits, is_there
from edge_component.serving.http_stream import PlainStream
from edge_component.serving.listener import Listener, Place, TcpDoor
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_request import SharedMemory
from edge_component.serving.oip_rest import ANY_HOST, LOOPBACK_HOSTS, OipRest, refusal

if TYPE_CHECKING:  # only for doors with keys
    from edge_component.serving.door_guard import DoorGuard
    from edge_component.serving.tls_stream import TlsStream

log = logging.getLogger(__name__)

REFUSAL_ALERT = bytes((21, 3, 3, 0, 2, 2, 80))
"""TLS's fatal alert ``internal_error`` (RFC 8446, 6.2): all that can be said to whom no handshake is offered."""


def rest_listener(door: Place, behind: Behind, limits: HttpLimits, guard: "DoorGuard | None" = None) -> Listener:
    """The door, closed; a TCP door has a guard unless it is on loopback."""
    over_tcp = isinstance(door, TcpDoor)
    hosts = ANY_HOST
    if isinstance(door, TcpDoor) and guard is None:
        hosts = LOOPBACK_HOSTS | {door.address.host.encode()}
    if guard is not None:
        limits = replace(limits, first_s=guard.hello_s)

    def serve(connection: socket.socket) -> None:
        if over_tcp:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: PlainStream | TlsStream = PlainStream(connection, behind.polling)
        if guard is not None:
            secured = _greeted(guard, connection)
            if secured is None:
                return
            stream = secured
        gate = None if guard is None else guard.gate(lambda: listener.keep(connection))
        shared = SharedMemory(behind.regions, None if over_tcp else peer_of(connection).user_id)
        # Stopping ends what comes in, which looks as if the client had hung up: what is under way is finished all the same.
        rest = OipRest(
            behind,
            shared,
            body_bytes_max=limits.body_bytes_max,
            hosts=hosts,
            is_wanted=lambda: listener.is_stopping or is_there(connection),
        )
        try:
            HttpConnection(stream, limits, rest, gate).serve()
        finally:
            rest.close()

    def refuse(connection: socket.socket) -> None:
        if guard is not None:
            connection.send(REFUSAL_ALERT)
            return
        reply = refusal(503, f"{door.connections_max} connections are open already; use one for each thread")
        connection.sendmsg(reply.parts(keep_alive=False))

    listener = Listener(door, serve, refuse, meets_strangers=guard is not None)
    return listener


def _greeted(guard: "DoorGuard", connection: socket.socket) -> "TlsStream | None":
    """The connection under TLS; ``None`` for whoever does not come to that, who is told if it spoke plain HTTP."""
    try:
        return guard.greet(connection)
    except OSError as error:
        log.debug("a TLS handshake was not finished: %s", error)
        if getattr(error, "reason", "") != "HTTP_REQUEST":
            return None
    plain = PlainStream(connection)
    try:
        plain.limit_sending(LINGER_S)
        plain.send(refusal(400, "this door speaks TLS: ask with https").parts(keep_alive=False))
        plain.linger(LINGER_S)
    except OSError as error:
        log.debug("a client without TLS did not listen: %s", error)
    return None
