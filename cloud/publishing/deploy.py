"""Deploy a model version to thing groups or things; what each device says of it is awaited in waiting.py.

The failure this exists for: a command that, run again after a lost answer, starts the same rollout a second time. A target
that has the wished-for components already keeps its deployment (unless asked to start again), so the same command can be
repeated until it succeeds.

What results from a wish is decided in deployment.py, and what of the target's past is left behind in refused.py.
"""

import difflib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

from cloud.errors import ConflictError, NotFoundError
from cloud.names import RUNTIME_COMPONENT, is_retirement
from cloud.publishing.deployment import DeploymentPlan, Wish, plan_deployment
from cloud.publishing.errors import TargetNotFoundError, TargetUnsupportedError
from cloud.publishing.ports import ComponentCatalog, Report, silent
from cloud.publishing.refused import HISTORY_COUNT_MAX, Past, doubt_about, doubt_about_going_back, refused_versions
from cloud.publishing.versions import highest_version
from edge_component.contracts.codec import Document

LITE = "aws_nucleus_lite"
KINDS = ("thing", "group")
PLAN_COUNT_MAX = 5
"""How often a target is planned for anew, because somebody else deployed to it meanwhile."""


class ThingDirectory(Protocol):
    """Things and groups; ``cloud.aws.iot.ThingRegistry`` is one."""

    def group_arn(self, name: str) -> str | None:
        """A thing group's ARN, or ``None``."""

    def thing_arn(self, name: str) -> str | None:
        """A thing's ARN, or ``None``."""

    def members(self, group_name: str) -> tuple[str, ...]:
        """Every thing in a group and below it."""

    def group_names(self) -> tuple[str, ...]:
        """Every group."""


class DeploymentService(Protocol):
    """Deployments; ``cloud.aws.greengrass.Deployments`` is one."""

    def latest(self, target_arn: str) -> Mapping[str, Any] | None:
        """The target's current deployment as GetDeployment answers it, or ``None``."""

    def history(self, target_arn: str) -> Iterator[Past]:
        """The target's deployments and what devices said of them, newest first; each is read when it is asked for."""

    def create(self, request: Mapping[str, Any]) -> str:
        """Make one; returns its id."""

    def is_latest(self, deployment_id: str) -> bool:
        """Whether its target has no later one."""

    def effective(self, thing_name: str) -> Iterator[Mapping[str, Any]]:
        """What a device says about the deployments it knows, as ListEffectiveDeployments answers it."""

    def nucleus(self, thing_name: str) -> str | None:
        """Which nucleus a core device runs; ``None`` if it has not reported yet."""


class ServingSource(Protocol):
    """What runtimes report; ``cloud.cli.reported`` asks the fleet status API."""

    def serves(self, target: "Target", component_name: str, version: str) -> bool | None:
        """Whether a device of the target serves that version; ``None`` where nobody can be asked."""


class NobodyToAsk:
    """A :class:`ServingSource` that knows nothing."""

    def serves(self, target: "Target", component_name: str, version: str) -> bool | None:
        """See the port."""
        del target, component_name, version
        return None


@dataclass(frozen=True, slots=True)
class DeployPorts:
    """What deploying touches; each field can be replaced by a fake."""

    things: ThingDirectory
    deployments: DeploymentService
    catalog: ComponentCatalog
    report: Report = silent
    serving: ServingSource = field(default_factory=NobodyToAsk)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Target:
    """A thing group or a thing, and the devices behind it."""

    name: str
    arn: str
    thing_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deployed:
    """One target's deployment; ``is_new`` is false where the target had these components already."""

    target: Target
    plan: DeploymentPlan
    deployment_id: str
    is_new: bool

    def to_document(self) -> Document:
        """As JSON."""
        return {
            "target": self.target.name,
            "target_arn": self.target.arn,
            "deployment_id": self.deployment_id,
            "is_new": self.is_new,
            "components": self.plan.components,
            "job_document_bytes": self.plan.job_document_bytes,
            "refused": [one.to_document() for one in self.plan.refused],
            "device_count": len(self.target.thing_names),
        }


def find_target(name: str, ports: DeployPorts) -> Target:
    """``NAME`` (a group, else a thing), ``group:NAME`` or ``thing:NAME``.

    Raises:
        TargetNotFoundError: neither, with the groups that are spelt alike.
        TargetUnsupportedError: a single thing that runs Greengrass Lite, which receives deployments by groups alone.
    """
    kind, _, rest = name.partition(":")
    if kind not in KINDS:  # a colon may be part of a name
        kind, rest = "", name
    if kind != "thing" and (arn := ports.things.group_arn(rest)):
        return Target(rest, arn, ports.things.members(rest))
    if kind != "group" and (arn := ports.things.thing_arn(rest)):
        if ports.deployments.nucleus(rest) == LITE:
            raise TargetUnsupportedError(
                f"{rest} runs Greengrass Lite, which receives no deployments for a single thing",
                "Put it into a thing group of its own and deploy to that.",
            )
        return Target(rest, arn, (rest,))
    alike = difflib.get_close_matches(rest, ports.things.group_names(), n=3)
    hint = f"Did you mean {' or '.join(alike)}?" if alike else "List them with `aws iot list-thing-groups`."
    raise TargetNotFoundError(f"there is no thing group or thing {rest!r}", hint)


def plan(target: Target, wish: Wish, ports: DeployPorts) -> DeploymentPlan:
    """What would be deployed; changes nothing.

    Raises:
        NotFoundError: the model or runtime version is not published.
        InvalidInputError, DeploymentTooLargeError: see :func:`plan_deployment`.
    """
    latest = ports.deployments.latest(target.arn)
    current = latest.get("components") or {} if latest else None
    wish = _with_runtime(wish, current, ports.catalog)
    _check_published(wish.component_name, wish.version, ports.catalog)
    _check_published(RUNTIME_COMPONENT, wish.runtime_version, ports.catalog)
    history = _recent(target, ports) if latest else ()
    failed = refused_versions(history)
    taken = tuple(one for one in failed if ports.serving.serves(target, one.component_name, one.version))
    refused = tuple(one for one in failed if one not in taken)
    planned = plan_deployment(target.arn, current, wish, (latest or {}).get("tags") or {}, refused)
    doubts = (
        doubt_about_going_back(wish.component_name, wish.version, history),
        doubt_about(history),
        *(one.doubt for one in taken),
    )
    return replace(planned, doubt=" ".join(filter(None, doubts)))


def deploy(target: Target, wish: Wish, ports: DeployPorts, *, again: bool = False) -> Deployed:
    """Make the deployment, or find the one that says the same; ``again`` makes a new one in any case.

    Raises:
        as :func:`plan`; nothing was deployed.
        ConflictError: others deployed to the target each time it was planned for; nothing was deployed.
    """
    wanted, latest_id = _current_plan(target, wish, ports)
    if latest_id and not wanted.is_change and not again:
        return Deployed(target, wanted, latest_id, is_new=False)
    return Deployed(target, wanted, ports.deployments.create(wanted.request(_name_of(wish))), is_new=True)


def _current_plan(target: Target, wish: Wish, ports: DeployPorts) -> tuple[DeploymentPlan, str]:
    """A plan over what is the target's latest deployment after planning too, and that one's id.

    Planning takes seconds (it reads the target's past), and Greengrass knows no "only if nothing has changed": what somebody
    deployed in those seconds would be undone without a word.
    """
    before = _latest_id(target, ports)
    for _ in range(PLAN_COUNT_MAX):
        planned = plan(target, wish, ports)
        latest_id = _latest_id(target, ports)
        if latest_id == before:
            return planned, latest_id
        before = latest_id
    raise ConflictError(f"others deploy to {target.name} all the time", "Find out who does, then run it again.")


def _latest_id(target: Target, ports: DeployPorts) -> str:
    latest = ports.deployments.latest(target.arn)
    return str(latest["deploymentId"]) if latest else ""


def _recent(target: Target, ports: DeployPorts) -> tuple[Past, ...]:
    """Back to the last deployment that succeeded somewhere: usually the latest alone."""
    recent: list[Past] = []
    for past in islice(ports.deployments.history(target.arn), HISTORY_COUNT_MAX):
        recent.append(past)
        if past.succeeded_count:
            break
    return tuple(recent)


def _name_of(wish: Wish) -> str:
    if is_retirement(wish.component_name, wish.version):
        return f"retire {wish.component_name}"
    return f"{wish.component_name or RUNTIME_COMPONENT} {wish.version or wish.runtime_version}"


def _with_runtime(wish: Wish, current: Mapping[str, Any] | None, catalog: ComponentCatalog) -> Wish:
    """Pin the runtime: as wished, else as the target has it, else the highest published."""
    if wish.runtime_version:
        return wish
    pinned = (current or {}).get(RUNTIME_COMPONENT, {}).get("componentVersion", "")
    return replace(wish, runtime_version=pinned or highest_version(catalog.versions(RUNTIME_COMPONENT)) or "")


def _check_published(component_name: str, version: str, catalog: ComponentCatalog) -> None:
    if component_name and version and catalog.find(component_name, version) is None:
        published = ", ".join(sorted(catalog.versions(component_name))) or "none"
        raise NotFoundError(f"{component_name} {version} is not published", f"Published versions: {published}.")
