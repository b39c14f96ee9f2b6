"""Which model versions a target's next deployment leaves behind, because every device that tried them failed. Pure.

The failure this exists for: one bad model that fails every later deployment of its target. A deployment is the whole list
of a target's components, and a device has one verdict for all of them: a refused version that is carried beside the next
model is tried and refused again, and the good model's deployment is FAILED for it, until somebody retires the bad one.

The rule, over a target's deployments from the newest back to the last that succeeded on a device (the *base*):

1. A deployment *failed everywhere* if a device failed, none succeeded, and none is still at it.
2. To blame for that is what differs from the base, if it is one model's version alone. Where a version that was refused
   before is among the components, that explains the failure, and nobody else is blamed.
3. A version to blame is carried no more: in its place goes what the base has, which is what these devices run, or nothing
   if it has none. Asking for that very version tries it again.

What only some devices refused stays: those that took it an hour ago would refuse the older one (their release floor), so this is said
and left to a person. So is a first deployment (there is no base), the runtime (no nucleus falls back), a retirement (it
is a wish, not a model), and what is not ours.

The verdicts are Greengrass's, which gives a deployment up that a slow model ends well a minute later. So a version to blame
that a runtime of the target reports as serving is carried on (deploy.py asks the fleet status API, where there is one).
Where nobody can be asked and it serves all the same, its predecessor is asked for in vain, but for the first hour: devices
say ``older-release``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.names import MODEL_PREFIX, is_retirement
from cloud.publishing.deployment_tags import tagged, untagged
from cloud.publishing.versions import highest_version
from edge_component.contracts.codec import Document

HISTORY_COUNT_MAX = 20
"""Deployments looked at; older ones say little of what devices run now."""

TAG_PREFIX = "edgewright:refused:"
TAG_COUNT_MAX = 8
"""AWS takes 50 tags for a resource; ``LIMITS.configuration_values_max`` are the configuration's."""


@dataclass(frozen=True, slots=True)
class Past:
    """One deployment of a target, and how many devices said what of it.

    Attributes:
        components: name to version.
        configured: components other than models whose configuration it changed.
        succeeded_count, failed_count, active_count: devices that are done, well or badly, and those still at it; devices
            that have not begun count nowhere.
    """

    deployment_id: str
    components: Mapping[str, str]
    succeeded_count: int = 0
    failed_count: int = 0
    active_count: int = 0
    configured: frozenset[str] = field(default_factory=frozenset)

    @property
    def has_failed_everywhere(self) -> bool:
        """Rule 1."""
        return self.failed_count > 0 and not self.succeeded_count and not self.active_count

    def changed(self, base: "Past") -> frozenset[str]:
        """What differs from another."""
        names = self.components.keys() | base.components.keys()
        different = {name for name in names if self.components.get(name) != base.components.get(name)}
        return frozenset(different) | self.configured


@dataclass(frozen=True, slots=True)
class Refused:
    """A version left behind; ``carried_version`` is what goes in its place, empty for nothing."""

    component_name: str
    version: str
    carried_version: str

    @property
    def sentence(self) -> str:
        """For the operator, and for the fleet's history."""
        place = f"{self.carried_version}, which they run, is carried" if self.carried_version else "nothing is carried"
        return (
            f"{self.component_name} {self.version} failed on every device that tried it: {place} in its place. "
            "Deploying that version tries it again."
        )

    @property
    def doubt(self) -> str:
        """Where a runtime reports that it serves the version all the same, and it is carried on."""
        return (
            f"{self.component_name} {self.version} serves here, although its deployment failed on every device: it is "
            "carried on. See edgewright get events."
        )

    def to_document(self) -> Document:
        """As JSON."""
        return {
            "component_name": self.component_name,
            "refused_version": self.version,
            "carried_version": self.carried_version or None,
        }


def past_of(deployment_id: str, components: Mapping[str, Mapping[str, Any]], statuses: Iterable[str]) -> Past:
    """Out of CreateDeployment's ``components``, and what each device says (Greengrass's effective status)."""
    said = Counter("FAILED" if status == "REJECTED" else status for status in statuses)
    return Past(
        deployment_id,
        {name: entry["componentVersion"] for name, entry in components.items()},
        said["SUCCEEDED"] + said["COMPLETED"],
        said["FAILED"],
        said["IN_PROGRESS"],
        frozenset(
            name for name, entry in components.items() if entry.get("configurationUpdate") and not _is_model(name)
        ),
    )


def refused_versions(history: Sequence[Past]) -> tuple[Refused, ...]:
    """What the next deployment does not carry on; ``history`` is a target's, newest first, the base or older at its end."""
    base = next((past for past in history if past.succeeded_count), None)
    if base is None:
        return ()
    known: dict[str, set[str]] = {}
    for past in reversed(history[: history.index(base)]):
        if past.has_failed_everywhere and not _is_explained(past, known):
            changed = past.changed(base)
            name = next(iter(changed), "")
            if len(changed) == 1 and _is_bundle(name, past.components.get(name, "")):
                known.setdefault(name, set()).add(past.components[name])
    latest = history[0].components
    return tuple(
        Refused(name, latest[name], base.components.get(name, ""))
        for name, versions in sorted(known.items())
        if latest.get(name) in versions
    )


def doubt_about(history: Sequence[Past]) -> str:
    """What an operator should know where the rule leaves a failure alone; empty if nothing."""
    latest = next(iter(history), None)
    if latest is None or not latest.failed_count or (latest.has_failed_everywhere and refused_versions(history)):
        return ""
    done_count = latest.failed_count + latest.succeeded_count
    models = ", ".join(f"{name} {version}" for name, version in sorted(latest.components.items()) if _is_model(name))
    return (
        f"The deployment before failed on {latest.failed_count} of {done_count} devices that are done with it, and nothing "
        f"of it is left behind ({models or 'no model'}): what these devices refused they will refuse again. Deploy another "
        "version of it, or edgewright undeploy it."
    )


def doubt_about_going_back(component_name: str, version: str, history: Sequence[Past]) -> str:
    """What an operator should know who deploys an older version than devices have taken; empty if it is none.

    By version, since a deployment names no release number: nearly always the one is in the order of the other.
    """
    taken = next((past.components.get(component_name, "") for past in history if past.succeeded_count), "")
    if not _is_bundle(component_name, taken) or not _is_bundle(component_name, version):
        return ""
    if version == taken or highest_version((version, taken)) != taken:
        return ""
    return (
        f"Devices here have taken {component_name} {taken}, and a release number never goes back: what was published before "
        f"it they refuse. To bring {version} back, publish the compilation that it was made of anew (edgewright publish "
        "gives it the next version), and deploy that."
    )


def refused_tags(before: Mapping[str, str], refused: Iterable[Refused], wished: str) -> dict[str, str]:
    """The tags of the next deployment of a target whose latest has the tags ``before``; what is wished for is tried anew."""
    known = {**refused_in(before), **{one.component_name: one.version for one in refused}}
    return tagged({name: version for name, version in known.items() if name != wished}, TAG_PREFIX, TAG_COUNT_MAX)


def refused_in(tags: Mapping[str, str]) -> dict[str, str]:
    """Component name to the version that was left behind, out of a deployment's tags."""
    return untagged(tags, TAG_PREFIX)


def _is_explained(past: Past, known: Mapping[str, set[str]]) -> bool:
    return any(past.components.get(name) in versions for name, versions in known.items())


def _is_model(name: str) -> bool:
    return name.startswith(MODEL_PREFIX)


def _is_bundle(name: str, version: str) -> bool:
    return _is_model(name) and bool(version) and not is_retirement(name, version)
