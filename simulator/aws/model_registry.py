"""SageMaker's model registry: groups, versioned packages, approval.

The failure this exists for: moto loses ``CustomerMetadataProperties``, which is where a package says what it is made of.
A package keeps every member of its request. Unversioned packages (those without a group) are refused.

All state is in memory, under one lock; requests come on many threads.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.event import Event
from simulator.aws.listing import page
from simulator.aws.operations import Call

UPDATABLE = (
    "ModelApprovalStatus", "ApprovalDescription", "InferenceSpecification", "SourceUri", "ModelCard", "ModelLifeCycle",
)  # fmt: skip
NOT_DESCRIBED = frozenset({"Tags", "ClientToken", "ModelPackageGroupName"})


@dataclass(slots=True)
class Group:
    """A model package group."""

    name: str
    arn: str
    description: str | None
    created_at: datetime
    last_version: int = 0
    packages: dict[int, "Package"] = field(default_factory=dict)


@dataclass(slots=True)
class Package:
    """One version; ``members`` are CreateModelPackage's and what was updated since."""

    group: str
    version: int
    arn: str
    created_at: datetime
    modified_at: datetime
    members: dict[str, Any]
    client_token: str | None


class ModelRegistry:
    """All groups."""

    def __init__(self, cloud: Cloud) -> None:
        """Empty."""
        self._cloud = cloud
        self._groups: dict[str, Group] = {}
        self._lock = threading.Lock()

    def create_group(self, call: Call) -> Mapping[str, Any]:
        """CreateModelPackageGroup."""
        name = call.parameters["ModelPackageGroupName"]
        arn = f"arn:aws:sagemaker:{call.region}:{call.account_id}:model-package-group/{name}"
        with self._lock:
            if name in self._groups:
                raise AwsError("ValidationException", f"Model Package Group already exists: {arn}")
            description = call.parameters.get("ModelPackageGroupDescription")
            self._groups[name] = Group(name, arn, description, self._cloud.clock())
        return {"ModelPackageGroupArn": arn}

    def describe_group(self, call: Call) -> Mapping[str, Any]:
        """DescribeModelPackageGroup."""
        with self._lock:
            group = self._group(call.parameters["ModelPackageGroupName"])
            return {**_group_summary(group), "CreatedBy": {}}

    def list_groups(self, call: Call) -> Mapping[str, Any]:
        """ListModelPackageGroups."""
        with self._lock:
            entries = [_group_summary(group) for group in self._groups.values()]
        names = {"name": "ModelPackageGroupName", "status": "ModelPackageGroupStatus"}
        return page(entries, call.parameters, **names, answer="ModelPackageGroupSummaryList")

    def delete_group(self, call: Call) -> None:
        """DeleteModelPackageGroup; only an empty one goes."""
        with self._lock:
            group = self._group(call.parameters["ModelPackageGroupName"])
            if group.packages:
                raise AwsError("ConflictException", f"Model Package Group {group.name} still has model packages.")
            del self._groups[group.name]

    def create_package(self, call: Call) -> Mapping[str, Any]:
        """CreateModelPackage: the group's next version; the same ``ClientToken`` gives the same version again."""
        given = dict(call.parameters)
        if not given.get("ModelPackageGroupName"):
            raise NotRealError("CreateModelPackage without ModelPackageGroupName (an unversioned package)")
        with self._lock:
            group = self._group(given["ModelPackageGroupName"])
            token = given.get("ClientToken")
            known = [package for package in group.packages.values() if token and package.client_token == token]
            package = known[0] if known else self._next_version(group, given, call)
        if not known:
            self._announce(package)
        return {"ModelPackageArn": package.arn}

    def describe_package(self, call: Call) -> Mapping[str, Any]:
        """DescribeModelPackage."""
        with self._lock:
            return _description(self._package(call.parameters["ModelPackageName"]))

    def list_packages(self, call: Call) -> Mapping[str, Any]:
        """ListModelPackages: of one group, or of all."""
        given = call.parameters
        if given.get("ModelPackageType") not in {None, "Versioned"}:
            raise NotRealError(f"ListModelPackages of type {given['ModelPackageType']}")
        with self._lock:
            name = given.get("ModelPackageGroupName")
            groups = [self._group(name)] if name else list(self._groups.values())
            entries = [_summary(package) for group in groups for package in group.packages.values()]
        approval = given.get("ModelApprovalStatus")
        chosen = [entry for entry in entries if approval in {None, entry["ModelApprovalStatus"]}]
        names = {"name": "ModelPackageArn", "status": "ModelPackageStatus"}
        return page(chosen, given, **names, answer="ModelPackageSummaryList")

    def update_package(self, call: Call) -> Mapping[str, Any]:
        """UpdateModelPackage."""
        given = call.parameters
        if given.get("AdditionalInferenceSpecificationsToAdd"):
            raise NotRealError("UpdateModelPackage with AdditionalInferenceSpecificationsToAdd")
        changed = [name for name in UPDATABLE if given.get(name) is not None]
        with self._lock:
            package = self._package(given["ModelPackageArn"])
            package.members.update({name: given[name] for name in changed})
            if _merge_metadata(package.members, given):
                changed.append("CustomerMetadataProperties")
            package.modified_at = self._cloud.clock()
        self._announce(package, changed)
        return {"ModelPackageArn": package.arn}

    def delete_package(self, call: Call) -> None:
        """DeleteModelPackage; its version is never given again."""
        with self._lock:
            package = self._package(call.parameters["ModelPackageName"])
            del self._groups[package.group].packages[package.version]

    def _next_version(self, group: Group, given: dict[str, Any], call: Call) -> Package:
        group.last_version += 1
        arn = f"arn:aws:sagemaker:{call.region}:{call.account_id}:model-package/{group.name}/{group.last_version}"
        members = {name: value for name, value in given.items() if name not in NOT_DESCRIBED and value is not None}
        members.setdefault("ModelApprovalStatus", "PendingManualApproval")
        now = self._cloud.clock()
        package = Package(group.name, group.last_version, arn, now, now, members, given.get("ClientToken"))
        group.packages[package.version] = package
        return package

    def _group(self, name_or_arn: str) -> Group:
        group = self._groups.get(name_or_arn.rpartition("/")[2])
        if group is None:
            raise AwsError("ValidationException", f"ModelPackageGroup {name_or_arn} does not exist.")
        return group

    def _package(self, name_or_arn: str) -> Package:
        group_name, _, version = name_or_arn.partition("model-package/")[2].rpartition("/")
        group = self._groups.get(group_name)
        package = group.packages.get(int(version)) if group is not None and version.isdigit() else None
        if package is None:
            raise AwsError("ValidationException", f"ModelPackage {name_or_arn} does not exist.")
        return package

    def _announce(self, package: Package, changed: list[str] | None = None) -> None:
        detail = {
            **_summary(package),
            "CreationTime": int(package.created_at.timestamp() * 1000),
            "CustomerMetadataProperties": package.members.get("CustomerMetadataProperties") or {},
            **({"UpdatedModelPackageFields": changed} if changed else {}),
        }
        self._cloud.events.emit(Event("aws.sagemaker", "SageMaker Model Package State Change", detail, (package.arn,)))


def _merge_metadata(members: dict[str, Any], given: Mapping[str, Any]) -> bool:
    added, removed = given.get("CustomerMetadataProperties"), given.get("CustomerMetadataPropertiesToRemove")
    if not added and not removed:
        return False
    merged = {**(members.get("CustomerMetadataProperties") or {}), **(added or {})}
    members["CustomerMetadataProperties"] = {name: text for name, text in merged.items() if name not in (removed or ())}
    return True


def _group_summary(group: Group) -> dict[str, Any]:
    return {
        "ModelPackageGroupName": group.name,
        "ModelPackageGroupArn": group.arn,
        "CreationTime": group.created_at,
        "ModelPackageGroupStatus": "Completed",
        **({"ModelPackageGroupDescription": group.description} if group.description else {}),
    }


def _summary(package: Package) -> dict[str, Any]:
    kept = ("ModelPackageDescription", "ModelApprovalStatus", "ModelLifeCycle")
    return {
        "ModelPackageGroupName": package.group,
        "ModelPackageVersion": package.version,
        "ModelPackageArn": package.arn,
        "CreationTime": package.created_at,
        "ModelPackageStatus": "Completed",
        **{name: package.members[name] for name in kept if name in package.members},
    }


def _description(package: Package) -> dict[str, Any]:
    return {
        **package.members,
        **_summary(package),
        "ModelPackageName": package.group,
        "LastModifiedTime": package.modified_at,
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
    }


def install(cloud: Cloud) -> None:
    """Serve the registry's operations."""
    registry = ModelRegistry(cloud)
    cloud.operations.serve(
        "sagemaker",
        {
            "CreateModelPackageGroup": registry.create_group,
            "DescribeModelPackageGroup": registry.describe_group,
            "ListModelPackageGroups": registry.list_groups,
            "DeleteModelPackageGroup": registry.delete_group,
            "CreateModelPackage": registry.create_package,
            "DescribeModelPackage": registry.describe_package,
            "ListModelPackages": registry.list_packages,
            "UpdateModelPackage": registry.update_package,
            "DeleteModelPackage": registry.delete_package,
        },
    )
