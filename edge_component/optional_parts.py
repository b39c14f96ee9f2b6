"""What a runtime runs, and imports, only where it is configured: streams, metrics, the Edge Manager's door.

The failure this exists for: a device that pays, in memory and in ways to fail, for what nobody on it uses. Predictions
never depend on anything here; what cannot be started is said in the heartbeat's reasons, and the device serves on.
"""

import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_component.clock import Clock, Parting
from edge_component.config import RuntimeConfig
from edge_component.nucleus_port import Nucleus
from edge_component.observability.service_totals import ServiceTotals
from edge_component.serving.access import socket_access
from edge_component.serving.listener import Door, LoopbackDoor, Place
from edge_component.serving.serving import Serving

if TYPE_CHECKING:  # only for runtimes that have them
    from edge_component.observability.device_figures import DeviceFigures
    from edge_component.observability.exposition import Family
    from edge_component.streams.conductor import Streams
    from edge_component.streams.config import StreamConfig
    from edge_component.streams.pipeline import Stream

log = logging.getLogger(__name__)


class OptionalDoor(Protocol):
    """What can be opened and stopped."""

    def open(self) -> None:
        """Listen. Raises OSError."""

    def stop(self, wait_s: float) -> None:
        """Let what is under way finish for up to ``wait_s``, then hang up."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the optional parts need; ``say`` puts a sentence into the heartbeat's reasons."""

    work_path: Path
    serving: Serving
    nucleus: Nucleus | None
    totals: ServiceTotals
    clock: Clock
    say: Callable[[str], None]


class OptionalParts:
    """All of them; :meth:`follow` the configuration, at the start and whenever it changes."""

    def __init__(self, surroundings: Surroundings) -> None:
        """Nothing runs."""
        self._surroundings = surroundings
        self._streams: Streams | None = None
        self._doors: list[OptionalDoor] = []
        self._lock = threading.Lock()
        self._is_stopping = False

    def open(self) -> None:
        """Open the doors that are configured; one that cannot be is said, and left out."""
        try:
            for name, door in self._make_doors():
                self._open(name, door)
        except Exception:  # a defect of an optional part costs that part: the device serves on
            log.exception("the optional doors could not be made")
            self._surroundings.say("an optional door could not be made; see the runtime's log")

    def _open(self, name: str, door: OptionalDoor) -> None:
        try:
            door.open()
        except OSError as error:
            self._surroundings.say(f"{name} could not be opened: {error}")
        else:
            self._doors.append(door)

    def follow(self, document: Mapping[str, Any]) -> None:
        """Run what this configuration asks for from now on."""
        with self._lock:
            if self._is_stopping:  # the deployment that changes it may be what stops this component
                return
            if self._streams is None and document.get("streams"):
                self._streams = self._make_streams()
                self._streams.start()
            if self._streams is not None:
                for problem in self._streams.follow(document):
                    self._surroundings.say(problem)

    def problems(self) -> tuple[str, ...]:
        """What is amiss with them now, in sentences; unlike what is said once, it may pass."""
        streams = self._streams
        return streams.problems() if streams is not None else ()

    def stop(self, parting: Parting) -> None:
        """End them, before the models go."""
        with self._lock:
            self._is_stopping = True
            streams, self._streams = self._streams, None
        if streams is not None:
            streams.stop()
        while self._doors:
            self._doors.pop().stop(parting.left_s())

    def _make_doors(self) -> Iterator[tuple[str, OptionalDoor]]:
        config = self._surroundings.serving.config
        if config.metrics_port or config.metrics_socket:
            yield from self._make_metrics(config)
        if config.edge_manager_socket:
            yield from self._make_edge_manager(config)

    def _make_edge_manager(self, config: RuntimeConfig) -> Iterator[tuple[str, OptionalDoor]]:
        around = self._surroundings
        try:
            from edge_component.serving.edge_manager_grpc import (  # noqa: PLC0415 - only where it is configured
                SOCKET_NAME,
                EdgeManagerDoor,
                EdgeManagerParts,
            )
        except ImportError as error:
            around.say(
                f"the Edge Manager's door is configured, and this runtime was published without --with-grpc: {error}"
            )
            return
        access, _ = socket_access(config)
        parts = EdgeManagerParts(
            around.work_path, around.serving, access, config.edge_manager_capture_bytes_max, around.clock.now
        )
        yield f"the Edge Manager's door {SOCKET_NAME}", EdgeManagerDoor(parts)

    def _make_metrics(self, config: RuntimeConfig) -> Iterator[tuple[str, OptionalDoor]]:
        from edge_component.observability import metrics_door  # noqa: PLC0415 - only where it is configured

        places: list[Place] = []
        if config.metrics_port:
            places.append(LoopbackDoor(config.metrics_port, metrics_door.CONNECTIONS_MAX))
        if config.metrics_socket:
            path = self._surroundings.work_path / metrics_door.SOCKET_NAME
            access, _ = socket_access(config)
            places.append(Door(path, socket.SOCK_STREAM, access, metrics_door.CONNECTIONS_MAX))
        for place in places:
            yield f"the metrics door {place.name}", metrics_door.metrics_listener(place, self._figures)

    def _figures(self) -> "DeviceFigures":
        from edge_component.observability.device_figures import (  # noqa: PLC0415 - as above
            DeviceFigures,
            Occupancy,
            read_process,
        )

        serving = self._surroundings.serving
        router = serving.router
        answering = {name: ref for name in router.names() if (ref := router.answering(name)) is not None}
        gates = {name: router.gate(name) for name in answering}
        return DeviceFigures(
            version=serving.runtime_version,
            process=read_process(),
            serving=answering,
            totals=self._surroundings.totals.by_model(),
            occupancy={name: Occupancy(gate.in_flight_count, gate.waiting_count) for name, gate in gates.items()},
            resident_model_bytes=router.resident_bytes,
            outbox=serving.sink.outbox_state(),
            counters=self._stream_families(),
        )

    def _stream_families(self) -> "tuple[Family, ...]":
        streams = self._streams
        if streams is None:
            return ()
        from edge_component.observability.stream_figures import stream_families  # noqa: PLC0415 - as above

        return stream_families(streams.reports())

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
