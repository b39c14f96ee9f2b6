"""Time as a parameter: wall time for what people and signatures see, monotonic time for every duration.

The failure this exists for: a device whose clock starts in 1970, or jumps when it is set, and with it every timeout.
So nothing else in this package calls ``time`` or ``datetime.now`` for a decision, and :func:`earliest` says which wall
times are none.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

PARTING_S_MIN = 0.1
"""For each door, also when the others have taken all of the time."""


BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that is right shows less."""
SLACK = timedelta(days=1)
"""By which clocks, and zones, may differ without anything being wrong."""


def earliest(trusted_at: datetime | None) -> datetime:
    """What no clock that is right is more than ``SLACK`` behind; ``trusted_at`` is the latest time that a signed bundle has named."""
    return max(BUILT_AT, trusted_at or BUILT_AT)


def is_believable(now: datetime, trusted_at: datetime | None) -> bool:
    """Whether the device's clock may be right."""
    return now >= earliest(trusted_at) - SLACK


def believed(at: datetime, now: datetime, trusted_at: datetime | None) -> datetime:
    """What a time that a signed bundle names is worth: no more than ``SLACK`` beyond a clock that may be right.

    One that a signer's wrong clock has put years ahead would make all that is signed in time expired.
    """
    return min(at, now + SLACK) if is_believable(now, trusted_at) else at


class Clock(Protocol):
    """Where a decision takes its time from."""

    def now(self) -> datetime:
        """Wall time, UTC-aware; may jump."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """See :class:`Clock`."""
        return datetime.now(UTC)

    monotonic_s = staticmethod(time.monotonic)
    """See :class:`Clock`; without a function around it, since every prediction asks."""


@dataclass(slots=True)
class ManualClock:
    """A clock that a test moves; set the fields as you like."""

    wall: datetime
    elapsed_s: float = 0.0

    def now(self) -> datetime:
        """See :class:`Clock`."""
        return self.wall

    def monotonic_s(self) -> float:
        """See :class:`Clock`."""
        return self.elapsed_s

    def advance(self, duration_s: float) -> None:
        """Let time pass on both clocks."""
        self.wall += timedelta(seconds=duration_s)
        self.elapsed_s += duration_s


class Parting:
    """The time that a stop leaves for requests in flight, at one door after the other.

    The failure this exists for: each of five doors waits for its own hanging request, and whoever asked for the stop kills
    the process before telemetry is kept.
    """

    def __init__(self, wait_s: float, clock: Clock) -> None:
        """It begins now."""
        self._clock = clock
        self._ends_at_s = clock.monotonic_s() + wait_s

    def left_s(self) -> float:
        """For the next door: a moment at least, for what would be over in one."""
        return max(self._ends_at_s - self._clock.monotonic_s(), PARTING_S_MIN)
