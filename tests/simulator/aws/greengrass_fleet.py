"""For tests: core devices that speak over the bus as nuclei do, in thing groups, with a component to deploy."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.aws.bus import InMemoryBus

Client = Callable[[str], Any]
ACCOUNT = "us-east-1:123456789012"
NAMESPACE = "namespace-aws-gg-deployment"


class Core:
    """A core device's messages: fleet status, jobs in Greengrass's namespace, the deployment shadow."""

    def __init__(self, bus: InMemoryBus, name: str) -> None:
        self.name, self.bus = name, bus
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._clock_ms = 1_700_000_000_000
        bus.subscribe(f"$aws/things/{name}/#", self._hear)

    def _hear(self, topic: str, payload: bytes) -> None:
        if not topic.endswith(("/get", "/update", "/json")):  # not what it says itself
            self.heard.append((topic.removeprefix(f"$aws/things/{self.name}/"), json.loads(payload)))

    def report(self, *components: dict[str, Any], **more: Any) -> None:
        self._clock_ms += 1000
        body = {
            "ggcVersion": "2.6.0", "platform": "linux", "architecture": "x86_64", "runtime": "aws_nucleus_lite",
            "thing": self.name, "sequenceNumber": 1, "timestamp": self._clock_ms, "messageType": "COMPLETE",
            "trigger": "CADENCE", "overallDeviceStatus": "HEALTHY", "components": list(components), **more,
        }  # fmt: skip
        self.bus.publish(f"$aws/things/{self.name}/greengrassv2/health/json", json.dumps(body).encode())

    def next_job(self) -> dict[str, Any]:
        self.bus.publish(f"$aws/things/{self.name}/jobs/$next/{NAMESPACE}/get", b"{}")
        found: dict[str, Any] = self.heard[-1][1]["execution"]
        return found

    def finish(self, status: str, *before: str) -> dict[str, Any]:
        """Work off the next job; returns its document."""
        job = self.next_job()
        for each in (*before, status):
            self.bus.publish(
                f"$aws/things/{self.name}/jobs/{job['jobId']}/{NAMESPACE}/update",
                json.dumps({"status": each, "clientToken": "jobs-nucleus-lite"}).encode(),
            )
        document: dict[str, Any] = job["jobDocument"]
        return document


class Fleet:
    """Two core devices in group ``ring``, one of them in ``all`` too, and a component to deploy."""

    def __init__(self, client: Client, bus: InMemoryBus) -> None:
        self.client, self.prefix = client, uuid.uuid4().hex[:8]
        self.component = f"com.example.{self.prefix}"
        for version in ("1.0.0", "2.0.0"):
            recipe = {
                "RecipeFormatVersion": "2020-01-25", "ComponentName": self.component, "ComponentVersion": version,
                "Manifests": [{"Lifecycle": {"run": "sleep 1"}}],
            }  # fmt: skip
            client("greengrassv2").create_component_version(inlineRecipe=json.dumps(recipe).encode())
        for group in ("ring", "all"):
            client("iot").create_thing_group(thingGroupName=f"{self.prefix}-{group}")
        self.one, self.two = (self._thing(bus, name) for name in ("one", "two"))
        self.join("all", self.one)

    def _thing(self, bus: InMemoryBus, name: str) -> Core:
        core = Core(bus, f"{self.prefix}-{name}")
        self.client("iot").create_thing(thingName=core.name)
        self.join("ring", core)
        return core

    def join(self, group: str, core: Core) -> None:
        self.client("iot").add_thing_to_thing_group(thingName=core.name, thingGroupName=f"{self.prefix}-{group}")

    def arn(self, target: str, kind: str = "thinggroup") -> str:
        return f"arn:aws:iot:{ACCOUNT}:{kind}/{self.prefix}-{target}"

    def deploy(self, target: str = "ring", kind: str = "thinggroup", version: str = "1.0.0", **more: Any) -> str:
        answer = self.client("greengrassv2").create_deployment(
            targetArn=self.arn(target, kind), components={self.component: {"componentVersion": version}}, **more
        )
        return str(answer["deploymentId"])

    def get(self, deployment_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client("greengrassv2").get_deployment(deploymentId=deployment_id)
        return answer

    def effective(self, core: Core) -> dict[str, str]:
        found = self.client("greengrassv2").list_effective_deployments(coreDeviceThingName=core.name)
        return {entry["deploymentId"]: entry["coreDeviceExecutionStatus"] for entry in found["effectiveDeployments"]}


def error_of(action: Callable[[], object]) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        action()
    return {**caught.value.response["Error"], "status": caught.value.response["ResponseMetadata"]["HTTPStatusCode"]}
