"""Greengrass and IoT as the reconciler sees them: a :class:`~cloud.fleet.desired.ControlPlane`.

A deployment's name and components are fixed when it is made, so each is read once. Everything is paged. One thread.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.errors import InvalidInputError, NotFoundError
from cloud.fleet.desired import DeploymentRecord, parse_target
from cloud.publishing.configured import digests_in
from cloud.publishing.deployment import NONCE_KEY
from cloud.publishing.refused import refused_in

CARRIED = ("targetArn", "deploymentName", "deploymentPolicies", "iotJobConfiguration")
RESERVED_TAGS = "aws:"
"""AWS's own, such as CloudFormation's: a request that repeats one is refused."""


class GreengrassControlPlane:
    """The real one, and the local cloud's."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._greengrass = session.client("greengrassv2")
        self._iot = session.client("iot")
        self._deployments: dict[str, Mapping[str, Any]] = {}

    def latest_deployments(self) -> Iterator[DeploymentRecord]:
        """See the port."""
        with translated("listing deployments"):
            pages = self._greengrass.get_paginator("list_deployments").paginate(historyFilter="LATEST_ONLY")
            entries = [entry for page in pages for entry in page["deployments"]]
        for entry in entries:
            details = self._deployment(entry["deploymentId"])
            components = details.get("components") or {}
            yield DeploymentRecord(
                deployment_id=entry["deploymentId"],
                target_arn=entry["targetArn"],
                name=entry.get("deploymentName") or "",
                components={name: one["componentVersion"] for name, one in components.items()},
                status=entry["deploymentStatus"],
                created_at=entry["creationTimestamp"],
                configured=digests_in(details.get("tags") or {}),
                refused=refused_in(details.get("tags") or {}),
            )

    def members(self, target_arn: str) -> Iterable[str]:
        """See the port."""
        kind, name = parse_target(target_arn)
        if kind == "thing":
            return (name,)
        if kind != "thinggroup":
            return ()
        try:
            with translated(f"listing the things of group {name}"):
                pages = self._iot.get_paginator("list_things_in_thing_group").paginate(
                    thingGroupName=name, recursive=True
                )
                return tuple(thing for page in pages for thing in page["things"])
        except NotFoundError:
            return ()

    def installed(self, thing_name: str) -> Mapping[str, str]:
        """See the port."""
        try:
            with translated(f"listing the components of {thing_name}"):
                pages = self._greengrass.get_paginator("list_installed_components").paginate(
                    coreDeviceThingName=thing_name
                )
                return {
                    one["componentName"]: one["componentVersion"]
                    for page in pages
                    for one in page["installedComponents"]
                }
        except NotFoundError:
            return {}

    def redeploy(self, deployment_id: str, component_name: str, nonce: str) -> str | None:
        """See the port. The client token makes a request that was answered but not heard safe to send again.

        Raises:
            InvalidInputError: the deployment does not hold that component.
        """
        details = self._deployment(deployment_id)
        with translated(f"reading deployment {deployment_id}"):
            now = self._greengrass.get_deployment(deploymentId=deployment_id)  # not what was read once: it may be past
        if not now.get("isLatestForTarget", True):
            return None
        request = redeployment(details, component_name, nonce)
        with translated(f"deploying {details['targetArn']} again"):
            created = self._greengrass.create_deployment(**request, clientToken=f"{deployment_id[:32]}-{nonce}"[:64])
        return str(created["deploymentId"])

    def _deployment(self, deployment_id: str) -> Mapping[str, Any]:
        if deployment_id not in self._deployments:
            with translated(f"reading deployment {deployment_id}"):
                self._deployments[deployment_id] = self._greengrass.get_deployment(deploymentId=deployment_id)
        return self._deployments[deployment_id]


def redeployment(details: Mapping[str, Any], component_name: str, nonce: str) -> dict[str, Any]:
    """CreateDeployment's request for the same deployment with a nonce merged into one component. Pure.

    Other components' configuration updates are left out: devices keep what they merged, and Greengrass Lite would
    restart each component whose update is repeated (measured).

    Raises:
        InvalidInputError: the deployment does not hold that component.
    """
    components = details.get("components") or {}
    if component_name not in components:
        raise InvalidInputError(f"deployment {details.get('deploymentId')} does not hold {component_name}")
    kept = {
        name: {key: value for key, value in one.items() if key != "configurationUpdate"}
        for name, one in components.items()
    }
    kept[component_name]["configurationUpdate"] = {"merge": json.dumps({NONCE_KEY: nonce})}
    tags = {key: value for key, value in (details.get("tags") or {}).items() if not key.startswith(RESERVED_TAGS)}
    carried = {key: details[key] for key in CARRIED if details.get(key)}
    return {**carried, "components": kept, **({"tags": tags} if tags else {})}
