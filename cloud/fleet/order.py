"""Which of two messages of a device is news.

The failure this exists for: a queue that delivers late and twice, so that an hour-old heartbeat overwrites this
minute's. Pure; used inside the store's transaction (``store``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cloud.fleet.facts import IN_PROGRESS_STATUSES, HeartbeatFact, Origin


@dataclass(frozen=True, slots=True)
class Place:
    """A message's place in its device's order; ``received_at_ms`` by AWS IoT's clock."""

    epoch: str
    sequence: int
    received_at_ms: int


MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999; rounded up, a device's last moment would be one that no calendar has."""


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970, UTC, rounded to the nearest that there is."""
    return min(round(at.timestamp() * 1000), MS_MAX)


def place_of(origin: Origin) -> Place:
    """The ordering key of a message."""
    return Place(origin.epoch, origin.sequence, to_ms(origin.received_at))


def is_newer(candidate: Place, stored: Place) -> bool:
    """Within an epoch, the higher sequence; between epochs, the one that AWS IoT received later.

    An epoch ends with the outbox that numbered it, so nothing of it can reach AWS IoT after the next one has begun. Only
    heartbeats that a full disk did not take have an epoch beside it: they leave behind everything that waited, so that
    here too what IoT received later was made later. A redelivery by the queue keeps the time at which IoT received it.
    """
    if candidate.epoch == stored.epoch:
        return candidate.sequence > stored.sequence
    return candidate.received_at_ms > stored.received_at_ms


def newest_by_thing(facts: Iterable[HeartbeatFact]) -> Mapping[str, HeartbeatFact]:
    """One heartbeat a device, sorted by name: the others of a batch are history before they are stored."""
    newest: dict[str, HeartbeatFact] = {}
    for fact in facts:
        held = newest.get(fact.origin.thing_name)
        if held is None or is_newer(place_of(fact.origin), place_of(held.origin)):
            newest[fact.origin.thing_name] = fact
    return dict(sorted(newest.items()))


def status_supersedes(status: str, changed_at_ms: int, stored_status: str, stored_at_ms: int) -> bool:
    """Whether a deployment status replaces the stored one.

    EventBridge's times are whole seconds and its order is not kept, so within one second a final status beats one that
    is under way.
    """
    if changed_at_ms != stored_at_ms:
        return changed_at_ms > stored_at_ms
    return stored_status in IN_PROGRESS_STATUSES and status != stored_status
