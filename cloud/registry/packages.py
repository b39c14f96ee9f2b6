"""Publications in SageMaker's Model Registry: one group per model component, one package per published version.

The failure this exists for: a version on devices of which nobody can say from what it was trained or who approved it.
The registry is told what a publication is (its record in S3 holds every digest), where it came from, and whether it is
approved. It is not where versions are decided: that is the publication record, because a registry entry is made last.

Registering again finds the package that is there; approving is a call of its own.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cloud.publishing.publication import Publication

APPROVALS = ("Approved", "PendingManualApproval", "Rejected")
LINEAGE_VALUE_CHARS_MAX = 256
"""SageMaker's limit for one customer metadata value."""

CLIENT_TOKEN_CHARS_MAX = 36
"""SageMaker's limit; the token makes a request that was answered but not heard safe to send again."""


class PackageStore(Protocol):
    """Model packages; ``cloud.aws.model_registry.ModelRegistry`` is one."""

    def ensure_group(self, name: str, description: str) -> None:
        """Make the group unless it exists."""

    def packages(self, group: str) -> Mapping[str, str]:
        """Description to ARN of every package in a group."""

    def create(self, request: Mapping[str, Any]) -> str:
        """CreateModelPackage; returns the ARN."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A version in the registry; ``is_new`` is false where it was there already."""

    group: str
    package_arn: str
    is_new: bool


def register(publication: Publication, lineage: Mapping[str, Any], approval: str, store: PackageStore) -> Registration:
    """Register a publication, or find it."""
    group = group_name(publication.component_name)
    store.ensure_group(group, f"Edgewright model {publication.model_name}")
    known = store.packages(group).get(description(publication))
    if known is not None:
        return Registration(group, known, is_new=False)
    return Registration(group, store.create(package_request(publication, lineage, approval)), is_new=True)


def group_name(component_name: str) -> str:
    """SageMaker's names have no dots: ``com-edgewright-model-Weather``."""
    return component_name.replace(".", "-").replace("_", "-")


def description(publication: Publication) -> str:
    """How a package is recognised: listings show descriptions, and no other field that we choose."""
    return f"{publication.component_name} {publication.version}"


def package_request(publication: Publication, lineage: Mapping[str, Any], approval: str) -> dict[str, Any]:
    """CreateModelPackage's parameters. Pure.

    It names no inference container: the package runs on core devices, not on SageMaker's hosting.
    """
    known = {
        "version": publication.version,
        "release": publication.release,
        "component_arn": publication.component_arn,
        "record_uri": publication.record_uri,
        **{f"digest_{bundle.platform.replace('/', '-')}": bundle.digest for bundle in publication.bundles},
        **{name: value for name, value in lineage.items() if isinstance(value, str | int | float)},
    }
    job_arn = lineage.get("training_job_arn")
    return {
        "ModelPackageGroupName": group_name(publication.component_name),
        "ModelPackageDescription": description(publication),
        "ModelApprovalStatus": approval,
        "SourceUri": publication.record_uri,
        "ClientToken": hashlib.sha256(description(publication).encode()).hexdigest()[:CLIENT_TOKEN_CHARS_MAX],
        "CustomerMetadataProperties": {name: str(value)[:LINEAGE_VALUE_CHARS_MAX] for name, value in known.items()},
        **({"MetadataProperties": {"GeneratedBy": job_arn}} if isinstance(job_arn, str) else {}),
    }
