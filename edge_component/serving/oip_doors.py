"""Opens the Open Inference Protocol's doors that the configuration asks for; none of them by default.

The failure this exists for: a device that does not serve because an extra door could not be opened (a taken port, a
runtime without protobuf). Such a door is reported and left out; the fast path and the others serve. And a runtime that
carries what it does not use: HTTP and gRPC are imported when a door of theirs is opened.

TCP doors are on 127.0.0.1 unless configured otherwise; whether they may be elsewhere is exposure.py's to decide, and one
that may not stays shut, with a sentence that says why. The keys are read when such a door is opened, and again when their
files change (door_keys.py).
"""

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_component.clock import Clock, SystemClock
from edge_component.config import RuntimeConfig
from edge_component.errors import DeviceError
from edge_component.serving.access import OWNER_ONLY, SocketAccess
from edge_component.serving.exposure import TcpAddress, check_exposure, key_files
from edge_component.serving.listener import Door, Place, TcpDoor
from edge_component.serving.serving import Serving

if TYPE_CHECKING:  # what it brings is only for runtimes with such a door
    from edge_component.serving.door_guard import DoorGuard
    from edge_component.serving.door_keys import DoorKeyring
    from edge_component.serving.oip_repository import Behind

log = logging.getLogger(__name__)

REST_SOCKET_NAME = "oip-rest.sock"
GRPC_SOCKET_NAME = "oip-grpc.sock"


class OpenDoor(Protocol):
    """A door that can be opened and stopped."""

    def open(self) -> None:
        """Listen. Raises OSError."""

    def stop(self, wait_s: float) -> None:
        """Let requests in flight finish for up to ``wait_s``, then hang up."""


class OipDoors:
    """All of them. :meth:`open` after the models have been restored, :meth:`stop` before the router goes."""

    def __init__(
        self, work_path: Path, serving: Serving, access: SocketAccess = OWNER_ONLY, clock: Clock | None = None
    ) -> None:
        """Nothing is imported or opened. ``serving.config`` says which doors; ``access`` is the Unix sockets'."""
        self._clock = clock or SystemClock()
        self._keyring: DoorKeyring | None = None
        self._work_path = work_path
        self._serving = serving
        self._access = access
        self._config = serving.config
        self._doors: list[OpenDoor] = []

    def open(self) -> tuple[str, ...]:
        """Open what is configured; returns one sentence for each door that could not be."""
        config = self._config
        for name in (REST_SOCKET_NAME, GRPC_SOCKET_NAME):  # of a runtime that was killed, and was configured otherwise
            (self._work_path / name).unlink(missing_ok=True)
        if not (config.oip_rest_port or config.oip_rest_socket or config.oip_grpc_port or config.oip_grpc_socket):
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

    def warnings(self) -> tuple[str, ...]:
        """What is amiss now with the keys of doors that are open: renewed and unusable, or ending soon."""
        return self._keyring.warnings() if self._keyring is not None else ()

    def stop(self, wait_s: float) -> None:
        """Close them; ``wait_s`` is for all of them together."""
        ends_at_s = time.monotonic() + wait_s
        while self._doors:
            self._doors.pop().stop(max(ends_at_s - time.monotonic(), 0.0))

    def _make(self) -> tuple[list[tuple[str, OpenDoor]], list[str]]:
        from edge_component.serving.oip_repository import Behind  # noqa: PLC0415 - only where such a door is wanted

        config = self._config
        behind = Behind.make(
            self._serving, shared_memory=config.oip_shared_memory, tensor_bytes_max=config.oip_body_bytes_max
        )
        made: list[tuple[str, OpenDoor]] = []
        problems = self._find_keys()
        if problems:
            config = replace(config, oip_rest_port=0, oip_grpc_port=0)
        if config.oip_rest_port or config.oip_rest_socket:
            made += self._make_rest(behind, config)
        if config.oip_grpc_port or config.oip_grpc_socket:
            try:
                made += self._make_grpc(behind, config)
            except ImportError as error:
                problems.append(
                    f"the gRPC door is configured, and this runtime was published without --with-grpc: {error}"
                )
        return made, problems

    def _find_keys(self) -> list[str]:
        """Read the keys that the TCP doors are to have; returns one sentence for each of them that stays shut."""
        config = self._config
        ports = {"REST": config.oip_rest_port, "gRPC": config.oip_grpc_port}
        names = [f"the {kind} door {self._address(port).name}" for kind, port in ports.items() if port]
        try:
            files = key_files(config, self._work_path) if names else None
            if files is not None:
                from edge_component.serving.door_keys import DoorKeyring  # noqa: PLC0415 - only where there are keys

                self._keyring = DoorKeyring(files, self._clock)
            if names:
                check_exposure("it", self._address(0), has_keys=self._keyring is not None)
        except (DeviceError, ImportError) as error:  # the latter: a Python without OpenSSL
            remedy = getattr(error, "remedy", "")
            return [f"{name} stays shut until the next start: {error}. {remedy}".rstrip() for name in names]
        return []

    def _address(self, port: int) -> TcpAddress:
        return TcpAddress(self._config.oip_host, port)

    def _over_tcp(self, behind: "Behind") -> "Behind":
        return behind if self._address(0).is_loopback else behind.without_shared_memory()

    def _guard(self, name: str) -> "DoorGuard | None":
        if self._keyring is None:
            return None
        from edge_component.serving.door_guard import DoorGuard  # noqa: PLC0415 - only where there are keys

        return DoorGuard(name, self._keyring, self._config.hello_s_max, self._clock)

    def _make_rest(self, behind: "Behind", config: RuntimeConfig) -> Iterator[tuple[str, OpenDoor]]:
        from edge_component.serving.http_connection import HttpLimits  # noqa: PLC0415 - as above
        from edge_component.serving.oip_rest_server import rest_listener  # noqa: PLC0415 - as above

        limits = HttpLimits(body_bytes_max=config.oip_body_bytes_max)
        for door in self._places(REST_SOCKET_NAME, config.oip_rest_port, is_unix=config.oip_rest_socket):
            name = f"the REST door {door.name}"
            if isinstance(door, TcpDoor):
                yield name, rest_listener(door, self._over_tcp(behind), limits, self._guard(name))
            else:
                yield name, rest_listener(door, behind, limits)

    def _make_grpc(self, behind: "Behind", config: RuntimeConfig) -> Iterator[tuple[str, OpenDoor]]:
        from edge_component.serving.oip_grpc import GrpcDoor  # noqa: PLC0415 - as above

        for door in self._places(GRPC_SOCKET_NAME, config.oip_grpc_port, is_unix=config.oip_grpc_socket):
            name = f"the gRPC door {door.name}"
            if isinstance(door, TcpDoor):
                yield name, GrpcDoor(door, self._over_tcp(behind), config.oip_body_bytes_max, self._guard(name))
            else:
                yield name, GrpcDoor(door, behind, config.oip_body_bytes_max)

    def _places(self, socket_name: str, port: int, *, is_unix: bool) -> Iterator[Place]:
        connections_max = self._config.connections_max
        if is_unix:
            yield Door(self._work_path / socket_name, socket.SOCK_STREAM, self._access, connections_max)
        if port:
            yield TcpDoor(self._address(port), connections_max)
