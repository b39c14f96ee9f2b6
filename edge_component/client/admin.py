"""A small client of the admin door: commands as methods, refusals as exceptions with code and remedy.

For tools on the device (``edgewright-edge`` uses it) and for tests; Greengrass uses the hand-over script instead. One
connection per command; may be used from any thread.
"""

import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edge_component.client.errors import ProtocolError, RefusedError, UnavailableError
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.admin import Acknowledgement, Command
from edge_component.contracts.codec import NOTHING, Document
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import Heartbeat
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.routes import RouteTable
from edge_component.contracts.unix_address import unix_address

VERDICT_S = 5.0
"""How much longer than a command's time its answer is waited for: what was not done by then is refused, and the reason told."""

Answered = TypeVar("Answered", ActivationEvent, Heartbeat)


class AdminClient:
    """Commands to the runtime's ``admin.sock``."""

    def __init__(self, socket_path: str | Path, *, timeout_s: float = 60.0) -> None:
        """Address the socket; nothing is opened before the first command, which has ``timeout_s`` to be carried out."""
        self._socket_path = Path(socket_path)
        self._timeout_s = timeout_s

    def activate(self, bundle: Path, component_name: str, version: str) -> ActivationEvent:
        """Make a bundle's zip serve; see :meth:`command` for what it raises."""
        arguments = {"bundle": str(bundle.absolute()), "component_name": component_name, "version": version}
        return self._event("activate", arguments)

    def deactivate(self, model_name: str) -> ActivationEvent:
        """Stop serving a model and forget its bundles."""
        return self._event("deactivate", {"model_name": model_name})

    def revert(self, model_name: str) -> ActivationEvent:
        """Bring a model's previous version back."""
        return self._event("revert", {"model_name": model_name})

    def lower_floor(self, component_name: str) -> ActivationEvent:
        """Let a component's releases count from what is committed of it, and trust no time that is yet to come."""
        return self._event("lower-floor", {"component_name": component_name})

    def status(self) -> Heartbeat:
        """What the runtime says of itself."""
        return self._read(Heartbeat, self.command("status"))

    def flush(self) -> int:
        """Queue what telemetry has; returns how many windows."""
        return int(self.command("flush").get("window_count", 0))

    def route(self, table: RouteTable | None = None) -> Document:
        """The route table that is followed, after following another one if it is given; see contracts/admin.py."""
        return self.command("route", {} if table is None else {"table": table.to_document()})

    def command(self, name: str, arguments: Mapping[str, Any] = NOTHING) -> Document:
        """Any command; returns its result.

        Raises:
            RefusedError: the runtime refused; ``code`` and ``remedy`` say why and what to do.
            UnavailableError: no runtime listens there, or it went away before it answered.
            ProtocolError: the answer is not understood.
        """
        asked = Command(name, uuid.uuid4().hex, arguments, max(int(self._timeout_s * 1000), 1))
        try:
            answer = Acknowledgement.from_line(self._exchange(asked.to_line()))
        except OSError as error:
            raise UnavailableError(
                f"no runtime answers on {self._socket_path}: {error}",
                "runtime-unavailable",
                "Ask as the component's user, or as root."
                if isinstance(error, PermissionError)
                else "Is the component com.edgewright.Runtime installed and running? See `edgewright-edge doctor`.",
            ) from error
        except ContractError as error:
            raise ProtocolError(f"the runtime's answer is not understood: {error}", "protocol-violation") from error
        if not answer.ok:
            raise RefusedError(answer.message, answer.code, answer.remedy)
        return answer.result

    def _event(self, name: str, arguments: Mapping[str, Any]) -> ActivationEvent:
        return self._read(ActivationEvent, self.command(name, arguments))

    def _read(self, kind: type[Answered], document: Document) -> Answered:
        try:
            return kind.read(document)
        except ContractError as error:
            raise ProtocolError(f"the runtime's answer is not understood: {error}", "protocol-violation") from error

    def _exchange(self, line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout_s + VERDICT_S)
            with unix_address(self._socket_path) as address:
                connection.connect(address)
            connection.sendall(line)
            with connection.makefile("rb") as lines:
                answer = lines.readline(LIMITS.admin_line_bytes_max + 1)
        if not answer.endswith(b"\n"):
            raise ConnectionResetError("the runtime went away before it answered")
        return answer
