"""The admin door: ``admin.sock``, one JSON command a line, one acknowledgement a line (contracts/admin.py).

Greengrass's hand-over script speaks it, and so does ``edgewright-edge``. Whatever a line holds, the answer is an
acknowledgement with code and remedy, and the next line is read; only an over-long line ends the connection, since nobody
knows where the next one begins.

The socket belongs to the component's user alone (mode 0600), and the kernel names who connects (access.py): that user
or root. One thread for each connection; commands that change something queue up in the activator.
"""

import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from edge_component.bundles.verification import Asked
from edge_component.contracts.admin import SOCKET_NAME, Acknowledgement, Command
from edge_component.contracts.codec import Document, Fields
from edge_component.contracts.errors import ContractError
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.routes import RouteTable
from edge_component.errors import DeviceError
from edge_component.serving.access import OWNER_ONLY
from edge_component.serving.listener import Door, Listener

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 16
SILENCE_S_MAX = 30.0
"""After which a connection that says nothing, or does not take its answer, gives its place to a hand-over."""

MESSAGE_CHARS_MAX = 2_000


class Administration(Protocol):
    """What the commands do; each returns the acknowledgement's ``result``, or raises DeviceError."""

    def activate(self, archive: Path, asked: Asked, allowed_s: float) -> Document:
        """Make a bundle serve; an activation event's document."""

    def deactivate(self, model_name: str, component_name: str, allowed_s: float) -> Document:
        """Stop serving a model, if it is that component's (empty: whoever's); an activation event's document."""

    def revert(self, model_name: str, allowed_s: float) -> Document:
        """Bring the previous version back; an activation event's document."""

    def lower_floor(self, component_name: str, allowed_s: float) -> Document:
        """Let a component's releases count from what is committed of it; an activation event's document."""

    def status(self) -> Document:
        """A heartbeat's document."""

    def flush(self) -> Document:
        """Queue what telemetry has; ``{"window_count": n}``."""

    def route(self, table: RouteTable | None) -> Document:
        """Follow another route table, if one is given; the one that is followed, and what of it cannot be."""


def admin_listener(work_path: Path, administration: Administration) -> Listener:
    """The door, closed; ``open`` it once every model has been restored."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(SILENCE_S_MAX)
        with connection, connection.makefile("rb") as lines:
            try:
                while line := lines.readline(LIMITS.admin_line_bytes_max + 1):
                    connection.sendall(answer_line(line, administration).to_line())
                    if len(line) > LIMITS.admin_line_bytes_max:
                        return
            except OSError as error:
                log.info("whoever asked is gone, or was silent for too long: %s", error)

    def refuse(connection: socket.socket) -> None:
        connection.sendall(_refused("", "busy", f"{CONNECTIONS_MAX} admin connections are open already").to_line())

    return Listener(Door(work_path / SOCKET_NAME, socket.SOCK_STREAM, OWNER_ONLY, CONNECTIONS_MAX), serve, refuse)


def answer_line(line: bytes, administration: Administration) -> Acknowledgement:
    """Carry out one line."""
    try:
        command = Command.from_line(line)
    except ContractError as error:
        return _refused("", "malformed-command", str(error), "Use the client that came with this runtime's version.")
    try:
        result = _carry_out(command, administration)
    except ContractError as error:
        return _refused(command.request_id, "malformed-command", f"arguments: {error}", "Correct the named argument.")
    except DeviceError as error:
        return _refused(command.request_id, error.code, str(error), error.remedy)
    except Exception:  # whoever waits must be told, whatever is wrong
        log.exception("the command %s ended in an unforeseen error", command.name)
        return _refused(command.request_id, "defect", "an unforeseen error; see the runtime's log", "Report it.")
    return Acknowledgement(command.request_id, ok=True, result=result)


def _carry_out(  # noqa: PLR0911 - a table
    command: Command, administration: Administration
) -> Mapping[str, Any]:
    arguments, allowed_s = Fields(command.arguments), command.deadline_ms / 1000
    match command.name:
        case "activate":
            asked = Asked(arguments.text("component_name"), arguments.text("version"))
            return administration.activate(Path(arguments.text("bundle")), asked, allowed_s)
        case "deactivate":
            owner = arguments.optional("component_name", arguments.text) or ""
            return administration.deactivate(arguments.text("model_name"), owner, allowed_s)
        case "revert":
            return administration.revert(arguments.text("model_name"), allowed_s)
        case "lower-floor":
            return administration.lower_floor(arguments.text("component_name"), allowed_s)
        case "route":
            return administration.route(arguments.optional("table", lambda name: arguments.nested(name, _as_table)))
        case "status":
            return administration.status()
        case _:
            return administration.flush()


def _as_table(value: object, where: str) -> RouteTable:
    del where  # the table names its own fields
    return RouteTable.read(value)


def _refused(request_id: str, code: str, message: str, remedy: str = "") -> Acknowledgement:
    """A sentence that is longer than its line may be is cut: a file's author has chosen what is in it."""
    return Acknowledgement(request_id, ok=False, code=code, message=message[:MESSAGE_CHARS_MAX], remedy=remedy)
