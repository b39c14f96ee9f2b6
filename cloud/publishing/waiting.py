"""Wait for what each device says of a deployment, and turn it into an answer or an error.

The failure this exists for: a command that answers "created" and leaves the operator to guess. A device's SUCCEEDED is
Greengrass's word all the same: what really serves is what the runtime reports (the fleet status API).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloud.errors import UnavailableError
from cloud.publishing.deploy import Deployed, DeploymentService, DeployPorts
from cloud.publishing.errors import DeploymentFailedError, DeploymentPendingError
from edge_component.contracts.codec import Document

SUCCEEDED = frozenset({"SUCCEEDED", "COMPLETED"})
FAILED = frozenset({"FAILED", "TIMED_OUT", "CANCELED", "REJECTED"})
UNSEEN = "WAITING"
"""Our word for a device that has not said anything about the deployment."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What one device says: Greengrass's effective status, or ``WAITING``; ``reason`` may be empty."""

    thing_name: str
    status: str
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether the device is done, well or badly."""
        return self.status in SUCCEEDED or self.status in FAILED

    def to_document(self) -> Document:
        """As JSON."""
        return {"thing_name": self.thing_name, "status": self.status, "reason": self.reason}


def wait_for_devices(
    deployed: Iterable[Deployed], ports: DeployPorts, deadline_s: float, pause_s: float = 1.0
) -> tuple[DeviceStatus, ...]:
    """Ask until every device of every target has a final status or the deadline passes; the last answers, by name.

    Who is done is not asked again: a thousand devices are a thousand calls a round, and AWS throttles. An answer that does
    not come ends nothing; it is the reason of a device that is still ``WAITING``.
    """
    expected = sorted({(thing, each.deployment_id) for each in deployed for thing in each.target.thing_names})
    deadline = ports.monotonic() + deadline_s
    known: dict[tuple[str, str], DeviceStatus] = {}
    while True:
        for thing, deployment_id in expected:
            if (thing, deployment_id) not in known or not known[thing, deployment_id].is_final:
                known[thing, deployment_id] = _status(thing, deployment_id, ports.deployments)
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
        DeploymentPendingError: none failed, but some have not finished.
    """
    known = tuple(statuses)
    failed = [status for status in known if status.status in FAILED]
    pending = [status for status in known if not status.is_final]
    if failed:
        details = "; ".join(f"{status.thing_name}: {status.status} {status.reason}".rstrip() for status in failed)
        raise DeploymentFailedError(
            f"{len(failed)} of {len(known)} devices failed: {details}",
            "Each goes on serving what it served before. `edgewright get events` has the runtime's own reason; correct it, "
            "then deploy with --again. Later deployments leave behind a model's version that every device refused.",
        )
    if pending:
        names = ", ".join(f"{status.thing_name} ({status.status})" for status in pending)
        raise DeploymentPendingError(
            f"{len(pending)} of {len(known)} devices have not finished: {names}",
            "The deployment goes on; run the same command again to go on waiting.",
        )


def _status(thing_name: str, deployment_id: str, deployments: DeploymentService) -> DeviceStatus:
    try:
        for entry in deployments.effective(thing_name):
            if entry["deploymentId"] == deployment_id:
                return DeviceStatus(thing_name, entry["coreDeviceExecutionStatus"], _reason(entry))
    except UnavailableError as error:  # throttled, or the network is gone for a while: the deadline is the caller's
        return DeviceStatus(thing_name, UNSEEN, str(error))
    return DeviceStatus(thing_name, UNSEEN, "")


def _reason(entry: Mapping[str, Any]) -> str:
    stack = entry.get("statusDetails", {}).get("errorStack", [])
    return ": ".join(part for part in (entry.get("reason", ""), ", ".join(stack)) if part)
