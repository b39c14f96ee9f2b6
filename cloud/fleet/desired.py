"""What is wanted of each device: the union of the latest deployments to it and to its thing groups.

Greengrass answers "what was asked" per target, never per device, and what it calls SUCCEEDED can be an activation that
never ran. So wanted, installed and verified serving are three separate things here; ``health`` compares them.

Pure, but for the ports: :class:`ControlPlane` (Greengrass and IoT) and :class:`PublicationSource` (what was published),
each with the fake that ships. Their AWS ends are ``cloud.aws.control_plane`` and ``cloud.aws.publications``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from cloud.names import RUNTIME_COMPONENT
from edge_component.contracts.codec import NOTHING

TARGET_PATTERN = re.compile(r"arn:[^:]+:iot:[^:]*:[^:]*:(?P<kind>thing|thinggroup)/(?P<name>[a-zA-Z0-9:_-]+)")


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """One Greengrass deployment; ``components`` is name to version; ``target_arn`` a thing or a thing group.

    ``configured``: digest by JSON pointer of what it and its predecessors have set of the runtime's configuration.
    ``refused``: by component name, the version that it left behind because every device of the target refused it.
    """

    deployment_id: str
    target_arn: str
    name: str
    components: Mapping[str, str]
    status: str
    created_at: datetime
    is_latest: bool = True
    configured: Mapping[str, str] = NOTHING
    refused: Mapping[str, str] = NOTHING


@dataclass(frozen=True, slots=True)
class Wanted:
    """One component that a device should have; ``model_name`` and ``digest`` are empty where not known.

    ``configured``: for the runtime, digest by JSON pointer of what was set of its configuration.
    ``refused_version``: the newer one in whose place this one is wanted; empty where none was refused.
    """

    component_name: str
    version: str
    deployment_id: str
    model_name: str = ""
    digest: str = ""
    configured: Mapping[str, str] = NOTHING
    refused_version: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing recorded of one component version.

    Attributes:
        digests: bundle digest by platform, such as ``linux/x86_64``.
    """

    component_name: str
    model_name: str
    version: str
    digests: Mapping[str, str]


class PublicationSource(Protocol):
    """Looks a published component version up."""

    def find(self, component_name: str, version: str) -> Publication | None:
        """The publication, or ``None`` if nothing of that name and version was published by us.

        Raises:
            UnavailableError: could not look.
        """


class ControlPlane(Protocol):
    """What Greengrass and IoT know, and the one thing a repair does with them."""

    def latest_deployments(self) -> Iterable[DeploymentRecord]:
        """The latest deployment of each target."""

    def members(self, target_arn: str) -> Iterable[str]:
        """Thing names behind a target: the thing itself, or everything in the group and the groups below it."""

    def installed(self, thing_name: str) -> Mapping[str, str]:
        """Component name to version, as the nucleus claims; empty if it never reported."""

    def redeploy(self, deployment_id: str, component_name: str, nonce: str) -> str | None:
        """Deploy the same again, with a configuration nonce on one component; returns the new deployment's id.

        ``None``, and nothing is deployed, where its target has a later deployment by now: somebody's newer wish would be
        undone by repairing the old one.
        """


@dataclass(slots=True)
class MemoryPublications:
    """The fake: ``known`` by (component name, version)."""

    known: dict[tuple[str, str], Publication] = field(default_factory=dict)

    def find(self, component_name: str, version: str) -> Publication | None:
        """See :class:`PublicationSource`."""
        return self.known.get((component_name, version))


@dataclass(slots=True)
class MemoryControlPlane:
    """The fake: plain dictionaries; ``nonces`` lists what was redeployed."""

    deployments: dict[str, DeploymentRecord] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    claims: dict[str, dict[str, str]] = field(default_factory=dict)
    nonces: list[tuple[str, str, str]] = field(default_factory=list)

    def latest_deployments(self) -> Iterable[DeploymentRecord]:
        """See :class:`ControlPlane`."""
        return [record for record in self.deployments.values() if record.is_latest]

    def members(self, target_arn: str) -> Iterable[str]:
        """See :class:`ControlPlane`."""
        kind, name = parse_target(target_arn)
        return (name,) if kind == "thing" else self.groups.get(name, ())

    def installed(self, thing_name: str) -> Mapping[str, str]:
        """See :class:`ControlPlane`."""
        return self.claims.get(thing_name, {})

    def redeploy(self, deployment_id: str, component_name: str, nonce: str) -> str | None:
        """See :class:`ControlPlane`."""
        old = self.deployments[deployment_id]
        if not old.is_latest:
            return None
        new_id = f"{deployment_id}+{len(self.nonces) + 1}"
        self.nonces.append((deployment_id, component_name, nonce))
        self.deployments[deployment_id] = replace(old, is_latest=False)
        self.deployments[new_id] = replace(old, deployment_id=new_id)
        return new_id


def parse_target(target_arn: str) -> tuple[str, str]:
    """``("thing" | "thinggroup", name)``; ``("", "")`` for anything else."""
    match = TARGET_PATTERN.fullmatch(target_arn)
    return (match["kind"], match["name"]) if match else ("", "")


def wanted_by_thing(
    deployments: Iterable[DeploymentRecord], members: Mapping[str, Iterable[str]]
) -> Mapping[str, Mapping[str, Wanted]]:
    """Thing name → component name → what is wanted.

    ``members`` is target ARN to thing names. Where two targets of a device name the same component, the later
    deployment wins (Greengrass itself then needs both versions to be the same, or fails the deployment).
    """
    wanted: dict[str, dict[str, Wanted]] = {}
    for record in sorted(deployments, key=lambda one: (one.created_at, one.deployment_id)):
        for thing_name in members.get(record.target_arn, ()):
            known = wanted.setdefault(thing_name, {})
            for name, version in record.components.items():
                configured, refused = _configured(known, name, record), record.refused.get(name, "")
                known[name] = Wanted(
                    name, version, record.deployment_id, configured=configured, refused_version=refused
                )
    return wanted


def _configured(known: Mapping[str, Wanted], name: str, record: DeploymentRecord) -> Mapping[str, str]:
    """A device merges what each of its targets has set."""
    if name != RUNTIME_COMPONENT:
        return NOTHING
    return {**(known[name].configured if name in known else NOTHING), **record.configured}


def identified(wanted: Wanted, publication: Publication | None, platform: str) -> Wanted:
    """The same, with the model's name and the digest that this platform should serve, where a publication tells."""
    if publication is None:
        return wanted
    return replace(wanted, model_name=publication.model_name, digest=publication.digests.get(platform, ""))
