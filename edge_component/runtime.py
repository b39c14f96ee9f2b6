"""The supervisor: puts the parts together, restores what served, opens the doors, and stops in order.

The failures this exists for: a runtime that listens before it can answer (so it restores every model first, and only then
opens the doors); two runtimes in one work folder (core.py holds an exclusive lock); a runtime that ends by itself
with exit code 0, which Greengrass Lite never starts again (only :meth:`Runtime.stop` ends it, or a crash).

It knows no nucleus (``__main__`` does). The order of stopping: no new requests, those in flight finish, telemetry keeps
what it has, the lock goes.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edge_component.bundles.verification import Asked
from edge_component.clock import Clock, Parting, SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.codec import Document
from edge_component.contracts.configuration import value_digests
from edge_component.contracts.heartbeat import Heartbeat, OutboxState
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.routes import RouteTable
from edge_component.core import Core, CoreParts
from edge_component.inference.trial import Trial
from edge_component.operators_command import leave_command
from edge_component.platform_name import platform_name
from edge_component.polling import polling
from edge_component.serving.access import socket_access
from edge_component.serving.admin_server import admin_listener
from edge_component.serving.fastpath_server import fastpath_listener
from edge_component.serving.oip_doors import OipDoors
from edge_component.serving.serving import Serving
from edge_component.telemetry.heartbeat import Snapshot, build_heartbeat, identify_process, read_machine
from edge_component.telemetry_sink import NullSink, ShieldedSink, TelemetrySink

log = logging.getLogger(__name__)

TICK_S = 0.5
STATUS_BYTES_MAX = 60_000
KNOWN_FIELDS = frozenset(field.name for field in fields(RuntimeConfig)) | {"accessControl", "streams"}
"""Of a component's configuration: those of config.py, the nucleus's and streams/config.py's."""


@dataclass(frozen=True, slots=True)
class RuntimeParts:
    """What a runtime is made of; everything but the first three has a default that is right on a device.

    Attributes:
        work_path: the component's own folder: store, journal, sockets.
        trust_path: folder of PEM public keys whose bundles are accepted.
        version: of the runtime component.
        config: limits.
        sink: telemetry; see reporting.py.
        problems: what was amiss before the start, for the heartbeat's reasons.
        configuration: the component's, as the nucleus gave it; ``None`` where it has not.
    """

    work_path: Path
    trust_path: Path
    version: str
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    sink: TelemetrySink = field(default_factory=NullSink)
    clock: Clock = field(default_factory=SystemClock)
    trial: Trial | None = None
    problems: tuple[str, ...] = ()
    configuration: Mapping[str, Any] | None = None


class Runtime:
    """One runtime in one work folder; :meth:`start` it, :meth:`run` it until it is asked to stop, :meth:`stop` it."""

    def __init__(self, parts: RuntimeParts) -> None:
        """Read the trusted keys; nothing is opened yet.

        Raises:
            NoTrustError: no usable public key.
        """
        self._parts = parts
        self._reasons: tuple[str, ...] = parts.problems
        self._ask_others: Callable[[], tuple[str, ...]] = tuple
        self._configuration: Mapping[str, str] | None = None
        if parts.configuration is not None:
            self.configured(parts.configuration)
        self._sink = ShieldedSink(parts.sink)
        self._asked_to_stop = threading.Event()
        self._core = Core(
            CoreParts(parts.work_path, parts.trust_path, parts.config, self._sink, parts.clock, parts.trial)
        )
        watch = self._core.inference.watch
        self.serving = Serving(
            self._core.router, self._sink, watch, parts.config, parts.version, polling=polling(parts.config)
        )
        access, problems = socket_access(parts.config)
        self._reasons += problems
        self._doors = (
            fastpath_listener(parts.work_path, self.serving, access),
            admin_listener(parts.work_path, _Administration(self, self._core, self._sink)),
        )
        self._oip = OipDoors(parts.work_path, self.serving, access, parts.clock)
        self._identity = identify_process(parts.version, platform_name(), parts.clock.now())

    def start(self) -> None:
        """Take the work folder, restore what served, then open the doors.

        Raises:
            AlreadyRunningError: another process serves from this work folder.
            StoreError, OSError: the work folder cannot be used.
        """
        for reason in self._reasons:
            log.warning("%s", reason)
        self._reasons += self._core.start()
        leave_command(self._parts.work_path)
        for door in self._doors:
            door.open()
        self._reasons += self._oip.open()
        log.info("serving %s from %s", self._core.router.names() or "no model yet", self._parts.work_path)

    def run(self) -> None:
        """Watch over probations until :meth:`ask_to_stop`; returns then, and only then."""
        while not self._asked_to_stop.wait(TICK_S):
            try:
                self._core.tick()
            except Exception:  # serving does not depend on it
                log.exception("watching over models failed; it will be tried again")

    def ask_to_stop(self) -> None:
        """End :meth:`run`; may be called from a signal handler."""
        self._asked_to_stop.set()

    def stop(self, parting: Parting | None = None) -> None:
        """Close the doors, let requests in flight finish, keep what telemetry has, let go of the work folder."""
        parting = parting or Parting(self._parts.config.stop_s, self._parts.clock)
        for door in (self._oip, *self._doors):
            door.stop(parting.left_s())
        self._sink.stop()
        self._core.stop()

    def add_reason(self, reason: str) -> None:
        """Something is amiss from now on; heartbeat and log say so."""
        if reason not in self._reasons:
            self._reasons += (reason,)
            log.warning("%s", reason)

    def ask_also(self, problems: Callable[[], tuple[str, ...]]) -> None:
        """Whom each heartbeat asks what is amiss besides: what passes by itself is not said for ever."""
        self._ask_others = problems

    def configured(self, document: Mapping[str, Any]) -> None:
        """This is the component's configuration from now on; the heartbeat tells digests of it, unless it is too large."""
        unknown = sorted(set(map(str, document)) - KNOWN_FIELDS)
        if unknown:
            log.warning("the configuration has fields that nothing here reads: %s", ", ".join(map(repr, unknown)))
        digests = value_digests(document)
        self._configuration = digests if len(digests) <= LIMITS.configuration_values_max else None

    def heartbeat(self, outbox: OutboxState, body_bytes_max: int) -> Heartbeat:
        """What this runtime says of itself, now, in at most so many bytes."""
        models = tuple(
            replace(model, routing=self._core.routing.report(model.active.name))
            for model in self._core.activator.models()
        )
        failed = tuple(
            f"{model.active.name} {model.active.version} could not be restored"
            for model in models
            if model.state == "failed"
        )
        reasons = (*self._reasons, *failed, *self._core.reasons(), *self._oip.warnings(), *self._ask_others())
        snapshot = Snapshot(models, outbox, reasons, self._configuration)
        return build_heartbeat(self._identity, read_machine(self._parts.work_path), snapshot, body_bytes_max)


class _Administration:
    """The admin door's commands; see admin_server.Administration."""

    def __init__(self, runtime: Runtime, core: Core, sink: ShieldedSink) -> None:
        self._runtime = runtime
        self._activator = core.activator
        self._routing = core.routing
        self._sink = sink

    def activate(self, archive: Path, asked: Asked, allowed_s: float) -> Document:
        return self._activator.activate(archive, asked, allowed_s).to_document()

    def deactivate(self, model_name: str, component_name: str, allowed_s: float) -> Document:
        return self._activator.deactivate(model_name, component_name, allowed_s).to_document()

    def revert(self, model_name: str, allowed_s: float) -> Document:
        return self._activator.revert(model_name, allowed_s).to_document()

    def lower_floor(self, component_name: str, allowed_s: float) -> Document:
        return self._activator.lower_floor(component_name, allowed_s).to_document()

    def status(self) -> Document:
        return self._runtime.heartbeat(self._sink.outbox_state(), STATUS_BYTES_MAX).to_document()

    def route(self, table: RouteTable | None) -> Document:
        if table is not None:
            self._routing.set(table)
        return self._routing.to_document()

    def flush(self) -> Document:
        return {"window_count": self._sink.flush()}
