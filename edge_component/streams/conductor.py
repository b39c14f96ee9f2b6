"""The streams that should run, and those that do: one thread brings the second to the first.

The failure this exists for: a configuration that arrives after the start (the nucleus may be late) or changes, and a
callback of the nucleus's that waits for a camera to be closed. A stream whose configuration is the same runs on; one
that changed is ended and begun anew, with its counters at zero.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_component.streams.config import StreamConfig, read_streams
from edge_component.streams.pipeline import Stream, StreamCounts

log = logging.getLogger(__name__)

STOP_S = 5.0
MakeStream = Callable[[StreamConfig], Stream]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """How a stream is; ``held_by`` is empty while it runs."""

    config: StreamConfig
    counts: StreamCounts
    waiting_count: int
    held_by: str


class Streams:
    """All of a runtime's. :meth:`follow` may be called from any thread, before and after :meth:`start`."""

    def __init__(self, make: MakeStream) -> None:
        """No streams."""
        self._make = make
        self._wanted: dict[str, StreamConfig] = {}
        self._running: dict[str, tuple[StreamConfig, Stream]] = {}
        self._changed = threading.Condition()
        self._is_stopping = False
        self._is_settled = True
        self._thread = threading.Thread(target=self._conduct, name="streams", daemon=True)

    def follow(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """Run what this configuration asks for from now on; returns what of it cannot be, one sentence each."""
        streams, problems = read_streams(document)
        with self._changed:
            self._wanted = {stream.name: stream for stream in streams}
            self._is_settled = False
            self._changed.notify_all()
        return problems

    def start(self) -> None:
        """Begin with what is wanted."""
        self._thread.start()

    def stop(self) -> None:
        """End all of them; what waits in front of a model is left to its source."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def reports(self) -> tuple[StreamReport, ...]:
        """How each running stream is, by name."""
        running = sorted(self._running.copy().items())
        return tuple(
            StreamReport(config, stream.counts, stream.waiting_count, stream.held_by) for _, (config, stream) in running
        )

    def problems(self) -> tuple[str, ...]:
        """Streams that have been held for so long that it does not pass by itself, one sentence each."""
        running = sorted(self._running.copy().items())
        return tuple(f"stream {name}: {stream.stuck_by}" for name, (_, stream) in running if stream.stuck_by)

    def _conduct(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or not self._is_settled)
                wanted = {} if self._is_stopping else dict(self._wanted)
                self._is_settled = True
                is_stopping = self._is_stopping
            self._end(name for name, (config, _) in list(self._running.items()) if wanted.get(name) != config)
            if is_stopping:
                return
            for config in wanted.values():
                if config.name not in self._running:
                    self._begin(config)

    def _begin(self, config: StreamConfig) -> None:
        try:
            stream = self._make(config)
            stream.start()
        except Exception:  # one stream that cannot be made costs no other
            log.exception("stream %s could not be begun", config.name)
            return
        self._running[config.name] = config, stream
        log.info("stream %s begins", config.name)

    def _end(self, names: Iterable[str]) -> None:
        for name in names:
            _, stream = self._running.pop(name)
            stream.stop(STOP_S)
            log.info("stream %s ended: %s", name, stream.counts)
