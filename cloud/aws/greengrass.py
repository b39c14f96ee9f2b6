"""Greengrass V2's control plane: component versions, deployments and what devices made of them.

A component version says by a tag which recipe it was made from: Greengrass adds digests and defaults to a recipe, so
that the one it returns cannot be compared with the one it was given.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.errors import NotFoundError
from cloud.publishing.ports import ComponentVersion
from cloud.publishing.refused import Past, past_of

JOB_COUNTS = {
    "SUCCEEDED": "numberOfSucceededThings",
    "FAILED": "numberOfFailedThings",
    "REJECTED": "numberOfRejectedThings",
    "IN_PROGRESS": "numberOfInProgressThings",
}
RECIPE_TAG = "edgewright:recipe-sha256"


class Components:
    """Component versions; a :class:`~cloud.publishing.ports.ComponentCatalog`."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("greengrassv2")
        self._arns = Arns(session)

    def find(self, component_name: str, version: str) -> ComponentVersion | None:
        """See the port."""
        arn = self._arns.component(component_name, version)
        try:
            with translated(f"looking for {component_name} {version}"):
                answer = self._client.describe_component(arn=arn)
        except NotFoundError:
            return None
        status = answer["status"]
        errors = "; ".join(f"{name}: {text}" for name, text in sorted(status.get("errors", {}).items()))
        message = " ".join(part for part in (status.get("message", ""), errors) if part)
        digest = answer.get("tags", {}).get(RECIPE_TAG, "")
        return ComponentVersion(answer["arn"], status["componentState"], message, digest)

    def create(self, recipe: bytes, recipe_sha256: str) -> None:
        """See the port. The client token makes a request that was answered but not heard safe to send again."""
        token = hashlib.sha256(recipe).hexdigest()[:64]
        with translated("creating the component version"):
            self._client.create_component_version(
                inlineRecipe=recipe, tags={RECIPE_TAG: recipe_sha256}, clientToken=token
            )

    def versions(self, component_name: str) -> tuple[str, ...]:
        """See the port."""
        arn = self._arns.component(component_name)
        try:
            with translated(f"listing the versions of {component_name}"):
                pages = self._client.get_paginator("list_component_versions").paginate(arn=arn)
                return tuple(entry["componentVersion"] for page in pages for entry in page["componentVersions"])
        except NotFoundError:
            return ()


class Deployments:
    """Deployments of a thing group or a thing, and each device's answer."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("greengrassv2")
        self._iot = session.client("iot")

    def latest(self, target_arn: str) -> Mapping[str, Any] | None:
        """The target's current deployment, as GetDeployment answers it; ``None`` if it never had one."""
        with translated(f"looking for the deployment of {target_arn}"):
            pages = self._client.get_paginator("list_deployments")
            latest = pages.paginate(targetArn=target_arn, historyFilter="LATEST_ONLY")
            found = [entry for page in latest for entry in page["deployments"]]  # a first page may be empty
        if not found:
            return None
        deployment_id = found[0]["deploymentId"]
        with translated(f"reading deployment {deployment_id}"):
            deployment: Mapping[str, Any] = self._client.get_deployment(deploymentId=deployment_id)
        return deployment

    def history(self, target_arn: str) -> Iterator[Past]:
        """See the port. A deployment whose job is forgotten by now counts as one that no device has begun."""
        with translated(f"listing the deployments of {target_arn}"):
            pages = self._client.get_paginator("list_deployments").paginate(targetArn=target_arn, historyFilter="ALL")
            entries = [entry for page in pages for entry in page["deployments"]]
        for entry in sorted(entries, key=lambda one: one["creationTimestamp"], reverse=True):
            deployment_id = entry["deploymentId"]
            with translated(f"reading deployment {deployment_id}"):
                details = self._client.get_deployment(deploymentId=deployment_id)
            yield past_of(deployment_id, details.get("components") or {}, self._statuses(details))

    def _statuses(self, details: Mapping[str, Any]) -> Iterable[str]:
        """What devices say: of a group counted by its IoT Job, of a thing by itself."""
        if not details.get("iotJobId"):
            thing_name = details["targetArn"].rpartition("/")[2]
            said = self.effective(thing_name)
            return [one["coreDeviceExecutionStatus"] for one in said if one["deploymentId"] == details["deploymentId"]]
        try:
            with translated(f"reading the job of deployment {details['deploymentId']}"):
                job = self._iot.describe_job(jobId=details["iotJobId"])["job"]
        except NotFoundError:
            return ()
        counts = job.get("jobProcessDetails") or {}
        return [status for status, field in JOB_COUNTS.items() for _ in range(counts.get(field) or 0)]

    def create(self, request: Mapping[str, Any]) -> str:
        """Make a deployment from CreateDeployment's own request; returns its id."""
        with translated(f"creating a deployment of {request['targetArn']}"):
            deployment_id: str = self._client.create_deployment(**request)["deploymentId"]
        return deployment_id

    def is_latest(self, deployment_id: str) -> bool:
        """See the port."""
        with translated(f"reading deployment {deployment_id}"):
            return bool(self._client.get_deployment(deploymentId=deployment_id).get("isLatestForTarget", True))

    def effective(self, thing_name: str) -> Iterator[Mapping[str, Any]]:
        """What a device says about the deployments it knows; nothing for a thing that is no core device yet."""
        try:
            with translated(f"reading the deployments of {thing_name}"):
                pages = self._client.get_paginator("list_effective_deployments")
                for page in pages.paginate(coreDeviceThingName=thing_name):
                    yield from page["effectiveDeployments"]
        except NotFoundError:
            return

    def nucleus(self, thing_name: str) -> str | None:
        """``aws_nucleus_classic`` or ``aws_nucleus_lite``; ``None`` for a thing that is no core device (yet)."""
        try:
            with translated(f"reading core device {thing_name}"):
                answer = self._client.get_core_device(coreDeviceThingName=thing_name)
        except NotFoundError:
            return None
        runtime: str | None = answer.get("runtime")
        return runtime


class Arns:
    """Component ARNs of this account and region."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._session = session
        self._partition: str = session.client("greengrassv2").meta.partition

    def component(self, name: str, version: str | None = None) -> str:
        """The ARN of a component, or of one of its versions."""
        place = f"arn:{self._partition}:greengrass:{self._session.region}:{self._session.account()}"
        arn = f"{place}:components:{name}"
        return f"{arn}:versions:{version}" if version else arn
