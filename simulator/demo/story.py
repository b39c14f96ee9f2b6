"""The loop, told by an operator: train, publish, deploy, watch the year go by, retrain, roll out, refuse a bad version.

Each step uses what a user has: the ``edgewright`` command, the fleet status API, S3, a device application. The story
decides nothing that Edgewright should decide; it waits for Edgewright to decide, and fails where it does not.
One thread at a time calls it; :meth:`Replay.while_running` may give a step a thread of its own.
"""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from simulator.demo import admin
from simulator.demo.lake import DataLake
from simulator.demo.narrator import Narrator
from simulator.demo.periods import Period
from simulator.demo.replay import Replay
from simulator.demo.retraining import Retraining
from simulator.demo.sabotage import with_false_golden_answers
from simulator.demo.summary import DeviceOutcome, DriftOutcome, Refusal, Summary
from simulator.errors import SimulatorError
from simulator.processes import CommandFailedError
from simulator.world import World

MODEL = "weather"
RINGS: Mapping[str, tuple[str, ...]] = {"ring-canary": ("EWR",), "ring-rest": ("JFK", "LGA")}
RUNTIME_CONFIGURATION = {"heartbeat_s": 2, "window_s": 3600}
"""A heartbeat every two seconds, and windows that close when the story says so: a year passes in a minute here."""

POLL_S = 0.2
REPORT_TIMEOUT_S = 30.0
RETRAIN_TIMEOUT_S = 180.0
PAGE = 500


class StoryError(SimulatorError):
    """Edgewright did not do in time what the demo shows; the message says what was waited for."""


class Story:
    """The steps, in the order of ``command.py``. Not reusable."""

    def __init__(self, world: World, narrator: Narrator, summary: Summary, model_folder: Path) -> None:
        """Nothing happens yet."""
        self._world = world
        self._note = narrator.note
        self._summary = summary
        self._model_folder = model_folder

    def set_up(self) -> None:
        """What an installation makes once, and the fleet status API."""
        self._world.edgewright("setup", "--model", str(self._model_folder))
        self._world.start_api()
        self._note(f"fleet page: {self._world.api_url}")

    def train(self, lake: DataLake) -> str:
        """Train on what the lake holds; returns the training job's name."""
        job = self._world.edgewright("train", str(self._model_folder), "--data", lake.uri)
        metrics: Mapping[str, float] = job["metrics"]
        self._note(
            f"held-out log loss {metrics['validation:log_loss']:.3f} "
            f"(persistence {metrics['persistence:log_loss']:.3f}, majority {metrics['majority:log_loss']:.3f}), "
            f"AUC {metrics['validation:auc']:.3f}"
        )
        return str(job["job_name"])

    def compile(self, training_job: str) -> Path:
        """Compile the job's model for every platform; returns a local copy of the compilation."""
        folder = self._world.folder / "compilation"
        self._world.edgewright("compile", training_job, "--to", str(folder))
        for variant in json.loads((folder / "compilation.json").read_bytes())["variants"]:
            self._note(f"{variant['platform']}: {variant['precision']}. {variant['reason']}".rstrip())
        return folder

    def publish(self, compilation: Path, version: str) -> None:
        """Sign and publish a compilation as a component version."""
        published = self._world.edgewright("publish", str(compilation), "--version", version)
        for bundle in published["bundles"]:
            self._note(f"{bundle['platform']}: {bundle['precision']}, signed, digest {bundle['digest'][:12]}")

    def publish_runtime(self, version: str) -> None:
        """Publish the runtime for this machine's platform and Python."""
        platform, python = self._world.platform, self._world.python_version
        self._world.edgewright("publish-runtime", "--version", version, "--platform", platform, "--python", python)
        self._note(f"runtime {version} with its wheels for {platform}, Python {python}")

    def start_devices(self) -> Mapping[str, Path]:
        """Provision and start every core device; returns the runtimes' work paths by station."""
        return {
            station: self._world.start_device(thing_of(station), [ring])
            for ring, stations in RINGS.items()
            for station in stations
        }

    def deploy(self, version: str, *rings: str, configure: bool = False) -> None:
        """Deploy to rings and wait until their devices themselves say that they serve the version."""
        targets = [word for ring in rings for word in ("--to", ring)]
        extra = ["--runtime-config", json.dumps(RUNTIME_CONFIGURATION)] if configure else []
        self._world.edgewright("deploy", MODEL, version, *targets, "--wait", *extra)
        for ring in rings:
            for station in RINGS[ring]:
                self._wait(
                    partial(self._serves, station, version),
                    f"{thing_of(station)} to report that it serves {MODEL} {version}",
                )

    def serving(self, station: str) -> str:
        """The version that a station's device last reported to serve, as the API tells; empty if none."""
        device = self._world.api(f"/v1/devices/{thing_of(station)}", missing={"models": []})
        return next((str(model["version"]) for model in device["models"] if model["model_name"] == MODEL), "")

    def watch(self, replay: Replay, period: Period, judged_count: int) -> bool:
        """Replay a period, close its windows, and wait until each station's is judged; returns whether to retrain."""
        replay.play_until(period.end)
        replay.flush()
        newest = [
            self._wait(
                partial(self._judgement, station, judged_count),
                f"{thing_of(station)}'s window of {period.label} to be judged",
            )
            for station in replay.works
        ]
        for decision in newest:
            self._summary.drift.append(
                DriftOutcome(decision["thing_name"], period.label, decision["action"], decision["sentence"])
            )
        return any(decision["action"] == "retrain" for decision in newest)

    def wait_for_retraining(self, version: str) -> None:
        """Wait until the state machine that the drift event started has published the next version."""
        retraining = Retraining(self._world.environment)
        execution = self._wait(retraining.ended, "the retraining to end", RETRAIN_TIMEOUT_S)
        if execution["status"] != "SUCCEEDED":
            raise StoryError(
                f"the retraining ended {execution['status']}: {execution.get('error', '')} {execution.get('cause', '')}"
            )
        self._summary.retrain = retraining.outcome(version)

    def refuse(self, compilation: Path, version: str, ring: str) -> None:
        """Publish and deploy a bad version, and see it refused on the device, the old one serving on."""
        sabotaged = with_false_golden_answers(compilation, self._world.folder / "sabotaged")
        self._world.edgewright("publish", str(sabotaged), "--version", version)
        before = {station: self.serving(station) for station in RINGS[ring]}
        try:
            self._world.edgewright("deploy", MODEL, version, "--to", ring, "--wait")
        except CommandFailedError as failed:
            if failed.exit_code != 1:
                raise
        else:
            raise StoryError(f"{version} was accepted, although its golden answers are false")
        for station, old_version in before.items():
            event = self._wait(partial(self._refusal, station, version), f"{thing_of(station)} to report its refusal")
            self._summary.refused.append(Refusal(version, thing_of(station), event["sentence"]))
            self._note(event["sentence"])
            if self.serving(station) != old_version:
                raise StoryError(f"{thing_of(station)} no longer serves {old_version} after refusing {version}")

    def conclude(self, replay: Replay) -> None:
        """Note what every device serves at the end, and who answered."""
        self._summary.predictions = replay.predictions
        for station, work in replay.works.items():
            served = next(model.active for model in admin.status(work).models if model.active.name == MODEL)
            process_ids = tuple(sorted(replay.process_ids[station]))
            self._summary.devices.append(DeviceOutcome(thing_of(station), process_ids, served.name, served.version))

    def _serves(self, station: str, version: str) -> bool:
        return self.serving(station) == version

    def _judgement(self, station: str, judged_count: int) -> Mapping[str, Any] | None:
        """The station's newest decision, once it has that many."""
        decisions = self._world.api(f"/v1/drift?thing_name={thing_of(station)}&limit={PAGE}")["items"]
        return decisions[0] if len(decisions) >= judged_count else None

    def _refusal(self, station: str, version: str) -> Mapping[str, Any] | None:
        events = self._world.api(f"/v1/events?thing_name={thing_of(station)}&limit={PAGE}")["items"]
        return next((event for event in events if (event["outcome"], event["version"]) == ("refused", version)), None)

    def _wait(self, condition: Callable[[], Any], what: str, timeout_s: float = REPORT_TIMEOUT_S) -> Any:  # noqa: ANN401 - what it found
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := condition():
                return found
            self._world.check()
            time.sleep(POLL_S)
        raise StoryError(f"waited {timeout_s:g} s in vain for {what}", f"Look into {self._world.logs}.")


def thing_of(station: str) -> str:
    """The core device at a station."""
    return f"station-{station.lower()}"
