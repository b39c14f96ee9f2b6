"""The fast path's door: ``infer.sock``. See fastpath_connection.py for what is said behind it."""

import socket
from pathlib import Path

from edge_component.contracts.fastpath import SOCKET_NAME, Kind, pack_control
from edge_component.inference.errors import BusyError
from edge_component.serving.access import OWNER_ONLY, SocketAccess
from edge_component.serving.failures import failure_of
from edge_component.serving.fastpath_connection import FastpathConnection
from edge_component.serving.listener import Door, Listener
from edge_component.serving.serving import Serving


def fastpath_listener(work_path: Path, serving: Serving, access: SocketAccess = OWNER_ONLY) -> Listener:
    """The door, closed; ``open`` it once every model has been restored."""
    limit = serving.config.connections_max

    def serve(connection: socket.socket) -> None:
        FastpathConnection(connection, serving).serve()

    def refuse(connection: socket.socket) -> None:
        error = BusyError(f"{limit} connections are open already")
        connection.send(pack_control(Kind.REFUSED, failure_of(error).to_document()))

    return Listener(Door(work_path / SOCKET_NAME, socket.SOCK_SEQPACKET, access, limit), serve, refuse)
