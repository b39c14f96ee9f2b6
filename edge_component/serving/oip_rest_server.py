"""The REST door as a listener: a thread and an :class:`OipRest` for each connection, on a Unix socket or a loopback port."""

import socket

from edge_component.serving.access import peer_of
from edge_component.serving.http_connection import HttpConnection, HttpLimits, is_there
from edge_component.serving.listener import Listener, LoopbackDoor, Place
from edge_component.serving.oip_repository import Behind
from edge_component.serving.oip_request import SharedMemory
from edge_component.serving.oip_rest import OipRest, refusal


def rest_listener(door: Place, behind: Behind, limits: HttpLimits) -> Listener:
    """The door, closed."""
    over_tcp = isinstance(door, LoopbackDoor)

    def serve(connection: socket.socket) -> None:
        if over_tcp:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shared = SharedMemory(behind.regions, None if over_tcp else peer_of(connection).user_id)
        # Stopping ends what comes in, which looks as if the client had hung up: what is under way is finished all the same.
        rest = OipRest(
            behind,
            shared,
            over_tcp=over_tcp,
            body_bytes_max=limits.body_bytes_max,
            is_wanted=lambda: listener.is_stopping or is_there(connection),
        )
        try:
            HttpConnection(connection, limits, rest).serve()
        finally:
            rest.close()

    def refuse(connection: socket.socket) -> None:
        reply = refusal(503, f"{door.connections_max} connections are open already; use one for each thread")
        connection.sendmsg(reply.parts(keep_alive=False))

    listener = Listener(door, serve, refuse)
    return listener
