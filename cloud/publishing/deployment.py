"""Which deployment results from what a target has and what is wished for. Pure.

The failures this exists for: a model rollout that upgrades the runtime by dependency resolution (so its version is
always pinned beside the model's); one that drops the other components of the target (a deployment replaces the whole
list); one that restarts the runtime by the way (Greengrass Lite reinstalls a component whenever the document carries a
configurationUpdate for it, changed or not, so ours are never carried over: the devices keep what they merged, and
configured.py keeps track of it in tags); one that a model's refused version fails again and again (refused.py says which);
and one that a Lite device never receives, because it is larger than its buffer.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloud.errors import InvalidInputError
from cloud.names import RUNTIME_COMPONENT, is_ours
from cloud.publishing.configured import configured_tags
from cloud.publishing.errors import DeploymentTooLargeError
from cloud.publishing.refused import Refused, refused_tags
from edge_component.contracts.codec import NOTHING
from edge_component.contracts.limits import LIMITS

NONCE_KEY = "nonce"
NONCE = re.compile(r"[A-Za-z0-9._:-]{0,64}")
"""It stands in a script, where a newline or a quote would be a program."""

COMPONENT_UPDATE_TIMEOUT_S = 60

Components = Mapping[str, Mapping[str, Any]]
"""CreateDeployment's ``components``: name to {componentVersion, configurationUpdate?, runWith?}."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the target shall run.

    Attributes:
        component_name, version: the model; both empty to change the runtime alone.
        runtime_version: empty keeps the one that the target has.
        runtime_configuration: merged into the runtime's configuration; ``None`` leaves it alone. On Greengrass Lite this
            restarts the runtime.
        runtime_reset: JSON pointers into the runtime's configuration that go back to the recipe's defaults first, such as
            ``/accessControl`` when an upgrade's policy must replace the one that devices keep.
        nonce: a new text makes Greengrass run the model's hand-over again, for a device that reported success without
            having done it.
    """

    component_name: str = ""
    version: str = ""
    runtime_version: str = ""
    runtime_configuration: Mapping[str, Any] | None = None
    runtime_reset: tuple[str, ...] = ()
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What CreateDeployment is asked for.

    Attributes:
        components: the whole list.
        is_change: whether it differs from what the target has.
        job_document_bytes: what a device will have to receive.
        tags: the deployment's, which no device receives.
        refused: what the target's latest deployment has, and this one leaves behind.
        doubt: what may fail again; empty if nothing is known to.
    """

    target_arn: str
    components: Components
    is_change: bool
    job_document_bytes: int
    tags: Mapping[str, str] = NOTHING
    refused: tuple[Refused, ...] = ()
    doubt: str = ""

    def request(self, name: str) -> dict[str, Any]:
        """CreateDeployment's parameters."""
        request = {
            "targetArn": self.target_arn,
            "deploymentName": name,
            "components": {component: dict(entry) for component, entry in self.components.items()},
            "deploymentPolicies": POLICIES,
        }
        return request | ({"tags": dict(self.tags)} if self.tags else {})


POLICIES = {
    "failureHandlingPolicy": "ROLLBACK",
    "componentUpdatePolicy": {"action": "NOTIFY_COMPONENTS", "timeoutInSeconds": COMPONENT_UPDATE_TIMEOUT_S},
}
"""ROLLBACK is honoured by the Java nucleus; Lite ignores it, and there the runtime keeps the old model by itself. On Java, a
model that was committed goes back to the one before it, if another component's failure asks for that: the runtime takes the
very bundle that it served before for an hour after the commit. If it was restarted meanwhile, the release floor refuses, the
device serves on, and the deployment ends FAILED_UNABLE_TO_ROLLBACK."""


def plan_deployment(
    target_arn: str,
    current: Components | None,
    wish: Wish,
    tags: Mapping[str, str] = NOTHING,
    refused: Iterable[Refused] = (),
) -> DeploymentPlan:
    """The target's next deployment.

    Args:
        target_arn: whose.
        current: its latest one's components, ``None`` if it never had one.
        wish: what is to change.
        tags: the latest one's.
        refused: what of the latest is not to be carried on, unless it is wished for.

    Raises:
        InvalidInputError: no runtime version is known, or nothing is wished for.
        DeploymentTooLargeError: a Lite device could not receive the document.
    """
    runtime_version = wish.runtime_version or (current or {}).get(RUNTIME_COMPONENT, {}).get("componentVersion", "")
    _check_wish(target_arn, wish, runtime_version)
    left_behind = tuple(one for one in refused if _is_carried(one, current, wish))
    carried = {name: _carried(name, entry) for name, entry in sorted((current or {}).items())}
    components = _next_components(carried, wish, runtime_version, left_behind)
    is_change = current is None or components != carried
    size_bytes = job_document_bytes(target_arn, components)
    if size_bytes >= LIMITS.job_document_bytes_max:
        raise DeploymentTooLargeError(
            f"the job document would take {size_bytes} bytes; Greengrass Lite receives less than "
            f"{LIMITS.job_document_bytes_max}",
            "Shorten the runtime configuration, or split the target's components over several thing groups.",
        )
    tags = {
        **configured_tags(tags, wish.runtime_configuration, wish.runtime_reset),
        **refused_tags(tags, left_behind, wish.component_name),
    }
    return DeploymentPlan(target_arn, components, is_change, size_bytes, tags, left_behind)


def _check_wish(target_arn: str, wish: Wish, runtime_version: str) -> None:
    if not runtime_version:
        raise InvalidInputError(
            f"{target_arn} has no {RUNTIME_COMPONENT} yet and no version of it was given",
            "Publish one with `edgewright publish-runtime`, or name one with --runtime-version.",
        )
    if bool(wish.component_name) != bool(wish.version):
        raise InvalidInputError("a model and its version go together", "Give both.")
    if not NONCE.fullmatch(wish.nonce):
        raise InvalidInputError(
            f"the nonce {wish.nonce!r} has other signs than A-Z a-z 0-9 . _ : -, or too many of them",
            "Choose another text.",
        )


def _next_components(
    carried: Components, wish: Wish, runtime_version: str, left_behind: Iterable[Refused]
) -> dict[str, Mapping[str, Any]]:
    """What is carried on, less what is left behind; the runtime and the model as they are wished for."""
    components = dict(carried)
    for one in left_behind:
        entry = components.pop(one.component_name)
        if one.carried_version:
            components[one.component_name] = {**entry, "componentVersion": one.carried_version}
    components[RUNTIME_COMPONENT] = _pinned(runtime_version, wish.runtime_configuration, wish.runtime_reset)
    if wish.component_name:
        components[wish.component_name] = _pinned(wish.version, {NONCE_KEY: wish.nonce} if wish.nonce else None)
    return components


def job_document_bytes(target_arn: str, components: Components) -> int:
    """How large the job document becomes that Greengrass makes of these components.

    The fields are those of a real deployment document; identifiers are taken at their real length.
    """
    document = {
        "deploymentId": "0" * 36,
        "configurationArn": target_arn.replace(":iot:", ":greengrass:", 1) + ":9999",
        "components": {name: _job_entry(entry) for name, entry in components.items()},
        "failureHandlingPolicy": POLICIES["failureHandlingPolicy"],
        "componentUpdatePolicy": {"timeout": COMPONENT_UPDATE_TIMEOUT_S, "action": "NOTIFY_COMPONENTS"},
        "configurationValidationPolicy": {"timeout": 60},
    }
    return len(json.dumps(document, separators=(",", ":")).encode())


def _job_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {"version": entry["componentVersion"]}
    update = entry.get("configurationUpdate", {})
    if update:
        known["configurationUpdate"] = {
            **({"merge": json.loads(update["merge"])} if update.get("merge") else {}),
            **({"reset": update["reset"]} if update.get("reset") else {}),
        }
    if entry.get("runWith"):
        known["runWith"] = entry["runWith"]
    return known


def _pinned(version: str, merge: Mapping[str, Any] | None, reset: tuple[str, ...] = ()) -> dict[str, Any]:
    update: dict[str, Any] = {}
    if merge is not None:
        update["merge"] = json.dumps(merge, sort_keys=True, separators=(",", ":"))
    if reset:
        update["reset"] = list(reset)
    return {"componentVersion": version, **({"configurationUpdate": update} if update else {})}


def _is_carried(refused: Refused, current: Components | None, wish: Wish) -> bool:
    """Whether this very version would be carried on. Listings lag behind: what was refused may be gone by now."""
    known = (current or {}).get(refused.component_name, {}).get("componentVersion")
    return known == refused.version and refused.component_name != wish.component_name


def _carried(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Another component as it is; one of ours without its configuration update, which its devices have merged."""
    return {
        key: value for key, value in entry.items() if value and not (is_ours(name) and key == "configurationUpdate")
    }
