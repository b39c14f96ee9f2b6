"""Fleet-status messages: what a nucleus tells the cloud about itself. Pure.

Fields and triggers as measured on Lite 2.6.0. It may claim more than is true: a component's version is the recorded one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.nucleus.deployment import Verdict
from simulator.nucleus.document import Deployment
from simulator.nucleus.ports import Platform
from simulator.nucleus.profile import Profile
from simulator.nucleus.state import DeviceState

COMPLETE_TRIGGERS = frozenset({"NUCLEUS_LAUNCH", "CADENCE", "NETWORK_RECONFIGURE"})


def status_topic(thing_name: str) -> str:
    """Where they go."""
    return f"$aws/things/{thing_name}/greengrassv2/health/json"


@dataclass(frozen=True, slots=True)
class Speaker:
    """Whose status it is."""

    thing_name: str
    profile: Profile
    platform: Platform


def status_message(
    speaker: Speaker,
    state: DeviceState,
    states: Mapping[str, str],
    *,
    trigger: str,
    now_ms: int,
    deployment: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """One message.

    Args:
        speaker: whose.
        state: installed components and the sequence number, already the message's own.
        states: components' states in Greengrass's words.
        trigger: why it is sent.
        now_ms: since the epoch.
        deployment: what :func:`deployment_information` made, after a deployment.
    """
    components = _components(state, states)
    broken = any(component["status"] == "BROKEN" for component in components)
    return {
        "ggcVersion": speaker.profile.version,
        "platform": speaker.platform.os,
        "architecture": speaker.platform.architecture,
        "runtime": speaker.profile.runtime,
        "thing": speaker.thing_name,
        "sequenceNumber": state.status_sequence,
        "timestamp": now_ms,
        "messageType": "COMPLETE" if trigger in COMPLETE_TRIGGERS else "PARTIAL",
        "trigger": trigger,
        "overallDeviceStatus": "UNHEALTHY" if broken else "HEALTHY",
        "components": components,
        "deploymentInformation": dict(deployment or {}),
    }


def deployment_information(deployment: Deployment, verdict: Verdict) -> Mapping[str, Any]:
    """How a deployment ended. Lite gives no reason beyond this; the device's own log has it."""
    return {
        "status": verdict.job_status,
        "fleetConfigurationArnForStatus": deployment.configuration_arn,
        "deploymentId": deployment.deployment_id,
        "statusDetails": {"detailedStatus": verdict.detailed_status},
        "unchangedRootComponents": [],
    }


def _components(state: DeviceState, states: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "componentName": name,
            "version": component.version,
            "fleetConfigArns": component.fleet_configuration_arns,
            "isRoot": True,  # Lite says so of every component
            "status": states.get(name) or "INSTALLED",
        }
        for name, component in sorted(state.installed.items())
    ]
