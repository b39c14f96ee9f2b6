"""Opens the Open Inference Protocol's doors that the configuration asks for; none of them by default.

The failure this exists for: a device that does not serve because an extra door could not be opened (a taken port, a
runtime without grpcio). Such a door is reported and left out; the fast path and the others serve. And a runtime that
carries what it does not use: HTTP and gRPC are imported when a door of theirs is opened.

TCP doors are on 127.0.0.1 and nowhere else.
"""

import importlib.util
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_component.serving.access import OWNER_ONLY, SocketAccess
from edge_component.serving.fastpath_connection import Serving
from edge_component.serving.listener import Door, LoopbackDoor, Place

if TYPE_CHECKING:  # what it brings is only for runtimes with such a door
    from edge_component.serving.oip_repository import Behind

log = logging.getLogger(__name__)

REST_SOCKET_NAME = "oip-rest.sock"
GRPC_SOCKET_NAME = "oip-grpc.sock"


@dataclass(frozen=True, slots=True)
class OipConfig:
    """What to open.

    Attributes:
        rest_port, grpc_port: of 127.0.0.1; 0 keeps the door closed.
        rest_socket, grpc_socket: whether there is a Unix socket in the work folder.
        shared_memory: whether clients may register shared memory.
        body_bytes_max: of one request.
    """

    rest_port: int = 0
    rest_socket: bool = False
    grpc_port: int = 0
    grpc_socket: bool = False
    shared_memory: bool = False
    body_bytes_max: int = 64_000_000


class OpenDoor(Protocol):
    """A door that can be opened and stopped."""

    def open(self) -> None:
        """Listen. Raises OSError."""

    def stop(self, wait_s: float) -> None:
        """Let requests in flight finish for up to ``wait_s``, then hang up."""


class OipDoors:
    """All of them. :meth:`open` after the models have been restored, :meth:`stop` before the router goes."""

    def __init__(self, work_path: Path, serving: Serving, config: OipConfig, access: SocketAccess = OWNER_ONLY) -> None:
        """Nothing is imported or opened. ``access`` is the Unix sockets'."""
        self._access = access
        self._work_path = work_path
        self._serving = serving
        self._config = config
        self._doors: list[OpenDoor] = []

    def open(self) -> tuple[str, ...]:
        """Open what is configured; returns one sentence for each door that could not be."""
        config = self._config
        if not (config.rest_port or config.rest_socket or config.grpc_port or config.grpc_socket):
            return ()
        made, problems = self._make()
        for name, door in made:
            try:
                door.open()
            except OSError as error:
                problems.append(f"{name} could not be opened: {error}")
            else:
                self._doors.append(door)
        for problem in problems:
            log.error("%s", problem)
        return tuple(problems)

    def stop(self, wait_s: float) -> None:
        """Close them."""
        while self._doors:
            self._doors.pop().stop(wait_s)

    def _make(self) -> tuple[list[tuple[str, OpenDoor]], list[str]]:
        from edge_component.serving.oip_repository import Behind  # noqa: PLC0415 - only where such a door is wanted

        config = self._config
        behind = Behind.make(self._serving, shared_memory=config.shared_memory, tensor_bytes_max=config.body_bytes_max)
        made: list[tuple[str, OpenDoor]] = []
        problems: list[str] = []
        if config.rest_port or config.rest_socket:
            made += self._make_rest(behind)
        if config.grpc_port or config.grpc_socket:
            if config.grpc_socket and self._access.user_ids:
                problems.append("the gRPC socket cannot be narrowed to socket_users; clear them, or use REST's")
                config = replace(config, grpc_socket=False)
            if importlib.util.find_spec("grpc") and importlib.util.find_spec("google.protobuf"):
                made += self._make_grpc(behind, config)
            else:
                problems.append("the gRPC door is configured, and this runtime was published without grpcio")
        return made, problems

    def _make_rest(self, behind: "Behind") -> Iterator[tuple[str, OpenDoor]]:
        from edge_component.serving.http_connection import HttpLimits  # noqa: PLC0415 - as above
        from edge_component.serving.oip_rest_server import rest_listener  # noqa: PLC0415 - as above

        connections_max = self._serving.config.connections_max
        limits = HttpLimits(body_bytes_max=self._config.body_bytes_max)
        doors: list[Place] = []
        if self._config.rest_socket:
            path = self._work_path / REST_SOCKET_NAME
            doors.append(Door(path, socket.SOCK_STREAM, self._access, connections_max))
        if self._config.rest_port:
            doors.append(LoopbackDoor(self._config.rest_port, connections_max))
        for door in doors:
            yield f"the REST door {door.name}", rest_listener(door, behind, limits)

    def _make_grpc(self, behind: "Behind", config: OipConfig) -> Iterator[tuple[str, OpenDoor]]:
        from edge_component.serving.oip_grpc import GrpcAddress, GrpcListener  # noqa: PLC0415 - as above

        addresses: list[GrpcAddress] = []
        if config.grpc_socket:
            addresses.append(GrpcAddress(unix=self._work_path / GRPC_SOCKET_NAME, access=self._access))
        if config.grpc_port:
            addresses.append(GrpcAddress(port=config.grpc_port))
        for address in addresses:
            yield f"the gRPC door {address.name}", GrpcListener(address, behind, config.body_bytes_max)
