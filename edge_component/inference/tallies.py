"""Counts of requests by exact model, kept without a lock where they are made and added up where they are asked for.

The failure this exists for: a counter that all connections share, and so pay for with every request. Each connection's
thread has a tally of its own; adding up may be late by a request, and never loses one.
"""

import threading
from dataclasses import dataclass, replace


@dataclass(slots=True)
class Tally:
    """What one connection asked of one generation; written by its own thread only."""

    generation: int
    answered_count: int = 0
    failed_count: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests since the process started: answered, and failed by the model's own fault."""

    answered_count: int = 0
    failed_count: int = 0

    def plus(self, other: "Totals | Tally") -> "Totals":
        """Element-wise sum."""
        return Totals(self.answered_count + other.answered_count, self.failed_count + other.failed_count)


class Tallies:
    """All of a process."""

    def __init__(self) -> None:
        """Nothing counted."""
        self._lock = threading.Lock()
        self._open: list[Tally] = []
        self._closed: dict[int, Totals] = {}

    def open(self, generation: int) -> Tally:
        """A new counter for one thread."""
        tally = Tally(generation)
        with self._lock:
            self._open.append(tally)
        return tally

    def close(self, tally: Tally) -> None:
        """Fold a counter in; its thread must not write to it any more."""
        with self._lock:
            self._open = [kept for kept in self._open if kept is not tally]
            self._closed[tally.generation] = self._closed.get(tally.generation, Totals()).plus(tally)

    def open_count(self) -> int:
        """Counters that somebody writes to."""
        return len(self._open)

    def by_generation(self) -> dict[int, Totals]:
        """Everything counted so far."""
        with self._lock:
            totals = dict(self._closed)
            for tally in self._open:
                totals[tally.generation] = totals.get(tally.generation, Totals()).plus(replace(tally))
        return totals
