"""The loop that lets old history go at a calm pace, between what else writes to the store.

The shell around ``retention`` and ``history``. Whatever it finds due it deletes in one pass, some hundred rows and a pause
at a time: a store that was never pruned takes hours, and nobody notices. A crash loses nothing but the place in the pass.
"""

import logging
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cloud.errors import EdgewrightError
from cloud.fleet.history import History
from cloud.fleet.retention import Cut, RetentionLimits, as_of, cuts
from edge_component.contracts.codec import format_moment

log = logging.getLogger(__name__)

DISK_FREE_BYTES_MIN = 1_000_000_000
"""Below it ``/healthz`` says so: a fleet of a thousand devices writes that in some hours."""

DUE_COUNT_MAX = 10_000
"""The API counts no further: that many are due, or more."""


@dataclass(frozen=True, slots=True)
class PruningPace:
    """How calm.

    Attributes:
        batch_count_max: rows that one transaction looks at.
        batch_pause_s: from one transaction to the next; with 500 rows, some 1,500 rows a second at most.
        interval_s: from the end of one pass to the start of the next.
    """

    batch_count_max: int = 500
    batch_pause_s: float = 0.25
    interval_s: float = 600.0


class Pruning:
    """Deletes what ``retention`` allows. Not thread-safe; one thread drives it."""

    def __init__(
        self,
        history: History,
        clock: Callable[[], datetime],
        limits: RetentionLimits,
        pace: PruningPace = PruningPace(),
    ) -> None:
        """``clock`` gives UTC; nothing is read until a pass."""
        self._history = history
        self._clock = clock
        self._limits = limits
        self._pace = pace

    def pass_once(self, stop: threading.Event) -> Mapping[str, int]:
        """Everything that is due, batch by batch, until ``stop`` is set; returns how many rows of which table.

        Raises:
            StoreUnavailableError: the batches before it are done.
        """
        gone: Counter[str] = Counter()
        for cut in cuts(self._limits, as_of(self._clock(), self._history.heard_at())):
            gone[cut.table] += self._prune(cut, stop)
        while not stop.is_set() and self._history.give_back():
            stop.wait(self._pace.batch_pause_s)
        return +gone

    def run(self, stop: threading.Event, report: Callable[[EdgewrightError | None], None]) -> None:
        """Pass until ``stop`` is set; ``report`` hears the first failure of each row of failures, and its end."""
        failing = False
        while not stop.is_set():
            try:
                gone = self.pass_once(stop)
                if gone:
                    log.info("past their time: %s", ", ".join(f"{count} of {name}" for name, count in gone.items()))
                if failing:
                    report(None)
                failing = False
            except EdgewrightError as error:
                if not failing:
                    report(error)
                failing = True
            stop.wait(self._pace.interval_s)

    def _prune(self, cut: Cut, stop: threading.Event) -> int:
        count, place = 0, None
        while not stop.is_set():
            batch = self._history.delete_batch(cut, place, self._pace.batch_count_max)
            count += batch.deleted_count
            place = batch.next_place
            if place is None:
                break
            stop.wait(self._pace.batch_pause_s)
        return count


def disk_trouble(folder: Path) -> str:
    """What an operator should know of the disk while there is time; empty if nothing."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"the folder of the fleet database cannot be looked at: {error}"
    if free >= DISK_FREE_BYTES_MIN:
        return ""
    return f"{free / 1e9:.1f} GB are left on the disk of the fleet database; edgewright fleet store says what fills it"


def told(history: History, limits: RetentionLimits, now: datetime, count_max: int = DUE_COUNT_MAX) -> dict[str, Any]:
    """The store as JSON: its size, and of each kind of history the period, the oldest, and how much is due at ``now``."""
    size = history.size()
    return {
        "file_bytes": size.file_bytes,
        "free_bytes": size.free_bytes,
        "disk_free_bytes": size.disk_free_bytes,
        "retention": [
            {
                "table": cut.table,
                "kind": cut.kind,
                "days": cut.days,
                "oldest_at": None if (oldest := history.oldest_at(cut)) is None else format_moment(oldest),
                "due_count": history.due_count(cut, count_max),
            }
            for cut in cuts(limits, as_of(now, history.heard_at()))
        ],
    }
