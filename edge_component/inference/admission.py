"""How many requests of one model may be computed, and how many may wait: the rest are refused at once, with a hint.

The failure this exists for: a device that is asked for more than it can compute, and answers everybody late instead of
most in time. So a place is limited, the queue before it too, and whoever finds both full learns it in microseconds,
together with when it is worth asking again.

The common way takes no lock: places lie in a deque, whose ``pop`` and ``append`` are atomic. Only who finds none of them
waits on a condition. A request that arrives just when a place is given back may take it before those that wait; their
wait is bounded by their own deadline.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from edge_component.inference.errors import OverloadedError, RunDeadlineError

RETRY_MS_MIN = 1
RETRY_MS_MAX = 10_000
SMOOTHING = 0.2
"""Weight of the newest interval between two places given back."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """``in_flight_max``: computed at once; ``queue_max``: waiting for that; both of one model."""

    in_flight_max: int = 16
    queue_max: int = 64


class Gate:
    """One model's places. Call :meth:`leave` exactly once after each :meth:`enter` that returned.

    Attributes:
        places: those that are free. ``places.pop()`` is :meth:`enter` without waiting: IndexError if there is none.
    """

    def __init__(self, limits: AdmissionLimits, monotonic_s: Callable[[], float] = monotonic) -> None:
        """All places free."""
        self.limits = limits
        self._monotonic_s = monotonic_s
        self.places: deque[None] = deque([None] * limits.in_flight_max)
        self._freed = threading.Condition(threading.Lock())
        self._waiting_count = 0
        self._interval_s = 0.0
        self._left_at_s = 0.0

    @property
    def in_flight_count(self) -> int:
        """Requests that hold a place now."""
        return self.limits.in_flight_max - len(self.places)

    @property
    def waiting_count(self) -> int:
        """Requests that wait for one now."""
        return self._waiting_count

    def enter(self, allowed_s: float) -> float:
        """Take a place, waiting for it if need be; returns what is left of ``allowed_s``.

        Raises:
            OverloadedError: the queue is full.
            RunDeadlineError: the deadline passed while waiting.
        """
        try:
            self.places.pop()
        except IndexError:
            return self._wait(allowed_s)
        return allowed_s

    def leave(self) -> None:
        """Give the place back."""
        self.places.append(None)
        if self._waiting_count:
            self._tell_one()

    def _wait(self, allowed_s: float) -> float:
        began_s = self._monotonic_s()
        with self._freed:
            if self._waiting_count >= self.limits.queue_max:
                raise OverloadedError(
                    f"{self.limits.in_flight_max} requests are computed and {self._waiting_count} wait",
                    retry_after_ms(self._waiting_count, self._interval_s),
                )
            self._waiting_count += 1
            try:
                return self._wait_in_line(began_s, allowed_s)
            finally:
                self._waiting_count -= 1
                if not self._waiting_count:
                    self._left_at_s = 0.0

    def _wait_in_line(self, began_s: float, allowed_s: float) -> float:
        while True:
            left_s = allowed_s - (self._monotonic_s() - began_s)
            try:  # before the first wait too: a place given back since may have told nobody
                self.places.pop()
            except IndexError:
                pass
            else:
                return max(left_s, 0.0)
            if left_s <= 0:
                raise RunDeadlineError(f"waited {allowed_s:g} s for others to be computed")
            self._freed.wait(min(left_s, threading.TIMEOUT_MAX))

    def _tell_one(self) -> None:
        with self._freed:
            now_s = self._monotonic_s()
            if self._left_at_s:
                self._interval_s += SMOOTHING * (now_s - self._left_at_s - self._interval_s)
            self._left_at_s = now_s
            self._freed.notify()


def retry_after_ms(waiting_count: int, interval_s: float) -> int:
    """When the queue will probably have been worked off: so many requests, one every ``interval_s``; within bounds."""
    return min(max(round(waiting_count * interval_s * 1000), RETRY_MS_MIN), RETRY_MS_MAX)
