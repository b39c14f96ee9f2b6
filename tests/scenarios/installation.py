"""For scenarios: one whole installation on this machine, and core devices in it, each step through what a user has.

The model is ``linear``: version 1.<n>.0 answers (n + 1) · (x₁ + x₂ + x₃), so that an answer proves who gave it. Each
version published here is newer than all before it; nothing is fixed to an order of tests.
"""

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from cloud.aws.session import AwsSession
from edge_component.client import Answer, Client
from edge_component.contracts.heartbeat import Heartbeat
from simulator.demo import admin
from simulator.nucleus.control import ask_device
from simulator.processes import CommandFailedError
from simulator.world import World
from tests.cloud.publishing.conftest import write_compilation

RUNTIME, LINEAR = "com.edgewright.Runtime", "com.edgewright.model.Linear"
RUNTIME_VERSION = "1.0.0"
CONFIGURATION = '{"heartbeat_s": 2, "window_s": 3600, "probation_s": 0}'
"""Windows close when a scenario says so, and what is activated is committed at once."""

ROW = np.array([[1, 2, 3]], np.float32)
PACE = 0.2
WAIT_S = 60.0
POLL_S = 0.1
RECORDED_S = 0.2
"""After an answer, its record has been taken: microseconds later, or a thread's turn later where the machine is busy."""

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found], what: str, timeout_s: float = WAIT_S) -> Found:
    """Poll until something is found, bounded."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(POLL_S)
    return found


@dataclass
class Installation:
    """Broker, local cloud, fleet API and a published runtime; see :func:`installed`."""

    world: World
    minors: Iterator[int] = field(default_factory=itertools.count)
    runtime_versions: Iterator[str] = field(default_factory=lambda: (f"1.0.{n}" for n in itertools.count()))

    @property
    def session(self) -> AwsSession:
        """The same cloud for what no command does; :func:`installed` has set its variables."""
        return AwsSession(self.world.environment["AWS_DEFAULT_REGION"])

    def compile(self, version: str, **how: Any) -> Path:
        """A compilation folder of the version."""
        folder = self.world.folder / "compilations" / version
        return write_compilation(folder, slope=slope_of(version), **how)

    def next_version(self) -> str:
        """One that is free."""
        return f"1.{next(self.minors)}.0"

    def publish(self, *options: str, folder: Path | None = None) -> str:
        """Publish the next version, or a folder as such; returns the version."""
        version = folder.name if folder else self.next_version()
        self.world.edgewright("publish", str(folder or self.compile(version)), "--version", version, *options)
        return version

    def publish_runtime(self) -> str:
        """Publish the next version of the runtime for this machine; returns it."""
        version = next(self.runtime_versions)
        platform, python = self.world.platform, self.world.python_version
        self.world.edgewright("publish-runtime", "--version", version, "--platform", platform, "--python", python)
        return version

    def start_station(self, name: str, environment: Mapping[str, str] | None = None) -> "Station":
        """A new core device in a group of its own, nothing deployed yet."""
        work = self.world.start_device(name, [f"ring-{name}"], PACE, environment or {})
        return Station(self, name, work)

    def stored_windows(self, thing_name: str, since_ms: int) -> list[tuple[str, str, int]]:
        """Window id, model version and record count of the windows in the fleet store that ended later than that."""
        path = self.world.environment["EDGEWRIGHT_DATABASE_URL"].removeprefix("sqlite:///")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            query = "SELECT window_id, version, record_count FROM window WHERE thing_name = ? AND ends_at_ms > ?"
            return connection.execute(query, (thing_name, since_ms)).fetchall()


@dataclass
class Station:
    """One core device as its operator, its application and the cloud see it."""

    installation: Installation
    name: str
    work: Path
    asked_count: int = 0

    @property
    def root(self) -> Path:
        return self.work.parent.parent

    @property
    def group(self) -> str:
        return f"ring-{self.name}"

    def deploy(self, version: str, *options: str, model: str = "linear") -> Any:
        """``edgewright deploy``; without ``--wait`` unless asked for."""
        return self.installation.world.edgewright("deploy", model, version, "--to", self.group, *options)

    def install(self, version: str) -> None:
        """The first deployment: runtime and model, configured for scenarios; returns when the cloud knows it serves."""
        self.deploy(version, "--wait", "--runtime-config", CONFIGURATION)
        self.wait_reported(version)

    def change_to(self, version: str) -> None:
        """Deploy, wait for success, and for the device's own word."""
        self.deploy(version, "--wait")
        self.wait_reported(version)

    def fail_to_change_to(self, version: str) -> str:
        """Deploy what must fail on the device; returns the command's words."""
        with pytest.raises(CommandFailedError) as caught:
            self.deploy(version, "--wait")
        assert caught.value.exit_code == 1, caught.value
        return str(caught.value)

    def ask(self, deadline_s: float = 5.0) -> Answer:
        """One prediction, which must be the answering version's own."""
        self.asked_count += 1
        with Client(self.work / "infer.sock", deadline_s=deadline_s) as client:
            return checked(client.infer("linear", {"x": ROW}))

    def serving(self) -> str:
        """Which version answers on the device."""
        return self.ask().model.version

    def close_windows(self) -> None:
        """Close telemetry windows until there is nothing left to count; they wait in the outbox then.

        An answer leaves before its record is taken: a flush in the same instant may come between the two.
        """
        time.sleep(RECORDED_S)
        wait_for(lambda: admin.flush(self.work) == 0, "everything to be counted")

    def start_counting(self) -> tuple[int, int]:
        """Now, in ms, with the windows closed, and how much was asked until now."""
        self.close_windows()
        return time.time_ns() // 1_000_000, self.asked_count

    def heartbeat(self) -> Heartbeat:
        """What the runtime says of itself, now and here."""
        return admin.status(self.work)

    def nucleus(self, command: str = "status", **arguments: Any) -> Any:
        """Ask the nucleus, or disturb it."""
        return ask_device(self.root, command, **arguments)

    def component(self, name: str = LINEAR) -> Mapping[str, Any]:
        """A component in the nucleus's eyes; empty before it is recorded."""
        return dict(self.nucleus()["components"].get(name, {}))

    def log(self, name: str) -> str:
        """What a component's scripts printed."""
        path = self.root / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def in_the_cloud(self) -> Mapping[str, Any]:
        """What the fleet status API says of it."""
        found = self.installation.world.api(f"/v1/devices/{self.name}", missing={"models": [], "status": ""})
        return dict(found)

    def reported(self) -> str:
        """Which version the cloud believes to serve."""
        models = self.in_the_cloud()["models"]
        return models[0]["version"] if models else ""

    def wait_reported(self, version: str) -> None:
        """Until the cloud believes that."""
        wait_for(lambda: self.reported() == version, f"{self.name} to be known to serve {version}")

    def events(self, kind: str, version: str | None = None) -> list[dict[str, Any]]:
        """The fleet's history of this device by the command line, the oldest first."""
        found = self.installation.world.edgewright("get", "events", "--device", self.name, "--kind", kind)
        return [event for event in reversed(found) if version in {None, event["version"]}]

    def outcomes(self, version: str | None = None) -> list[str]:
        """The outcomes of its activation events, the oldest first."""
        return [event["outcome"] for event in self.events("activation", version)]


def slope_of(version: str) -> float:
    """What the version multiplies by."""
    return float(version.split(".")[1]) + 1.0


def checked(answer: Answer) -> Answer:
    """The answer, if it is what its version answers to ``ROW``."""
    expected = np.array([[ROW.sum() * slope_of(answer.model.version)]], np.float32)
    np.testing.assert_allclose(answer.outputs["y"], expected, rtol=1e-6)
    return answer


@contextmanager
def installed(folder: Path) -> Iterator[Installation]:
    """A new installation in ``folder``, everything an operator sets up once, for as long as the block lasts."""
    with World(folder) as world, pytest.MonkeyPatch.context() as patch:
        for name, value in world.environment.items():
            if name.startswith(("AWS_", "EDGEWRIGHT_")):
                patch.setenv(name, value)
        world.edgewright("setup")
        world.start_api()
        installation = Installation(world)
        assert installation.publish_runtime() == RUNTIME_VERSION
        yield installation
