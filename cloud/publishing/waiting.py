"""Wait for what each device says of a deployment, and turn it into an answer or an error.

The failure this exists for: a command that answers "created" and leaves the operator to guess. A device's SUCCEEDED is
Greengrass's word all the same: what really serves is what the runtime reports (the fleet status API).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud.errors import DeniedError, NotFoundError, UnavailableError
from cloud.publishing.deploy import Deployed, DeploymentService, DeployPorts
from cloud.publishing.errors import DeploymentFailedError, DeploymentPendingError, DeploymentReplacedError
from edge_component.contracts.codec import Document

SUCCEEDED = frozenset({"SUCCEEDED", "COMPLETED"})
FAILED = frozenset({"FAILED", "TIMED_OUT", "CANCELED", "REJECTED"})
UNSEEN = "WAITING"
"""Our word for a device that has not said anything about the deployment."""
REPLACED = "REPLACED"
"""Our word for a device that has not finished a deployment which another has replaced: it never will."""
WAIT_AGAIN = "Run the same command again to go on waiting."
NAME_COUNT_MAX = 10
"""Devices that an error names; the table has them all."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What one device says: Greengrass's effective status, or ``WAITING``; ``reason`` may be empty."""

    thing_name: str
    status: str
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether the device is done, well or badly."""
        return self.status in SUCCEEDED or self.status in FAILED or self.status == REPLACED

    def to_document(self) -> Document:
        """As JSON."""
        return {"thing_name": self.thing_name, "status": self.status, "reason": self.reason}


def wait_for_devices(
    deployed: Iterable[Deployed], ports: DeployPorts, deadline_s: float, pause_s: float = 1.0
) -> tuple[DeviceStatus, ...]:
    """Ask until every device of every target has a final status or the deadline passes; the last answers, by name.

    Who is done is not asked again: a thousand devices are a thousand calls a round, and AWS throttles. An answer that does
    not come ends nothing; it is the reason of a device that is still ``WAITING``. Who has not finished a deployment that
    another has replaced by now is done with it, too.
    """
    deployed = tuple(deployed)
    expected = sorted({(thing, each.deployment_id) for each in deployed for thing in each.target.thing_names})
    deadline = ports.monotonic() + deadline_s
    known: dict[tuple[str, str], DeviceStatus] = {}
    while True:
        for thing, deployment_id in expected:
            if (thing, deployment_id) not in known or not known[thing, deployment_id].is_final:
                known[thing, deployment_id] = _status(thing, deployment_id, ports.deployments)
        known |= _replaced(known, ports.deployments)
        statuses = tuple(known[each] for each in expected)
        final_count = sum(status.is_final for status in statuses)
        ports.report("waiting for devices", final_count, len(statuses))
        if final_count == len(statuses) or ports.monotonic() >= deadline:
            return statuses
        ports.sleep(pause_s)


def check_outcome(statuses: Iterable[DeviceStatus]) -> None:
    """Turn what the devices said into an error, if it must be one.

    Raises:
        DeploymentFailedError: a device failed, with its reason.
        DeploymentReplacedError: none failed, but some had not finished when another deployment took this one's place.
        DeploymentPendingError: none failed, but some have not finished.
    """
    known = tuple(statuses)
    failed = [status for status in known if status.status in FAILED]
    replaced = [status for status in known if status.status == REPLACED]
    pending = [status for status in known if not status.is_final]
    if failed:
        details = _listed("; ", [f"{one.thing_name}: {one.status} {one.reason}".rstrip() for one in failed])
        raise DeploymentFailedError(
            f"{len(failed)} of {len(known)} devices failed: {details}",
            "Each goes on serving what it served before. `edgewright get events` has the runtime's own reason; correct it, "
            "then deploy with --again. Later deployments leave behind a model's version that every device refused.",
        )
    if replaced:
        names = _listed(", ", [status.thing_name for status in replaced])
        raise DeploymentReplacedError(
            f"a later deployment has taken this one's place on {len(replaced)} of {len(known)} devices: {names}",
            "Somebody else deployed to this target, or the fleet service repaired it: see `edgewright get deployments`. "
            "Running the same command again waits for the later one, if it says the same.",
        )
    if pending:
        names = _listed(", ", [f"{status.thing_name} ({status.status})" for status in pending])
        raise DeploymentPendingError(
            f"{len(pending)} of {len(known)} devices have not finished: {names}",
            f"The deployment goes on. {WAIT_AGAIN}",
        )


def _replaced(
    known: Mapping[tuple[str, str], DeviceStatus], deployments: DeploymentService
) -> dict[tuple[str, str], DeviceStatus]:
    """Of those who have not finished, those whose deployment is past."""
    waiting = [each for each, status in known.items() if not status.is_final]
    past = {deployment_id for deployment_id in {each[1] for each in waiting} if _is_past(deployment_id, deployments)}
    return {each: DeviceStatus(each[0], REPLACED, "") for each in waiting if each[1] in past}


def _is_past(deployment_id: str, deployments: DeploymentService) -> bool:
    try:
        return not deployments.is_latest(deployment_id)
    except (UnavailableError, NotFoundError):  # a deployment that was just made may not be known everywhere yet
        return False


def _listed(separator: str, names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAME_COUNT_MAX} more" if len(names) > NAME_COUNT_MAX else ""
    return separator.join(names[:NAME_COUNT_MAX]) + rest


def _status(thing_name: str, deployment_id: str, deployments: DeploymentService) -> DeviceStatus:
    try:
        for entry in deployments.effective(thing_name):
            if entry["deploymentId"] == deployment_id:
                return DeviceStatus(thing_name, entry["coreDeviceExecutionStatus"], _reason(entry))
    except UnavailableError as error:  # throttled, or the network is gone for a while: the deadline is the caller's
        return DeviceStatus(thing_name, UNSEEN, str(error))
    except DeniedError as error:
        raise DeniedError(f"the deployment goes on, but {error}", f"{error.remedy} {WAIT_AGAIN}") from error
    return DeviceStatus(thing_name, UNSEEN, "")


def _reason(entry: Mapping[str, Any]) -> str:
    stack = entry.get("statusDetails", {}).get("errorStack", [])
    return ": ".join(part for part in (entry.get("reason", ""), ", ".join(stack)) if part)
