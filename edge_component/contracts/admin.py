"""Commands and acknowledgements on the runtime's admin socket.

A Unix stream socket, one JSON object per line each way, any number of commands per connection, answered in order. The
hand-over script in a model's artifact speaks it (see handover.py), and so does ``edgewright-edge``. Commands are
idempotent: asking twice for the same bundle answers ``already-active``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from edge_component.contracts.codec import NOTHING, Document, Fields, as_json, from_bytes, schema_name, to_bytes
from edge_component.contracts.errors import TooLargeError
from edge_component.contracts.limits import LIMITS

SOCKET_NAME = "admin.sock"
"""Beneath the runtime component's work path: ``{kernel:rootPath}/work/com.edgewright.Runtime/admin.sock``."""

COMMANDS = ("activate", "deactivate", "revert", "status", "flush", "route", "lower-floor")


@dataclass(frozen=True, slots=True)
class Command:
    """One request.

    Attributes:
        name: ``activate`` {bundle: absolute path of the bundle's zip, component_name, version};
            ``deactivate`` {model_name, component_name?: only if that component brought it}; ``revert`` {model_name};
            ``status`` {}: a heartbeat's document; ``flush`` {}: close the current telemetry windows now and queue them and
            a heartbeat for upload;
            ``route`` {}: show the route table, or {table}: a route table's document (routes.py), made from the
            revision that is followed, to be followed from now on. Runtimes before 0.2 do not know it, and say so with
            the code ``malformed-command``; nor do they know ``lower-floor`` {component_name}: let its releases count from
            what is committed of it, and trust no time that is yet to come.
        request_id: echoed in the acknowledgement.
        deadline_ms: how long the caller waits; the runtime gives up, unchanged, by then.
    """

    name: str
    request_id: str
    arguments: Mapping[str, Any] = NOTHING
    deadline_ms: int = 60_000
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("command", 1)
        return cls(
            name=fields.choice("command", COMMANDS),
            request_id=fields.text("request_id"),
            arguments=fields.table("arguments", as_json),
            deadline_ms=fields.integer("deadline_ms", minimum=1),
            extra=fields.rest(),
        )

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Decode one line; see :meth:`read`."""
        return cls.read(from_bytes(line, LIMITS.admin_line_bytes_max))

    def to_line(self) -> bytes:
        """Encode as one line with its newline.

        Raises:
            TooLargeError: above ``LIMITS.admin_line_bytes_max``; the peer would not read it.
        """
        return _as_line(self.to_document())

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("command", 1),
            "command": self.name,
            "request_id": self.request_id,
            "arguments": dict(self.arguments),
            "deadline_ms": self.deadline_ms,
        }


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to one command.

    Attributes:
        ok: whether the device is now as the command asked.
        result: by command: ``activate``, ``deactivate``, ``revert`` and ``lower-floor`` an activation event's document; ``status`` a
            heartbeat's; ``flush`` {"window_count": n}; ``route`` {"table": the table that is followed, "missing":
            sentences on what of it cannot be followed now, "held": versions by model name, the active one first}.
        code, message, remedy: of the error, empty when ``ok``.
    """

    request_id: str
    ok: bool
    result: Mapping[str, Any] = NOTHING
    code: str = ""
    message: str = ""
    remedy: str = ""
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("acknowledgement", 1)
        return cls(
            request_id=fields.text("request_id"),
            ok=fields.boolean("ok"),
            result=fields.table("result", as_json),
            code=fields.text("code"),
            message=fields.text("message"),
            remedy=fields.text("remedy"),
            extra=fields.rest(),
        )

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Decode one line; see :meth:`read`."""
        return cls.read(from_bytes(line, LIMITS.admin_line_bytes_max))

    def to_line(self) -> bytes:
        """Encode as one line with its newline.

        Raises:
            TooLargeError: above ``LIMITS.admin_line_bytes_max``; the peer would not read it.
        """
        return _as_line(self.to_document())

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("acknowledgement", 1),
            "request_id": self.request_id,
            "ok": self.ok,
            "result": dict(self.result),
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
        }


def _as_line(document: Document) -> bytes:
    line = to_bytes(document) + b"\n"
    if len(line) > LIMITS.admin_line_bytes_max:
        raise TooLargeError(f"{len(line)} bytes; an admin line holds at most {LIMITS.admin_line_bytes_max}")
    return line
