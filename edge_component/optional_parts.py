"""What a runtime runs only where it is configured: streams. Nothing of it is imported otherwise.

The failure this exists for: a device that pays, in memory and in ways to fail, for what nobody on it uses. Predictions
never depend on anything here; what cannot be started is said in the heartbeat's reasons, and the device serves on.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_component.clock import Clock
from edge_component.nucleus_port import Nucleus
from edge_component.serving.fastpath_connection import Serving

if TYPE_CHECKING:  # only for runtimes that have them
    from edge_component.streams.conductor import Streams
    from edge_component.streams.config import StreamConfig
    from edge_component.streams.pipeline import Stream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the optional parts need; ``say`` puts a sentence into the heartbeat's reasons."""

    work_path: Path
    serving: Serving
    nucleus: Nucleus | None
    clock: Clock
    say: Callable[[str], None]


class OptionalParts:
    """All of them; :meth:`follow` the configuration, at the start and whenever it changes."""

    def __init__(self, surroundings: Surroundings) -> None:
        """Nothing runs."""
        self._surroundings = surroundings
        self._streams: Streams | None = None
        self._lock = threading.Lock()

    def follow(self, document: Mapping[str, Any]) -> None:
        """Run what this configuration asks for from now on."""
        with self._lock:
            if self._streams is None and document.get("streams"):
                self._streams = self._make_streams()
                self._streams.start()
            if self._streams is not None:
                for problem in self._streams.follow(document):
                    self._surroundings.say(problem)

    def stop(self) -> None:
        """End them, before the models go."""
        with self._lock:
            if self._streams is not None:
                self._streams.stop()
                self._streams = None

    def _make_streams(self) -> "Streams":
        from edge_component.streams.conductor import Streams  # noqa: PLC0415 - only where there are any

        return Streams(self._make_stream)

    def _make_stream(self, config: "StreamConfig") -> "Stream":
        from edge_component.serving.predictor import Predictor  # noqa: PLC0415 - as above
        from edge_component.streams.pipeline import Stream, StreamParts  # noqa: PLC0415 - as above
        from edge_component.streams.sinks import make_sink  # noqa: PLC0415 - as above
        from edge_component.streams.sources import make_source  # noqa: PLC0415 - as above

        around = self._surroundings
        return Stream(
            StreamParts(
                config,
                make_source(config, around.work_path, around.nucleus),
                make_sink(config, around.work_path, around.nucleus),
                Predictor(around.serving),
                around.clock.now,
                random.random,
            )
        )
