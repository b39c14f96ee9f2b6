"""Core devices as they report themselves: fleet-status messages in, one picture of each device out.

The failure this exists for: believing a late message. A device's reports carry a time; an older one never overwrites a
newer. Malformed reports are refused and change nothing.

Message format: measured on Greengrass Lite 2.6.0 and read in the Java nucleus (``greengrassv2/health/json``).
Not thread-safe: its owner locks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from simulator.errors import SimulatorError

TOPIC_FILTER = "$aws/things/+/greengrassv2/health/json"
GONE = frozenset({"UNINSTALLED", "NONE"})


class MalformedReportError(SimulatorError):
    """A fleet-status message that cannot be read; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A component on a device, in the device's words."""

    name: str
    version: str
    status: str
    is_root: bool
    reported_at: datetime
    changed_at: datetime
    configuration_arns: tuple[str, ...] = ()
    details: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a report says about a deployment.

    Attributes:
        deployment_id, configuration_arn: which; either may be empty.
        status: the device's status word.
        reason: its explanation, ``detailedStatus`` at least.
        details: ``errorStack`` and ``errorTypes`` where given.
    """

    deployment_id: str
    configuration_arn: str
    status: str
    reason: str
    details: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Report:
    """One fleet-status message."""

    thing_name: str
    at: datetime
    is_complete: bool
    core_version: str
    platform: str
    architecture: str
    runtime: str
    is_healthy: bool
    components: tuple[Mapping[str, Any], ...]
    outcome: Outcome | None


@dataclass(slots=True)
class CoreDevice:
    """A core device: its last report and what is installed on it."""

    report: Report
    installed: dict[str, Installed] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def parse_report(thing_name: str, payload: bytes) -> Report:
    """Read a fleet-status message. The thing is named by the topic; another name inside is an error.

    Raises:
        MalformedReportError: naming the field.
    """
    try:
        body = json.loads(payload)
    except ValueError as error:
        raise MalformedReportError(f"fleet status of {thing_name} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise MalformedReportError(f"fleet status of {thing_name} is not an object")
    if body.get("thing") != thing_name:
        raise MalformedReportError(f"thing: {body.get('thing')!r} published on the topic of {thing_name}")
    timestamp, components = body.get("timestamp"), body.get("components", [])
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        raise MalformedReportError(f"timestamp: {timestamp!r} is not in milliseconds since 1970")
    if not isinstance(components, list) or not all(_is_component(each) for each in components):
        raise MalformedReportError("components: must be a list of objects with componentName, version and status")
    return Report(
        thing_name,
        datetime.fromtimestamp(timestamp / 1000, UTC),
        body.get("messageType", "COMPLETE") == "COMPLETE",
        str(body.get("ggcVersion", "")),
        str(body.get("platform", "")),
        str(body.get("architecture", "")),
        str(body.get("runtime", "") or "aws_nucleus_classic"),
        body.get("overallDeviceStatus") == "HEALTHY",
        tuple(components),
        _outcome(body.get("deploymentInformation")),
    )


def _is_component(value: object) -> bool:
    names = ("componentName", "version", "status")
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)


def _outcome(value: object) -> Outcome | None:
    if not isinstance(value, dict):
        return None
    details = value.get("statusDetails")
    details = details if isinstance(details, dict) else {}
    texts = {
        name: [str(entry) for entry in details[name]]
        for name in ("errorStack", "errorTypes")
        if isinstance(details.get(name), list)
    }
    reason = str(details.get("failureCause") or details.get("detailedStatus") or "")
    deployment_id, arn = value.get("deploymentId"), value.get("fleetConfigurationArnForStatus")
    return Outcome(str(deployment_id or ""), str(arn or ""), str(value.get("status") or ""), reason, texts)


class DeviceBook:
    """All core devices: a thing becomes one with its first report."""

    def __init__(self) -> None:
        """No device."""
        self._devices: dict[str, CoreDevice] = {}

    def take(self, report: Report) -> CoreDevice | None:
        """Update a device by its report; ``None`` for one that is older than what is known."""
        device = self._devices.get(report.thing_name)
        if device is not None and report.at < device.report.at:
            return None
        if device is None:
            device = self._devices[report.thing_name] = CoreDevice(report)
        earlier = device.installed
        reported = {
            each["componentName"]: _installed(each, report, earlier.get(each["componentName"]))
            for each in report.components
        }
        merged = reported if report.is_complete else {**earlier, **reported}
        device.installed = {name: each for name, each in merged.items() if each.status not in GONE}
        device.report = report
        return device

    def get(self, thing_name: str) -> CoreDevice | None:
        """A core device."""
        return self._devices.get(thing_name)

    def all(self) -> Sequence[CoreDevice]:
        """Every core device, by thing name."""
        return [device for _, device in sorted(self._devices.items())]

    def delete(self, thing_name: str) -> None:
        """Forget a core device; its next report makes it one again."""
        self._devices.pop(thing_name, None)


def _installed(given: Mapping[str, Any], report: Report, earlier: Installed | None) -> Installed:
    same = earlier is not None and (earlier.version, earlier.status) == (given["version"], given["status"])
    arns = given.get("fleetConfigArns")
    return Installed(
        given["componentName"],
        given["version"],
        given["status"],
        given.get("isRoot") is True,
        report.at,
        earlier.changed_at if same and earlier is not None else report.at,
        tuple(map(str, arns)) if isinstance(arns, list) else (),
        str(given.get("statusDetails", {}).get("statusReason", ""))
        if isinstance(given.get("statusDetails"), dict)
        else "",
    )
