"""An activator over a real store, journal, router and real signed bundles; the trial is in-process, the clock manual."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edge_component.activation.activator import Activator, ActivatorParts
from edge_component.activation.intake import Intake
from edge_component.activation.journal import Journal
from edge_component.activation.live import LiveRequests
from edge_component.activation.slots import SlotParts
from edge_component.bundles.signature import load_trust
from edge_component.bundles.store import Store
from edge_component.bundles.verification import Asked
from edge_component.clock import ManualClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest
from edge_component.inference.router import Router, RouterLimits
from edge_component.platform_name import platform_name
from edge_component.telemetry_sink import NullSink, ShieldedSink
from tests.edge_component.bundle_factory import Bundle

ROW = np.array([[1, 2, 3]], np.float32)


class EventSink(NullSink):
    def __init__(self) -> None:
        self.events: list[ActivationEvent] = []
        self.switches: list[str] = []

    def activation(self, event: ActivationEvent) -> None:
        self.events.append(event)

    def model_switched(self, model: ModelRef, baseline: bytes | None, manifest: Manifest) -> None:
        self.switches.append(model.version)

    def outcomes(self) -> list[tuple[str, str, str]]:
        return [(event.outcome, event.phase, event.code) for event in self.events]


Trying = Callable[[Path, Manifest, float], None]


def passing(folder: Path, manifest: Manifest, allowed_s: float) -> None:
    """The real trial is tested in inference/test_trial.py and through the runtime's process."""


@dataclass
class Device:
    """A device that can be 'restarted': the work folder stays, everything in memory goes."""

    work: Path
    trust: Path
    trial: Trying = passing
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    clock: ManualClock = field(default_factory=lambda: ManualClock(datetime.now(UTC)))
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        limits = RouterLimits(model_memory_bytes_max=self.config.model_memory_bytes_max)
        self.sink, self.router, self.store = EventSink(), Router(limits), Store(self.work)
        self.door = ShieldedSink(self.sink)
        """What a door's thread tells of each request."""
        live = LiveRequests(self.door.observe)
        slots = SlotParts(
            self.store, Journal(self.work), self.router, self.door, self.clock, self.config, live, self._pause
        )
        intake = Intake(self.store, load_trust(self.trust))
        self.activator = Activator(ActivatorParts(slots, intake, self._try, platform_name()))
        self.problems = self.activator.restore()

    def _try(self, folder: Path, manifest: Manifest, allowed_s: float) -> None:
        self.trial(folder, manifest, allowed_s)

    def _pause(self, pause_s: float) -> None:
        self.clock.advance(pause_s) if isinstance(self.clock, ManualClock) else None

    def configure(self, **limits: object) -> None:
        self.config = replace(self.config, **limits)  # type: ignore[arg-type]
        self.start()

    def hand_over(self, bundle: Bundle, allowed_s: float = 60.0) -> ActivationEvent:
        return self.activator.activate(bundle.archive, Asked(bundle.component, bundle.version), allowed_s)

    def factor(self, name: str = "scale") -> float | None:
        """What the served model multiplies with; ``None`` if nothing answers."""
        active = self.router.active(name)
        return None if active is None else float(active.session.run({"x": ROW})["y"][0, 0])

    def stored(self) -> set[str]:
        return {path.name for path in (self.work / "store").iterdir()}

    def fail_requests(self, failed: int, answered: int, name: str = "scale") -> None:
        route = self.router.route(name)
        assert route.active is not None
        tally = self.router.open_tally(route, route.active.generation)
        tally.failed_count, tally.answered_count = failed, answered


@pytest.fixture
def device(tmp_path: Path, trust: Path) -> Device:
    return Device(tmp_path / "work", trust)
