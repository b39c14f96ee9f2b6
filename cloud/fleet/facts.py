"""Typed facts: what one queue message said once its origin was proved and its contract decoded.

A fact is already true of the message; whether it is news (not a duplicate, not older than what is stored) is decided by
the store, inside its transaction. Values only; no I/O.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.heartbeat import Heartbeat
from edge_component.contracts.telemetry import TelemetryWindow

FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
"""Before it lie only clocks that began to count when the device did. A later one may be right: an outbox keeps for months, and
recorded data may be replayed; where it is wrong all the same, the window has no peers, and no harm is done."""
CLOCKS_APART_MAX = timedelta(minutes=5)
"""How far a right clock of a device may be ahead of AWS IoT's."""
LONGEST_WINDOW = timedelta(days=31)

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

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When the window began and ended, as well as can be known.

        By the device's clock where that can be right. One that says 1970, as before the first synchronisation, or a time
        that has not come yet, is not asked: then the window ended when it arrived. A clock that was set within the window
        makes a beginning that is none; then it is as long as the monotonic clock says.
        """
        window, arrived_at = self.window, self.origin.received_at
        may_be_right = FIRST_DAY <= window.ends_at <= arrived_at + CLOCKS_APART_MAX
        ends_at = window.ends_at if may_be_right else arrived_at
        if may_be_right and FIRST_DAY <= window.starts_at <= ends_at:
            return window.starts_at, ends_at
        duration_ms = min(window.duration_ms, LONGEST_WINDOW // timedelta(milliseconds=1))
        return ends_at - timedelta(milliseconds=duration_ms), ends_at


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
