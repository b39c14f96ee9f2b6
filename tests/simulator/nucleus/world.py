"""For tests: a core device over in-memory ports, with real processes and an IoT Jobs service of a few lines."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.nucleus.core_device import CoreDevice, DeviceOptions
from simulator.nucleus.ports import InMemoryComponents, InMemoryMessages
from simulator.nucleus.profile import JAVA, LITE, Profile


def hurried(profile: Profile) -> Profile:
    """The same nucleus with short waits; its counts and rules are untouched."""
    return replace(
        profile, restart_delay_s=0.05, settle_s=0.05, ready_timeout_s=5.0, stop_grace_s=2.0, reply_timeout_s=1.0,
        retry_s=0.05, daemon_restart_s=0.05,
    )  # fmt: skip


FAST, FAST_JAVA = hurried(LITE), hurried(JAVA)

WAIT_S = 15.0


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Poll a condition, bounded."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


class World:
    """One device, its cloud and its component source, all visible."""

    def __init__(self, root: Path, profile: Profile = FAST) -> None:
        self.root = root
        self.profile = profile
        self.cloud = InMemoryMessages()
        self.source = InMemoryComponents(groups=("ring",))
        self.device = self.make_device()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[str, str]] = []
        self.answers_reports = True
        prefix = "$aws/things/station/jobs"
        self.cloud.answers[f"{prefix}/$next/namespace-aws-gg-deployment/get"] = lambda *_: self.offer()
        self.cloud.answers[f"{prefix}/+/namespace-aws-gg-deployment/update"] = self.take_report
        self.number = 0

    def make_device(self) -> CoreDevice:
        return CoreDevice(DeviceOptions("station", self.root, self.profile), self.cloud, self.source)

    def publish(
        self,
        name: str,
        version: str,
        steps: Mapping[str, Any],
        *,
        soft: Mapping[str, str] | None = None,
        hard: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        unzip: bool = False,
    ) -> None:
        """Make a component version available in the cloud."""
        artifacts = []
        for file_name, data in (files or {}).items():
            uri = f"s3://bucket/{name}/{version}/{file_name}"
            self.source.artifacts[uri] = data
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            artifacts.append(
                {"Uri": uri, "Digest": digest, "Algorithm": "SHA-256", "Unarchive": "ZIP" if unzip else "NONE"}
            )
        kinds = [(soft or {}, "SOFT"), (hard or {}, "HARD")]
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentConfiguration": {"DefaultConfiguration": dict(defaults or {})},
            "ComponentDependencies": {
                other: {"VersionRequirement": requirement, "DependencyType": kind}
                for dependencies, kind in kinds
                for other, requirement in dependencies.items()
            },
            "Manifests": [
                {"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": dict(steps), "Artifacts": artifacts}
            ],
        }
        self.source.recipes[name, version] = json.dumps(recipe).encode()

    def offer(self) -> None:
        """Answer what the next job is."""
        open_jobs = [job for job in self.jobs.values() if job["status"] in {"QUEUED", "IN_PROGRESS"}]
        payload = {"execution": open_jobs[0]} if open_jobs else {}
        topic = "$aws/things/station/jobs/$next/namespace-aws-gg-deployment/get/accepted"
        self.cloud.deliver(topic, json.dumps(payload).encode())

    def take_report(self, topic: str, payload: bytes) -> None:
        if not self.answers_reports:
            return
        job_id, status = topic.split("/")[4], json.loads(payload)["status"]
        self.reports.append((job_id, status))
        self.jobs[job_id]["status"] = status
        self.cloud.deliver(f"{topic}/accepted", b"{}")

    def create_job(
        self, components: Mapping[str, Any], target: str = "thinggroup/ring", policy: str = "ROLLBACK"
    ) -> str:
        """Queue a deployment and announce it, if the device can hear."""
        self.number += 1
        job_id = f"job-{self.number}"
        document = {
            "deploymentId": f"deployment-{self.number}",
            "configurationArn": f"arn:aws:greengrass:us-east-1:123456789012:configuration:{target}:{self.number}",
            "components": {
                name: {"version": wanted} if isinstance(wanted, str) else wanted for name, wanted in components.items()
            },
            "creationTimestamp": self.number,
            "failureHandlingPolicy": policy,
        }
        self.jobs[job_id] = {"jobId": job_id, "status": "QUEUED", "jobDocument": document}
        if self.cloud.connected:
            execution = {"execution": self.jobs[job_id]}
            summary = {"jobs": {"QUEUED": [{"jobId": job_id}]}}
            for name, message in (("notify-next", execution), ("notify", summary)):  # Lite hears one, Java the other
                topic = f"$aws/things/station/jobs/{name}-namespace-aws-gg-deployment"
                self.cloud.deliver(topic, json.dumps(message).encode())
        return job_id

    async def deploy(self, components: Mapping[str, Any], target: str = "thinggroup/ring") -> str:
        """Queue a deployment and wait for its status."""
        job_id = self.create_job(components, target)
        await until(lambda: self.jobs[job_id]["status"] in {"SUCCEEDED", "FAILED"}, job_id)
        return str(self.jobs[job_id]["status"])

    def component(self, name: str) -> Mapping[str, Any]:
        return self.device.status()["components"][name]  # type: ignore[no-any-return]

    def process_id(self, name: str) -> int | None:
        return self.device.supervisor.process_id(name)

    def log(self, name: str) -> str:
        return self.device.places.log(name).read_text()

    def statuses(self) -> list[dict[str, Any]]:
        """Fleet-status messages so far."""
        return [json.loads(p.payload) for p in self.cloud.published if p.topic.endswith("/greengrassv2/health/json")]


@asynccontextmanager
async def started(world: World) -> AsyncIterator[World]:
    await world.device.start()
    try:
        yield world
    finally:
        if world.device.running:
            await world.device.stop()
