"""A runtime without its doors: store, activation, router and what watches over runs, put together once.

The failure this exists for: a second wiring of the same parts, for programs that want no process boundary, which forgets
one of them (the verification, the deadline, the budget). The supervisor (runtime.py) opens doors on a core;
in_process.py hands one to a Python program.

One core per work folder: :meth:`Core.start` holds an exclusive lock on ``runtime.lock`` until :meth:`Core.stop`.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edge_component.activation.activator import Activator, ActivatorParts
from edge_component.activation.intake import Intake
from edge_component.activation.journal import Journal
from edge_component.activation.live import LiveRequests
from edge_component.activation.slots import SlotParts
from edge_component.bundles.signature import load_trust
from edge_component.bundles.store import Store
from edge_component.clock import Clock, SystemClock
from edge_component.config import DOOR_FIELDS, RuntimeConfig
from edge_component.contracts.codec import to_bytes
from edge_component.contracts.errors import ContractError
from edge_component.errors import AlreadyRunningError
from edge_component.inference.admission import AdmissionLimits
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.equipment import RuledEquipment
from edge_component.inference.execution import session_options
from edge_component.inference.router import Router, RouterLimits
from edge_component.inference.routing import Routing
from edge_component.inference.sequences import SequenceLimits
from edge_component.inference.shadow import Shadowing
from edge_component.inference.trial import Trial, run_trial
from edge_component.platform_name import platform_name
from edge_component.telemetry_sink import NullSink, ShieldedSink

LOCK_FILE = "runtime.lock"


@dataclass(frozen=True, slots=True)
class CoreParts:
    """What a core is made of; ``trial`` is a child process that computes as the configuration says, unless given."""

    work_path: Path
    trust_path: Path
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    sink: ShieldedSink = field(default_factory=lambda: ShieldedSink(NullSink()))
    clock: Clock = field(default_factory=SystemClock)
    trial: Trial | None = None


class Inference:
    """The part that answers: router, deadlines, shadows; and that needs no store."""

    def __init__(self, config: RuntimeConfig, clock: Clock) -> None:
        """No models."""
        self.watch = DeadlineWatch(clock)
        self.shadowing = Shadowing(self.watch)
        sequences = SequenceLimits(config.sequences_max, config.sequence_idle_s)
        limits = RouterLimits(
            AdmissionLimits(config.in_flight_max, config.queue_max), config.model_memory_bytes_max, config.idle_unload_s
        )
        self.router = Router(limits, RuledEquipment(self.shadowing, sequences), clock)

    def stop(self) -> None:
        """End the threads; what is answered now, is answered to its end."""
        self.shadowing.stop()
        self.watch.stop()


class Core:
    """See the module's text."""

    def __init__(self, parts: CoreParts) -> None:
        """Read the trusted keys; nothing is opened yet.

        Raises:
            NoTrustError: no usable public key.
        """
        config = parts.config
        self._work_path = parts.work_path
        self._trust_path = parts.trust_path
        self._config = config
        self._lock_descriptor = -1
        self.inference = Inference(config, parts.clock)
        self.router = self.inference.router
        self.routing = Routing(parts.work_path, self.router)
        store = Store(parts.work_path)
        self.activator = Activator(
            ActivatorParts(
                SlotParts(
                    store,
                    Journal(parts.work_path),
                    self.router,
                    parts.sink,
                    parts.clock,
                    config,
                    LiveRequests(parts.sink.observe),
                ),
                Intake(store, load_trust(parts.trust_path)),
                parts.trial or partial(run_trial, options=session_options(config)),
                platform_name(),
            )
        )

    def start(self) -> tuple[str, ...]:
        """Take the work folder and restore what served and how it was routed; returns what is amiss.

        Raises:
            AlreadyRunningError: another process serves from this work folder.
            StoreError, OSError: the work folder cannot be used.
        """
        self._work_path.mkdir(parents=True, exist_ok=True)
        self._lock_descriptor = lock_work_folder(self._work_path, self._trust_path, self._config)
        problems = (*self.activator.restore(), *self.routing.restore())
        self.inference.watch.start()
        return problems

    def tick(self) -> None:
        """Judge probations, and unload what is idle; about twice a second."""
        self.activator.tick()
        self.router.tick()

    def reasons(self) -> Sequence[str]:
        """What is not as it was asked for, now."""
        return (*self.activator.problems(), *self.routing.missing(), *self.router.fallbacks())

    def stop(self) -> None:
        """End the threads and let go of the work folder."""
        self.inference.stop()
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1


def lock_work_folder(work_path: Path, trust_path: Path, config: RuntimeConfig) -> int:
    """Hold the work folder until the returned descriptor is closed, or the process dies.

    The lock says who holds it, which keys it trusts and how its TCP doors are configured: `edgewright-edge doctor` reads
    that, also after the holder's end.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    descriptor = os.open(work_path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AlreadyRunningError(f"another runtime serves from {work_path}") from error
    with suppress(OSError, ContractError):  # a full disk keeps nobody from serving
        os.ftruncate(descriptor, 0)
        doors = {name: getattr(config, name) for name in DOOR_FIELDS}
        document = {"process_id": os.getpid(), "trust_path": str(trust_path.absolute()), "doors": doors}
        os.write(descriptor, to_bytes(document))
    return descriptor
