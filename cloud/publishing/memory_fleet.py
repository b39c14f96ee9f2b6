"""The ports of deploying in memory, as plain objects: things, groups, and deployments whose devices a test speaks for.

Not thread-safe.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.publishing.deploy import Target
from cloud.publishing.refused import Past, past_of

IOT = "arn:aws:iot:us-east-1:123456789012:"


@dataclass(slots=True)
class MemoryThings:
    """A :class:`~cloud.publishing.deploy.ThingDirectory`; ``groups`` is name to members."""

    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def group_arn(self, name: str) -> str | None:
        """See the port."""
        return f"{IOT}thinggroup/{name}" if name in self.groups else None

    def thing_arn(self, name: str) -> str | None:
        """See the port."""
        return f"{IOT}thing/{name}" if any(name in members for members in self.groups.values()) else None

    def members(self, group_name: str) -> tuple[str, ...]:
        """See the port."""
        return self.groups[group_name]

    def group_names(self) -> tuple[str, ...]:
        """See the port."""
        return tuple(self.groups)


@dataclass(slots=True)
class MemoryServing:
    """A :class:`~cloud.publishing.deploy.ServingSource`; ``known`` is (target, component, version)."""

    known: set[tuple[str, str, str]] = field(default_factory=set)

    def serves(self, target: Target, component_name: str, version: str) -> bool | None:
        """See the port."""
        return (target.name, component_name, version) in self.known


@dataclass(slots=True)
class MemoryDeployments:
    """A :class:`~cloud.publishing.deploy.DeploymentService`.

    ``created`` are the requests in order, each one's id its index; ``said`` is thing name to what that device says about
    a deployment id; ``nuclei`` is thing name to nucleus.
    """

    created: list[Mapping[str, Any]] = field(default_factory=list)
    said: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    nuclei: dict[str, str] = field(default_factory=dict)

    def latest(self, target_arn: str) -> Mapping[str, Any] | None:
        """See the port."""
        for index in range(len(self.created) - 1, -1, -1):
            if self.created[index]["targetArn"] == target_arn:
                return {**self.created[index], "deploymentId": str(index)}
        return None

    def history(self, target_arn: str) -> Iterator[Past]:
        """See the port."""
        for index in range(len(self.created) - 1, -1, -1):
            request = self.created[index]
            if request["targetArn"] == target_arn:
                statuses = [said[str(index)][0] for said in self.said.values() if str(index) in said]
                yield past_of(str(index), request["components"], statuses)

    def create(self, request: Mapping[str, Any]) -> str:
        """See the port."""
        self.created.append(request)
        return str(len(self.created) - 1)

    def is_latest(self, deployment_id: str) -> bool:
        """See the port."""
        latest = self.latest(self.created[int(deployment_id)]["targetArn"])
        return latest is not None and latest["deploymentId"] == deployment_id

    def effective(self, thing_name: str) -> Iterator[Mapping[str, Any]]:
        """See the port."""
        for deployment_id, (status, reason) in self.said.get(thing_name, {}).items():
            yield {"deploymentId": deployment_id, "coreDeviceExecutionStatus": status, "reason": reason}

    def nucleus(self, thing_name: str) -> str | None:
        """See the port."""
        return self.nuclei.get(thing_name)
