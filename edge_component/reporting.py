"""Telemetry as one piece: the recorder, the outbox, the uplink and the heartbeat behind the runtime's sink.

The failures this exists for: an event that is lost because, just then, the disk was full. What the outbox will not take
now is kept in memory, bounded, and offered again before each heartbeat. And a device that falls silent for the same
reason: a heartbeat that the outbox will not take is made once more, saying so, and sent without being kept.

It makes nothing itself: counting is telemetry/recorder.py's, keeping telemetry/outbox.py's, sending telemetry/uplink.py's.
One thread sends heartbeats: on the interval, and at once after every activation event.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.baseline import Baseline, baseline_id
from edge_component.contracts.codec import Document
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState
from edge_component.contracts.manifest import Manifest
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.errors import TelemetryError
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.recorder import Recorder
from edge_component.telemetry.uplink import Uplink

log = logging.getLogger(__name__)

KEPT_EVENTS_MAX = 64

BuildHeartbeat = Callable[[OutboxState, int], Heartbeat]
"""A heartbeat that names this outbox state and takes at most so many bytes."""


@dataclass(frozen=True, slots=True)
class ReportingParts:
    """What reporting is made of; ``uplink`` is ``None`` where there is no nucleus to send through."""

    outbox: Outbox
    recorder: Recorder
    uplink: Uplink | None
    heartbeat_s: float


class Reporting:
    """A :class:`~edge_component.telemetry_sink.TelemetrySink`."""

    def __init__(self, parts: ReportingParts) -> None:
        """Nothing runs before :meth:`start`; events and windows are taken at once."""
        self._parts = parts
        self._heartbeat_s = parts.heartbeat_s
        self._kept: deque[ActivationEvent] = deque(maxlen=KEPT_EVENTS_MAX)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._build: BuildHeartbeat | None = None
        self.record = parts.recorder.record
        self.bound_record = parts.recorder.bound_record

    def start(self, build: BuildHeartbeat) -> None:
        """Count, send, and tell how the runtime is: now, and from now on."""
        self._build = build
        self._parts.recorder.start()
        if self._parts.uplink is not None:
            self._parts.uplink.start()
        self._thread.start()

    def outbox_state(self) -> OutboxState:
        """How much waits to be sent."""
        return self._parts.outbox.state()

    def set_intervals(self, heartbeat_s: float, window_s: float) -> None:
        """Other intervals from now on."""
        self._heartbeat_s = heartbeat_s
        self._parts.recorder.set_window_s(window_s)
        self._wake.set()

    def use_rule(self, rule: str) -> None:
        """Send through another topic rule from now on."""
        if self._parts.uplink is not None:
            self._parts.uplink.use_rule(rule)

    def retry_now(self) -> None:
        """The nucleus is back: do not wait any longer."""
        if self._parts.uplink is not None:
            self._parts.uplink.retry_now()

    def model_switched(self, model: ModelRef, baseline: bytes | None, manifest: Manifest) -> None:
        """See :class:`TelemetrySink`."""
        self._parts.recorder.model_switched(watch_plan(model, baseline, manifest))

    def activation(self, event: ActivationEvent) -> None:
        """See :class:`TelemetrySink`; a heartbeat follows."""
        with self._lock:
            self._kept.append(event)
        self._offer_kept()
        self._wake.set()

    def flush(self) -> int:
        """See :class:`TelemetrySink`."""
        self._offer_kept()
        window_count = self._parts.recorder.flush()
        self._beat()
        return window_count

    def stop(self) -> None:
        """See :class:`TelemetrySink`."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._parts.recorder.stop()
        if self._parts.uplink is not None:
            self._parts.uplink.stop()
        self._parts.outbox.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._offer_kept()
                self._beat()
            except Exception:  # a defect may cost this heartbeat, not all that follow: a silent device looks dead
                log.exception("a heartbeat could not be made")
            self._wake.wait(self._heartbeat_s)
            self._wake.clear()  # before the next look at _stopping, so that a stop is never slept through

    def _beat(self) -> None:
        if self._build is None or self._offer("heartbeat", self._heartbeat(self._build)):
            return
        with suppress(ContractError, TelemetryError):  # as _offer has logged, or on its way to a stop
            self._parts.outbox.hold("heartbeat", self._heartbeat(self._build))

    def _heartbeat(self, build: BuildHeartbeat) -> Document:
        outbox = self._parts.outbox
        return build(outbox.state(), outbox.body_bytes_max).to_document()

    def _offer_kept(self) -> None:
        with self._lock:
            while self._kept and self._offer("activation", self._kept[0].to_document()):
                self._kept.popleft()

    def _offer(self, kind: str, body: Document) -> bool:
        """Whether the matter is done with."""
        try:
            self._parts.outbox.append(kind, body)
        except ContractError as error:
            log.error("a message of kind %s cannot be sent and is dropped: %s", kind, error)  # noqa: TRY400
        except TelemetryError:  # the outbox has logged that it keeps nothing, once
            return False
        return True


def watch_plan(model: ModelRef, baseline: bytes | None, manifest: Manifest) -> WatchPlan:
    """What to count for a model; one whose baseline cannot be read is served, and counted without its columns."""
    if baseline is None:
        return WatchPlan(model)
    try:
        return WatchPlan.of(model, manifest, Baseline.from_bytes(baseline), baseline_id(baseline))
    except ContractError as error:
        log.warning("%s %s is not watched: its baseline: %s", model.name, model.version, error)
        return WatchPlan(model)
