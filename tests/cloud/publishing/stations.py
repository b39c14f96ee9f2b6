"""A fleet in memory that tests deploy to: two thing groups, and two models with their versions published."""

import json
from collections.abc import Mapping
from typing import Any

from cloud.publishing.deploy import DeployPorts
from cloud.publishing.memory import MemoryComponents
from cloud.publishing.memory_fleet import MemoryDeployments, MemoryThings

RUNTIME = "com.edgewright.Runtime"
WEATHER = "com.edgewright.model.Weather"
OTHER = "com.edgewright.model.Other"


def published(*versions: tuple[str, str]) -> MemoryComponents:
    catalog = MemoryComponents()
    for name, version in versions:
        catalog.create(json.dumps({"ComponentName": name, "ComponentVersion": version}).encode(), "0")
    return catalog


class FakeClock:
    """Each reading is a second later."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def stations() -> DeployPorts:
    """Nothing is deployed yet."""
    things = MemoryThings({"stations": ("ewr", "jfk"), "canary": ("lga",)})
    models = [(name, version) for name in (WEATHER, OTHER) for version in ("1.0.0", "1.1.0")]
    catalog = published((RUNTIME, "0.1.0"), (RUNTIME, "0.2.0"), *models)
    return DeployPorts(things, MemoryDeployments(), catalog, monotonic=FakeClock(), sleep=lambda seconds: None)


def requests(ports: DeployPorts) -> list[Mapping[str, Any]]:
    assert isinstance(ports.deployments, MemoryDeployments)
    return ports.deployments.created


def say(ports: DeployPorts, thing: str, deployment_id: str, status: str, reason: str = "") -> None:
    assert isinstance(ports.deployments, MemoryDeployments)
    ports.deployments.said.setdefault(thing, {})[deployment_id] = (status, reason)
