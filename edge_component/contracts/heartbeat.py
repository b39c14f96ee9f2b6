"""The heartbeat: what a device says of itself, and above all what it truly serves.

Greengrass can report SUCCEEDED for an activation that never ran, so the fleet manager believes only this message's
``models``: versions and digests that the runtime itself verified and answers with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from edge_component.contracts.codec import (
    DIGEST_PATTERN,
    NOTHING,
    VERSION_PATTERN,
    Document,
    Fields,
    as_text,
    format_moment,
    schema_name,
)
from edge_component.contracts.routes import RoutingReport

LEFT_OUT = "models do not fit this message"
"""What ends the reason of a heartbeat that names only some of its models; their number begins it."""

MODEL_STATES = ("serving", "probation", "failed")
HEALTH = ("healthy", "degraded")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One exact model: name, version and bundle digest."""

    name: str
    version: str
    digest: str
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode."""
        fields = Fields(value, where)
        return cls(
            name=fields.text("name"),
            version=fields.text("version", pattern=VERSION_PATTERN),
            digest=fields.text("digest", pattern=DIGEST_PATTERN),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "name": self.name, "version": self.version, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the runtime holds it.

    Attributes:
        active: what answers now.
        state: ``serving`` (committed), ``probation`` (switched, not yet committed) or ``failed`` (could not be restored).
        since_at: when it became so.
        previous: what a revert would bring back, if anything.
        answered_count, failed_count: since the process started.
        routing: what became of the rules that are set for it (routes.py); absent where none are.
    """

    active: ModelRef
    state: str
    since_at: datetime
    previous: ModelRef | None = None
    answered_count: int = 0
    failed_count: int = 0
    routing: RoutingReport | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``models``."""
        fields = Fields(value, where)
        return cls(
            active=fields.nested("active", ModelRef.read),
            state=fields.choice("state", MODEL_STATES),
            since_at=fields.moment("since_at"),
            previous=fields.optional("previous", lambda name: fields.nested(name, ModelRef.read)),
            answered_count=fields.integer("answered_count"),
            failed_count=fields.integer("failed_count"),
            routing=fields.optional("routing", lambda name: fields.nested(name, RoutingReport.read)),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        known: dict[str, Any] = {
            **self.extra,
            "active": self.active.to_document(),
            "state": self.state,
            "since_at": format_moment(self.since_at),
            "answered_count": self.answered_count,
            "failed_count": self.failed_count,
        }
        if self.previous is not None:
            known["previous"] = self.previous.to_document()
        if self.routing is not None:
            known["routing"] = self.routing.to_document()
        return known


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How much is waiting to be sent, and what was lost for want of room since the outbox's epoch began.

    ``problem`` is why it keeps nothing now, as one sentence; empty, and not in the document, while it keeps what it is
    given. A heartbeat that is not kept either leaves from memory, in an epoch of its own.
    """

    queued_count: int = 0
    queued_bytes: int = 0
    dropped_count: int = 0
    problem: str = ""
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``outbox``."""
        fields = Fields(value, where)
        return cls(
            fields.integer("queued_count"),
            fields.integer("queued_bytes"),
            fields.integer("dropped_count"),
            fields.optional("problem", fields.text) or "",
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        known: dict[str, Any] = {
            **self.extra,
            "queued_count": self.queued_count,
            "queued_bytes": self.queued_bytes,
            "dropped_count": self.dropped_count,
        }
        if self.problem:
            known["problem"] = self.problem
        return known


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The body of a ``heartbeat`` message, version 1.

    Attributes:
        runtime_version: of the component ``com.edgewright.Runtime``.
        process_id, started_at: of the runtime's process; a change without a runtime deployment is a crash.
        boot_id: the kernel's, so that a reboot can be told from a crash.
        platform: as in the manifest.
        models: everything the runtime holds, less ``left_out_count(reasons)`` of them.
        outbox: its state when the heartbeat was made.
        disk_free_bytes: on the file system of the model store.
        rss_bytes: of the runtime's process.
        health, reasons: ``degraded`` comes with at least one sentence.
        configuration: the digest of each value of the component's configuration (configuration.py), by JSON pointer;
            absent where it is not known, or too much to be told.
    """

    runtime_version: str
    process_id: int
    started_at: datetime
    boot_id: str
    platform: str
    models: tuple[ServedModel, ...]
    outbox: OutboxState
    disk_free_bytes: int
    rss_bytes: int
    health: str = "healthy"
    reasons: tuple[str, ...] = ()
    configuration: Mapping[str, str] | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("heartbeat", 1)
        return cls(
            runtime_version=fields.text("runtime_version"),
            process_id=fields.integer("process_id"),
            started_at=fields.moment("started_at"),
            boot_id=fields.text("boot_id"),
            platform=fields.text("platform"),
            models=fields.items("models", ServedModel.read),
            outbox=fields.nested("outbox", OutboxState.read),
            disk_free_bytes=fields.integer("disk_free_bytes"),
            rss_bytes=fields.integer("rss_bytes"),
            health=fields.choice("health", HEALTH),
            reasons=fields.items("reasons", as_text),
            configuration=fields.optional("configuration", lambda name: fields.table(name, as_text)),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("heartbeat", 1),
            "runtime_version": self.runtime_version,
            "process_id": self.process_id,
            "started_at": format_moment(self.started_at),
            "boot_id": self.boot_id,
            "platform": self.platform,
            "models": [model.to_document() for model in self.models],
            "outbox": self.outbox.to_document(),
            "disk_free_bytes": self.disk_free_bytes,
            "rss_bytes": self.rss_bytes,
            "health": self.health,
            "reasons": list(self.reasons),
        }
        if self.configuration is not None:
            known["configuration"] = dict(self.configuration)
        return known


def left_out_count(reasons: Iterable[str]) -> int:
    """How many models a heartbeat with these reasons holds back: of those, silence says nothing."""
    numbers = (reason.removesuffix(LEFT_OUT).strip() for reason in reasons if reason.endswith(LEFT_OUT))
    return sum(int(number) for number in numbers if number.isdecimal())
