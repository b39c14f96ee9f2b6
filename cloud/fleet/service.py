"""The fleet service: consumer, reconciler and drift watch, each in its own thread, beside the API.

The failure this exists for: a loop that dies alone and is missed a week later. Each loop's latest trouble is kept and
shown by ``/healthz``; a loop never ends before it is told to. Stopping waits for the step under way, so that no batch is
left between its commit and its deletion.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cloud.errors import EdgewrightError

log = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 30.0
RESTART_PAUSE_S = 1.0


class Loop(Protocol):
    """Something that works until it is told to stop."""

    def run(self, stop: threading.Event, report: Callable[[EdgewrightError | None], None]) -> None:
        """Work until ``stop`` is set; tell ``report`` of the first failure of a row, and ``None`` when it is over."""


@dataclass(slots=True)
class _Running:
    name: str
    loop: Loop
    trouble: str = ""
    thread: threading.Thread | None = field(default=None)


class Service:
    """Runs named loops. Start once, stop once."""

    def __init__(self, loops: dict[str, Loop]) -> None:
        """Nothing runs yet."""
        self._stop = threading.Event()
        self._running = [_Running(name, loop) for name, loop in loops.items()]

    def start(self) -> None:
        """Start every loop in a thread of its own."""
        for running in self._running:
            running.thread = threading.Thread(target=self._keep, args=(running,), name=running.name, daemon=True)
            running.thread.start()

    def stop(self) -> None:
        """Let every loop finish its step, and wait for that."""
        self._stop.set()
        for running in self._running:
            if running.thread is not None:
                running.thread.join(JOIN_TIMEOUT_S)

    def states(self) -> list[dict[str, str]]:
        """For ``/healthz``: each loop's name and latest trouble, empty while all is well."""
        return [{"name": running.name, "trouble": running.trouble} for running in self._running]

    def _keep(self, running: _Running) -> None:
        def report(error: EdgewrightError | None) -> None:
            running.trouble = str(error) if error else ""
            if error is not None:
                log.warning("%s: %s %s", running.name, error, error.remedy)
            else:
                log.info("%s: works again", running.name)

        while not self._stop.is_set():
            try:
                running.loop.run(self._stop, report)
            except Exception as error:  # a defect of ours in one loop must not end it unseen
                running.trouble = f"{type(error).__name__}: {error}"
                log.exception("%s failed in a way that nobody foresaw; it starts again", running.name)
                self._stop.wait(RESTART_PAUSE_S)
