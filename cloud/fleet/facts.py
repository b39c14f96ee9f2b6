"""Typed facts: what one queue message said once its origin was proved and its contract decoded.

A fact is already true of the message; whether it is news (not a duplicate, not older than what is stored) is decided by
the store, inside its transaction. Values only; no I/O.
"""

from dataclasses import dataclass
from datetime import datetime

from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.heartbeat import Heartbeat
from edge_component.contracts.telemetry import TelemetryWindow

IN_PROGRESS_STATUSES = frozenset({"QUEUED", "IN_PROGRESS"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent a message, and its place among the sender's others.

    Attributes:
        thing_name: from the rule's topic, never from the payload.
        epoch, sequence: the envelope's ordering key.
        recorded_at: the device's clock; may be wrong.
        received_at: AWS IoT's clock, when the rule ran; a redelivery from the queue keeps it.
    """

    thing_name: str
    epoch: str
    sequence: int
    recorded_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class HeartbeatFact:
    """A device reported itself."""

    origin: Origin
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class WindowFact:
    """One part of a telemetry window arrived."""

    origin: Origin
    window: TelemetryWindow


@dataclass(frozen=True, slots=True)
class ActivationFact:
    """A device tried to change what it serves."""

    origin: Origin
    event: ActivationEvent


@dataclass(frozen=True, slots=True)
class DeploymentStatusFact:
    """Greengrass says how a deployment went on one core device; a claim, not a proof (see ``health``).

    Attributes:
        event_id: EventBridge's, the key against duplicates.
        status: ``QUEUED IN_PROGRESS SUCCEEDED FAILED CANCELED TIMED_OUT REJECTED INACTIVE …`` as Greengrass writes it.
        reason: Greengrass's sentence.
        error_types, error_stack: from ``statusDetails``, empty on success.
        changed_at: EventBridge's time of the event, to the second.
    """

    event_id: str
    thing_name: str
    deployment_id: str
    status: str
    reason: str
    error_types: tuple[str, ...]
    error_stack: tuple[str, ...]
    changed_at: datetime


Fact = HeartbeatFact | WindowFact | ActivationFact | DeploymentStatusFact


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a message is parked instead of stored.

    Attributes:
        code: stable, kebab-case; counted under it.
        sentence: for the person who reads the dead-letter queue.
        thing_name: as far as it could be told; empty if not.
    """

    code: str
    sentence: str
    thing_name: str = ""
