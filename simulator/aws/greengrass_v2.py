"""The Greengrass V2 control plane, which moto lacks: deployments, core devices and tags; components beside it.

Components: :mod:`simulator.aws.greengrass_component_api`. What devices ask without signatures:
:mod:`simulator.aws.greengrass_data`. Everything else about Greengrass V2 answers 501.
"""

from collections.abc import Mapping
from typing import Any

from simulator.aws.clients import LocalClients
from simulator.aws.cloud import Cloud
from simulator.aws.errors import NotRealError
from simulator.aws.greengrass_component_api import ComponentApi
from simulator.aws.greengrass_components import ComponentCatalog, not_found
from simulator.aws.greengrass_deployments import Deployment, Effective
from simulator.aws.greengrass_devices import CoreDevice, Installed
from simulator.aws.greengrass_fleet import GreengrassFleet, check_merges
from simulator.aws.greengrass_shadow import DeploymentShadow
from simulator.aws.iot_jobs import IotJobs
from simulator.aws.iot_things import Things, arn_prefix, kind_and_name
from simulator.aws.operations import Call
from simulator.aws.paging import page
from simulator.aws.s3_objects import S3Objects


class GreengrassApi:
    """The handlers for deployments, core devices and tags."""

    def __init__(self, cloud: Cloud, catalog: ComponentCatalog, fleet: GreengrassFleet, things: Things) -> None:
        """Registers every operation."""
        self._cloud, self._catalog, self._fleet, self._things = cloud, catalog, fleet, things
        cloud.operations.serve(
            "greengrassv2",
            {
                "CreateDeployment": self.create_deployment,
                "GetDeployment": self.get_deployment,
                "ListDeployments": self.list_deployments,
                "CancelDeployment": self.cancel_deployment,
                "DeleteDeployment": self.delete_deployment,
                "ListCoreDevices": self.list_core_devices,
                "GetCoreDevice": self.get_core_device,
                "DeleteCoreDevice": self.delete_core_device,
                "ListInstalledComponents": self.list_installed_components,
                "ListEffectiveDeployments": self.list_effective_deployments,
                "TagResource": self.tag_resource,
                "UntagResource": self.untag_resource,
                "ListTagsForResource": self.list_tags_for_resource,
            },
        )

    def create_deployment(self, call: Call) -> Mapping[str, Any]:
        """CreateDeployment for a thing group or a thing; components must exist and merges must be JSON objects."""
        given = call.parameters
        if given.get("iotJobConfiguration", {}).get("jobExecutionsRolloutConfig"):
            raise NotRealError("greengrassv2:CreateDeployment with jobExecutionsRolloutConfig")
        if given.get("parentTargetArn"):
            raise NotRealError("greengrassv2:CreateDeployment with parentTargetArn (a subdeployment)")
        self._require_target(given["targetArn"])
        components = given.get("components", {})
        for name, component in components.items():
            if self._catalog.find(name, component["componentVersion"]) is None:
                raise not_found("COMPONENT_VERSION", f"{name} {component['componentVersion']}")
        check_merges(components)
        deployment = self._fleet.deploy(given)
        return {"deploymentId": deployment.deployment_id, **self._job(deployment)}

    def _require_target(self, target_arn: str) -> None:
        kind, name = kind_and_name(target_arn)
        known = self._things.has(name) if kind == "thing" else self._things.group(name) is not None
        if not known or not target_arn.startswith(f"{arn_prefix(self._cloud)}:"):
            raise not_found("TARGET", target_arn)

    def get_deployment(self, call: Call) -> Mapping[str, Any]:
        """GetDeployment."""
        with self._fleet.locked():
            deployment = self._fleet.deployments.get(call.parameters["deploymentId"])
        request = deployment.request
        given = ("components", "deploymentPolicies", "iotJobConfiguration")
        return {
            **self._summary(deployment),
            **self._job(deployment),
            **{name: request[name] for name in given if name in request},
            "tags": deployment.tags,
        }

    def list_deployments(self, call: Call) -> Mapping[str, Any]:
        """ListDeployments, newest first; only the latest of each target unless the whole history is asked for."""
        given = call.parameters
        with self._fleet.locked():
            found = [
                each
                for each in self._fleet.deployments.all()
                if given.get("targetArn") in {None, each.target_arn}
                and (given.get("historyFilter") == "ALL" or not each.superseded)
            ]
        return page("deployments", [self._summary(each) for each in found], given, "ValidationException")

    def cancel_deployment(self, call: Call) -> Mapping[str, Any]:
        """CancelDeployment: for devices that have not begun it."""
        self._fleet.cancel(call.parameters["deploymentId"])
        return {"message": "SUCCESS"}

    def delete_deployment(self, call: Call) -> None:
        """DeleteDeployment: of one that is not active."""
        with self._fleet.locked():
            self._fleet.deployments.delete(call.parameters["deploymentId"])

    def list_core_devices(self, call: Call) -> Mapping[str, Any]:
        """ListCoreDevices."""
        given = call.parameters
        group_name = given.get("thingGroupArn", "").rpartition("thinggroup/")[2]
        members = self._things.members(group_name) if group_name else None
        with self._fleet.locked():
            found = [
                _device(device)
                for device in self._fleet.devices.all()
                if given.get("status") in {None, _health(device)}
                and given.get("runtime") in {None, device.report.runtime}
                and (members is None or device.report.thing_name in members)
            ]
        return page("coreDevices", found, given, "ValidationException")

    def get_core_device(self, call: Call) -> Mapping[str, Any]:
        """GetCoreDevice."""
        device = self._device(call)
        return {**_device(device), "coreVersion": device.report.core_version, "tags": device.tags}

    def delete_core_device(self, call: Call) -> None:
        """DeleteCoreDevice."""
        self._device(call)
        with self._fleet.locked():
            self._fleet.devices.delete(call.parameters["coreDeviceThingName"])

    def list_installed_components(self, call: Call) -> Mapping[str, Any]:
        """ListInstalledComponents: only root components unless all are asked for, as at AWS."""
        device = self._device(call)
        every = call.parameters.get("topologyFilter") == "ALL"
        installed = sorted(device.installed.values(), key=lambda each: each.name)
        entries = [self._installed(each) for each in installed if every or each.is_root]
        return page("installedComponents", entries, call.parameters, "ValidationException")

    def list_effective_deployments(self, call: Call) -> Mapping[str, Any]:
        """ListEffectiveDeployments of a core device, last changed first."""
        self._device(call)
        with self._fleet.locked():
            found = self._fleet.deployments.on_device(call.parameters["coreDeviceThingName"])
            entries = [self._effective(each) for each in found]
        return page("effectiveDeployments", entries, call.parameters, "ValidationException")

    def tag_resource(self, call: Call) -> Mapping[str, Any]:
        """TagResource."""
        self._tags(call.parameters["resourceArn"]).update(call.parameters["tags"])
        return {}

    def untag_resource(self, call: Call) -> Mapping[str, Any]:
        """UntagResource."""
        tags = self._tags(call.parameters["resourceArn"])
        for key in call.parameters["tagKeys"]:
            tags.pop(key, None)
        return {}

    def list_tags_for_resource(self, call: Call) -> Mapping[str, Any]:
        """ListTagsForResource."""
        return {"tags": self._tags(call.parameters["resourceArn"])}

    def _tags(self, arn: str) -> dict[str, str]:
        kind, _, name = arn.removeprefix(f"{greengrass_prefix(self._cloud)}:").partition(":")
        if kind == "components":
            return self._catalog.by_arn(arn).tags
        with self._fleet.locked():
            if kind == "deployments":
                return self._fleet.deployments.get(name).tags
            device = self._fleet.devices.get(name) if kind == "coreDevices" else None
        if device is None:
            raise not_found("RESOURCE", arn)
        return device.tags

    def _device(self, call: Call) -> CoreDevice:
        name = call.parameters["coreDeviceThingName"]
        with self._fleet.locked():
            device = self._fleet.devices.get(name)
        if device is None:
            raise not_found("CORE_DEVICE", name)
        return device

    def _job(self, deployment: Deployment) -> dict[str, Any]:
        if not deployment.job_id:
            return {}
        return {"iotJobId": deployment.job_id, "iotJobArn": f"{arn_prefix(self._cloud)}:job/{deployment.job_id}"}

    def _summary(self, deployment: Deployment) -> dict[str, Any]:
        job_status = self._fleet.job_status(deployment)
        with self._fleet.locked():
            status = self._fleet.deployments.status(deployment, job_status)
        request = deployment.request
        return {
            "targetArn": deployment.target_arn,
            "revisionId": str(deployment.revision),
            "deploymentId": deployment.deployment_id,
            "deploymentName": request.get("deploymentName"),
            "creationTimestamp": deployment.created_at,
            "deploymentStatus": status,
            "isLatestForTarget": not deployment.superseded,
        }

    def _effective(self, effective: Effective) -> dict[str, Any]:
        deployment = effective.deployment
        return {
            "deploymentId": deployment.deployment_id,
            "deploymentName": deployment.request.get("deploymentName", ""),
            **self._job(deployment),
            "targetArn": deployment.target_arn,
            "coreDeviceExecutionStatus": effective.status,
            "reason": effective.reason,
            "creationTimestamp": effective.created_at,
            "modifiedTimestamp": effective.modified_at,
            "statusDetails": effective.details or None,
        }

    def _installed(self, installed: Installed) -> dict[str, Any]:
        with self._fleet.locked():
            found = [self._fleet.deployments.of_configuration(arn) for arn in installed.configuration_arns]
        sources = [deployment.deployment_id for deployment in found if deployment is not None]
        return {
            "componentName": installed.name,
            "componentVersion": installed.version,
            "lifecycleState": installed.status,
            "lifecycleStateDetails": installed.details or None,
            "isRoot": installed.is_root,
            "lastStatusChangeTimestamp": installed.changed_at,
            "lastReportedTimestamp": installed.reported_at,
            "lastInstallationSource": sources[-1] if sources else None,
        }


def greengrass_prefix(cloud: Cloud) -> str:
    """``arn:aws:greengrass:<region>:<account>``."""
    return f"arn:aws:greengrass:{cloud.region}:{cloud.account_id}"


def _health(device: CoreDevice) -> str:
    return "HEALTHY" if device.report.is_healthy else "UNHEALTHY"


def _device(device: CoreDevice) -> dict[str, Any]:
    report = device.report
    return {
        "coreDeviceThingName": report.thing_name,
        "status": _health(device),
        "lastStatusUpdateTimestamp": report.at,
        "platform": report.platform or None,
        "architecture": report.architecture or None,
        "runtime": report.runtime or None,
    }


def install(cloud: Cloud, jobs: IotJobs, things: Things, clients: LocalClients) -> ComponentApi:
    """Make Greengrass V2's control plane real; returns the component operations, which devices use too."""
    prefix = greengrass_prefix(cloud)
    catalog = ComponentCatalog(prefix, S3Objects(cloud).greengrass_digest)
    fleet = GreengrassFleet(prefix, jobs, DeploymentShadow(cloud, cloud.bus), lambda: cloud.events, cloud.clock)
    fleet.listen(cloud.bus)
    GreengrassApi(cloud, catalog, fleet, things)
    return ComponentApi(cloud, catalog, clients)
