"""The supervisor: puts the parts together, restores what served, opens the doors, and stops in order.

The failures this exists for: a runtime that listens before it can answer (so it restores every model first, and only then
opens the doors); two runtimes in one work folder (an exclusive lock on ``runtime.lock``); a runtime that ends by itself
with exit code 0, which Greengrass Lite never starts again (only :meth:`Runtime.stop` ends it, or a crash); and one that
cannot serve because the nucleus is not there (the nucleus is asked last, and never waited for).

The order of stopping: no new requests, those in flight finish, telemetry keeps what it has, the lock goes.
"""

import fcntl
import logging
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_component.activation.activator import Activator, ActivatorParts
from edge_component.activation.intake import Intake
from edge_component.activation.journal import Journal
from edge_component.activation.live import LiveRequests
from edge_component.activation.slots import SlotParts
from edge_component.bundles.signature import load_trust
from edge_component.bundles.store import Store
from edge_component.bundles.verification import Asked
from edge_component.clock import Clock, SystemClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.codec import Document
from edge_component.contracts.heartbeat import Heartbeat, OutboxState
from edge_component.contracts.routes import RouteTable
from edge_component.errors import AlreadyRunningError
from edge_component.inference.admission import AdmissionLimits
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.equipment import RuledEquipment
from edge_component.inference.router import Router, RouterLimits
from edge_component.inference.routing import Routing
from edge_component.inference.sequences import SequenceLimits
from edge_component.inference.shadow import Shadowing
from edge_component.inference.trial import Trial, run_trial
from edge_component.platform_name import platform_name
from edge_component.serving.access import socket_access
from edge_component.serving.admin_server import admin_listener
from edge_component.serving.fastpath_connection import Serving
from edge_component.serving.fastpath_server import fastpath_listener
from edge_component.serving.oip_doors import OipDoors
from edge_component.telemetry.heartbeat import Snapshot, build_heartbeat, identify_process, read_machine
from edge_component.telemetry_sink import NullSink, ShieldedSink, TelemetrySink

log = logging.getLogger(__name__)

LOCK_FILE = "runtime.lock"
TICK_S = 0.5
STATUS_BYTES_MAX = 60_000


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
    """

    work_path: Path
    trust_path: Path
    version: str
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    sink: TelemetrySink = field(default_factory=NullSink)
    clock: Clock = field(default_factory=SystemClock)
    trial: Trial = run_trial
    problems: tuple[str, ...] = ()


class Runtime:
    """One runtime in one work folder; :meth:`start` it, :meth:`run` it until it is asked to stop, :meth:`stop` it."""

    def __init__(self, parts: RuntimeParts) -> None:
        """Read the trusted keys; nothing is opened yet.

        Raises:
            NoTrustError: no usable public key.
        """
        self._parts = parts
        self._reasons: tuple[str, ...] = parts.problems
        self._sink = ShieldedSink(parts.sink)
        self._watch = DeadlineWatch(parts.clock)
        self._shadowing = Shadowing(self._watch)
        equipment = RuledEquipment(self._shadowing, sequence_limits(parts.config))
        self._router = Router(router_limits(parts.config), equipment, parts.clock)
        self._lock_descriptor = -1
        self._asked_to_stop = threading.Event()
        self._routing = Routing(parts.work_path, self._router)
        platform = platform_name()
        store = Store(parts.work_path)
        self._activator = Activator(
            ActivatorParts(
                SlotParts(
                    store,
                    Journal(parts.work_path),
                    self._router,
                    self._sink,
                    parts.clock,
                    parts.config,
                    LiveRequests(self._sink.observe),
                ),
                Intake(store, load_trust(parts.trust_path)),
                parts.trial,
                platform,
            )
        )
        self.serving = Serving(self._router, self._sink, self._watch, parts.config, parts.version)
        access, problems = socket_access(parts.config)
        self._reasons += problems
        self._doors = (
            fastpath_listener(parts.work_path, self.serving, access),
            admin_listener(parts.work_path, _Administration(self, self._activator, self._routing, self._sink)),
        )
        self._oip = OipDoors(parts.work_path, self.serving, access)
        self._identity = identify_process(parts.version, platform, parts.clock.now())

    def start(self) -> None:
        """Take the work folder, restore what served, then open the doors.

        Raises:
            AlreadyRunningError: another process serves from this work folder.
            StoreError, OSError: the work folder cannot be used.
        """
        self._parts.work_path.mkdir(parents=True, exist_ok=True)
        self._lock_descriptor = lock_work_folder(self._parts.work_path)
        self._reasons += self._activator.restore()
        self._reasons += self._routing.restore()
        self._watch.start()
        for door in self._doors:
            door.open()
        self._reasons += self._oip.open()
        log.info("serving %s from %s", self._router.names() or "no model yet", self._parts.work_path)

    def run(self) -> None:
        """Watch over probations until :meth:`ask_to_stop`; returns then, and only then."""
        while not self._asked_to_stop.wait(TICK_S):
            try:
                self._activator.tick()
                self._router.tick()
            except Exception:  # serving does not depend on it
                log.exception("watching over models failed; it will be tried again")

    def ask_to_stop(self) -> None:
        """End :meth:`run`; may be called from a signal handler."""
        self._asked_to_stop.set()

    def stop(self) -> None:
        """Close the doors, let requests in flight finish, keep what telemetry has, let go of the work folder."""
        self._oip.stop(self._parts.config.stop_s)
        for door in self._doors:
            door.stop(self._parts.config.stop_s)
        self._shadowing.stop()
        self._watch.stop()
        self._sink.stop()
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    def add_reason(self, reason: str) -> None:
        """Something is amiss from now on; the heartbeat says so."""
        if reason not in self._reasons:
            self._reasons += (reason,)

    def heartbeat(self, outbox: OutboxState, body_bytes_max: int) -> Heartbeat:
        """What this runtime says of itself, now, in at most so many bytes."""
        models = tuple(
            replace(model, routing=self._routing.report(model.active.name)) for model in self._activator.models()
        )
        failed = tuple(
            f"{model.active.name} {model.active.version} could not be restored"
            for model in models
            if model.state == "failed"
        )
        snapshot = Snapshot(models, outbox, self._reasons + failed + self._routing.missing())
        return build_heartbeat(self._identity, read_machine(self._parts.work_path), snapshot, body_bytes_max)


def router_limits(config: RuntimeConfig) -> RouterLimits:
    """The router's share of the configuration."""
    return RouterLimits(
        AdmissionLimits(config.in_flight_max, config.queue_max), config.model_memory_bytes_max, config.idle_unload_s
    )


def sequence_limits(config: RuntimeConfig) -> SequenceLimits:
    """The sequences' share of the configuration."""
    return SequenceLimits(config.sequences_max, config.sequence_idle_s)


class _Administration:
    """The admin door's commands; see admin_server.Administration."""

    def __init__(self, runtime: Runtime, activator: Activator, routing: Routing, sink: ShieldedSink) -> None:
        self._runtime = runtime
        self._activator = activator
        self._routing = routing
        self._sink = sink

    def activate(self, archive: Path, asked: Asked, allowed_s: float) -> Document:
        return self._activator.activate(archive, asked, allowed_s).to_document()

    def deactivate(self, model_name: str) -> Document:
        return self._activator.deactivate(model_name).to_document()

    def revert(self, model_name: str) -> Document:
        return self._activator.revert(model_name).to_document()

    def status(self) -> Document:
        return self._runtime.heartbeat(self._sink.outbox_state(), STATUS_BYTES_MAX).to_document()

    def route(self, table: RouteTable | None) -> Document:
        if table is not None:
            self._routing.set(table)
        return self._routing.to_document()

    def flush(self) -> Document:
        return {"window_count": self._sink.flush()}


def lock_work_folder(work_path: Path) -> int:
    """Hold the work folder until the returned descriptor is closed, or the process dies.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    descriptor = os.open(work_path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AlreadyRunningError(f"another runtime serves from {work_path}") from error
    return descriptor
