"""The year as the stations live it: three applications replay their hours, fast or at a walk, and every answer counts.

One calendar for all stations, moved forward by the story. At a walk (:meth:`Replay.while_running`) they go on asking
while a model changes beneath them, which is the point of it all. Used by one thread.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

from simulator.demo import admin
from simulator.demo.station import StationApplication
from simulator.demo.summary import Predictions

PLAY_TIMEOUT_S = 120.0
WALK_RATE_PER_S = 40.0
WALK_STEP = timedelta(days=1)
Result = TypeVar("Result")


class Replay:
    """The stations' applications, their common calendar, and what they counted.

    Attributes:
        works: the runtimes' work paths by station.
        today: the first day not yet replayed.
        predictions: answered and failed so far, over all stations.
        process_ids: every process id that each station's runtime was seen with.
    """

    def __init__(
        self, applications: Mapping[str, StationApplication], works: Mapping[str, Path], today: date, end: date
    ) -> None:
        """``applications`` and ``works`` by station; ``end`` is the day after the last."""
        self._applications = applications
        self.works = works
        self._end = end
        self.today = today
        self.predictions = Predictions()
        self.process_ids: dict[str, set[int]] = {station: set() for station in works}

    def play_until(self, day: date, rate_per_s: float | None = None) -> None:
        """Replay all stations up to, not including, ``day``; at once, or so many hours a second.

        Raises:
            ProcessDiedError, StationFailedError: an application did not answer.
        """
        until = min(day, self._end)
        if until <= self.today:
            return
        for station, application in self._applications.items():
            application.ask(
                {
                    "play": {
                        "station": station,
                        "from": self.today.isoformat(),
                        "to": until.isoformat(),
                        "rate_per_s": rate_per_s,
                    }
                }
            )
        for application in self._applications.values():
            played = application.answer(PLAY_TIMEOUT_S)["played"]
            self.predictions += Predictions(int(played["answered"]), int(played["failed"]))
        self.today = until
        self.note_processes()

    def while_running(self, action: Callable[[], Result]) -> Result:
        """Replay at a walk until ``action``, in a thread of its own, is done; returns its result or raises its error."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            future: Future[Result] = pool.submit(action)
            while not future.done() and self.today < self._end:
                self.play_until(self.today + WALK_STEP, WALK_RATE_PER_S)
            return future.result()

    def flush(self) -> None:
        """Close every station's telemetry windows now and send them."""
        for work in self.works.values():
            admin.flush(work)

    def note_processes(self) -> None:
        """Look which process answers as each station's runtime."""
        for station, work in self.works.items():
            self.process_ids[station].add(admin.status(work).process_id)
