"""Greengrass deployments: revisions per target, what devices are sent, how a deployment and each device stand.

A thing group's deployment is a continuous IoT Job in the namespace ``aws-gg-deployment``; a new revision for the same
target cancels the old one's job for devices that have not started it. A single thing's is its shadow
``AWSManagedGreengrassV2Deployment`` (Java nuclei only: Greengrass Lite never sees it).

This module is the state and the pure decisions; :mod:`simulator.aws.greengrass_v2` talks to jobs, bus and callers.
Not thread-safe: its owner locks.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.greengrass_components import not_found
from simulator.aws.iot_things import kind_and_name

JOB_DOCUMENT_BYTES_MAX = 32_768
"""IoT Jobs' own limit. Lite receives less than 4,096; AWS sends larger ones by another way, which is not made real."""

UPDATE_TIMEOUT_S = 60
VALIDATION_TIMEOUT_S = 30

NOTIFIED_STATUSES = frozenset({"FAILED", "SUCCEEDED", "COMPLETED", "REJECTED", "CANCELED"})
"""Statuses of which EventBridge is told (Greengrass developer guide, "deployment health notifications")."""


@dataclass(slots=True)
class Deployment:
    """One revision for one target.

    Attributes:
        deployment_id: its id.
        target_arn: thing or thing group.
        revision: counts up per target, from 1.
        request: CreateDeployment's parameters.
        created_at: when it was made.
        job_id: the IoT Job that carries it; empty for a single thing.
        canceled: whether somebody cancelled it.
        superseded: whether a later revision took its place.
        tags: its tags.
    """

    deployment_id: str
    target_arn: str
    revision: int
    request: Mapping[str, Any]
    created_at: datetime
    job_id: str = ""
    canceled: bool = False
    superseded: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    def cancel(self) -> None:
        """Mark it cancelled.

        Raises:
            AwsError: ``ConflictException``: it is not active.
        """
        if self.canceled or self.superseded:
            raise AwsError(
                "ConflictException",
                f"deployment {self.deployment_id} is not active",
                {"resourceId": self.deployment_id, "resourceType": "DEPLOYMENT"},
                409,
            )
        self.canceled = True

    @property
    def configuration_arn(self) -> str:
        """What devices name in their reports."""
        kind, name = kind_and_name(self.target_arn)
        prefix = self.target_arn.replace(":iot:", ":greengrass:", 1).removesuffix(f":{kind}/{name}")
        return f"{prefix}:configuration:{kind}/{name}:{self.revision}"

    @property
    def thing_name(self) -> str:
        """The target, if it is a single thing."""
        kind, name = kind_and_name(self.target_arn)
        return name if kind == "thing" else ""


@dataclass(slots=True)
class Effective:
    """A deployment on one device.

    Attributes:
        deployment: which.
        thing_name: on which.
        status: ``coreDeviceExecutionStatus``.
        created_at: when the device was meant to get it.
        modified_at: when the status last changed.
        reason: the device's words, if any.
        details: ``errorStack`` and ``errorTypes``.
    """

    deployment: Deployment
    thing_name: str
    status: str
    created_at: datetime
    modified_at: datetime
    reason: str = ""
    details: Mapping[str, list[str]] = field(default_factory=dict)


class DeploymentBook:
    """All deployments and what is known of them on devices."""

    def __init__(self) -> None:
        """No deployment."""
        self._deployments: dict[str, Deployment] = {}
        self._by_target: dict[str, list[Deployment]] = {}
        self._by_job: dict[str, Deployment] = {}
        self._by_configuration: dict[str, Deployment] = {}
        self._on_things: dict[str, dict[str, Effective]] = {}
        self._tokens: dict[str, tuple[Mapping[str, Any], Deployment]] = {}

    def plan(self, request: Mapping[str, Any], now: datetime) -> Deployment:
        """The next revision for a target, not yet made: :meth:`add` makes it."""
        earlier = self.latest(request["targetArn"])
        revision = 1 if earlier is None else earlier.revision + 1
        tags = dict(request.get("tags", {}))
        planned = Deployment(str(uuid.uuid4()), request["targetArn"], revision, request, now, tags=tags)
        if not planned.thing_name:
            planned.job_id = str(uuid.uuid4())
        return planned

    def add(self, planned: Deployment) -> Deployment | None:
        """Make a planned deployment the latest of its target; returns the one whose place it takes."""
        earlier = self.latest(planned.target_arn)
        if earlier is not None:
            earlier.superseded = True
        self._deployments[planned.deployment_id] = planned
        self._by_target.setdefault(planned.target_arn, []).append(planned)
        self._by_configuration[planned.configuration_arn] = planned
        if planned.job_id:
            self._by_job[planned.job_id] = planned
        if planned.request.get("clientToken"):
            self._tokens[planned.request["clientToken"]] = (planned.request, planned)
        return earlier

    def repeated(self, request: Mapping[str, Any]) -> Deployment | None:
        """What the same request with the same client token made before.

        Raises:
            AwsError: ``ConflictException``: the token came with another request.
        """
        earlier_request, made = self._tokens.get(request.get("clientToken") or "", (None, None))
        if made is not None and earlier_request != request:
            raise AwsError(
                "ConflictException",
                f"clientToken {request['clientToken']} was used with another request",
                {"resourceId": made.deployment_id, "resourceType": "DEPLOYMENT"},
                409,
            )
        return made

    def get(self, deployment_id: str) -> Deployment:
        """A deployment.

        Raises:
            AwsError: ``ResourceNotFoundException``.
        """
        if deployment_id not in self._deployments:
            raise not_found("DEPLOYMENT", deployment_id)
        return self._deployments[deployment_id]

    def all(self) -> list[Deployment]:
        """Every deployment, newest first."""
        return list(reversed(self._deployments.values()))

    def latest(self, target_arn: str) -> Deployment | None:
        """The newest revision of a target."""
        revisions = self._by_target.get(target_arn)
        return revisions[-1] if revisions else None

    def of_job(self, job_id: str) -> Deployment | None:
        """The deployment that an IoT Job carries."""
        return self._by_job.get(job_id)

    def of_configuration(self, configuration_arn: str) -> Deployment | None:
        """The deployment that a device names."""
        return self._by_configuration.get(configuration_arn)

    def delete(self, deployment_id: str) -> None:
        """Forget a deployment that is not active.

        Raises:
            AwsError: ``ResourceNotFoundException``, ``ConflictException``.
        """
        found = self.get(deployment_id)
        if not found.canceled and not found.superseded:
            raise AwsError(
                "ConflictException",
                f"deployment {deployment_id} is active; cancel it first",
                {"resourceId": deployment_id, "resourceType": "DEPLOYMENT"},
                409,
            )
        del self._deployments[deployment_id]
        self._by_target[found.target_arn].remove(found)
        self._by_job.pop(found.job_id, None)
        self._by_configuration.pop(found.configuration_arn, None)
        for effective in self._on_things.values():
            effective.pop(deployment_id, None)

    def note(self, deployment: Deployment, thing_name: str, status: str, now: datetime) -> Effective | None:
        """Record a device's status; returns the record if that is news."""
        on_thing = self._on_things.setdefault(thing_name, {})
        known = on_thing.get(deployment.deployment_id)
        if known is None:
            made = on_thing[deployment.deployment_id] = Effective(deployment, thing_name, status, now, now)
            return made
        if known.status == status:
            return None
        known.status, known.modified_at = status, now
        return known

    def explain(
        self, deployment: Deployment, thing_name: str, reason: str, details: Mapping[str, list[str]]
    ) -> Effective | None:
        """Record a device's words about a deployment it has; returns the record if they are news."""
        known = self._on_things.get(thing_name, {}).get(deployment.deployment_id)
        if known is None or (known.reason, known.details) == (reason, details):
            return None
        known.reason, known.details = reason, details
        return known

    def status_on(self, deployment: Deployment, thing_name: str) -> str | None:
        """How a deployment stands on a device; ``None`` if it was not sent there."""
        known = self._on_things.get(thing_name, {}).get(deployment.deployment_id)
        return None if known is None else known.status

    def on_device(self, thing_name: str) -> list[Effective]:
        """What a device was sent, last changed first."""
        found = self._on_things.get(thing_name, {}).values()
        return sorted(found, key=lambda each: each.modified_at, reverse=True)

    def status(self, deployment: Deployment, job_status: str | None) -> str:
        """``deploymentStatus``. A group's stays ACTIVE, since devices may join; a thing's ends with the thing.

        Args:
            deployment: which.
            job_status: how its IoT Job stands, if it has one.
        """
        if deployment.canceled or (job_status == "CANCELED" and not deployment.superseded):
            return "CANCELED"
        if deployment.superseded:
            return "INACTIVE"
        ended = {"COMPLETED": "COMPLETED", "FAILED": "FAILED", "REJECTED": "FAILED", "TIMED_OUT": "FAILED"}
        return ended.get(self.status_on(deployment, deployment.thing_name) or "", "ACTIVE")


def job_document(deployment: Deployment) -> str:
    """What devices receive, in the form that Greengrass nuclei read (fields as in the nucleus's Configuration model).

    Raises:
        NotRealError: larger than an IoT Job carries.
    """
    request = deployment.request
    policies = request.get("deploymentPolicies", {})
    update = policies.get("componentUpdatePolicy", {})
    validation = policies.get("configurationValidationPolicy", {})
    document = {
        "deploymentId": deployment.deployment_id,
        **({"deploymentName": request["deploymentName"]} if request.get("deploymentName") else {}),
        "configurationArn": deployment.configuration_arn,
        "creationTimestamp": int(deployment.created_at.timestamp() * 1000),
        "components": {name: _component(each) for name, each in request.get("components", {}).items()},
        "failureHandlingPolicy": policies.get("failureHandlingPolicy", "ROLLBACK"),
        "componentUpdatePolicy": {
            "timeout": update.get("timeoutInSeconds", UPDATE_TIMEOUT_S),
            "action": update.get("action", "NOTIFY_COMPONENTS"),
        },
        "configurationValidationPolicy": {"timeout": validation.get("timeoutInSeconds", VALIDATION_TIMEOUT_S)},
    }
    text = json.dumps(document, separators=(",", ":"))
    if len(text.encode()) > JOB_DOCUMENT_BYTES_MAX:
        raise NotRealError(
            f"a deployment of {len(text.encode())} bytes (more than an IoT Job's {JOB_DOCUMENT_BYTES_MAX})"
        )
    return text


def _component(given: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {"version": given["componentVersion"]}
    update = given.get("configurationUpdate")
    if update:
        document["configurationUpdate"] = {
            **({"merge": json.loads(update["merge"])} if "merge" in update else {}),
            **({"reset": update["reset"]} if "reset" in update else {}),
        }
    if given.get("runWith"):
        document["runWith"] = given["runWith"]
    return document
