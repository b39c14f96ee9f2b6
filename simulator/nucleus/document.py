"""A deployment document, as an IoT Job carries it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.nucleus.errors import DocumentError


@dataclass(frozen=True, slots=True)
class Wanted:
    """One root component of a deployment; ``merge`` and ``reset`` are ``None`` where the document has none."""

    requirement: str
    merge: Mapping[str, Any] | None = None
    reset: tuple[str, ...] | None = None

    @property
    def changes_configuration(self) -> bool:
        """Whether there is a configurationUpdate at all."""
        return self.merge is not None or self.reset is not None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a device is asked to become.

    Attributes:
        target: ``thinggroup/<name>`` or ``thing/<name>``, from the configuration's ARN.
        at_ms: when it was made: the time of its configuration merges.
        wants_rollback: its failureHandlingPolicy (which Lite does not read).
    """

    deployment_id: str
    configuration_arn: str
    target: str
    components: Mapping[str, Wanted]
    at_ms: int
    wants_rollback: bool = True

    @property
    def trigger(self) -> str:
        """Of the fleet-status message that follows it."""
        return "THING_GROUP_DEPLOYMENT" if self.target.startswith("thinggroup/") else "THING_DEPLOYMENT"


def parse_deployment(document: object, now_ms: int) -> Deployment:
    """Decode.

    Args:
        document: the job document.
        now_ms: stands for a missing creationTimestamp.

    Raises:
        DocumentError: naming the field.
    """
    fields = _mapping(document, "the job document")
    arn = _text(fields, "configurationArn")
    components = _mapping(fields.get("components"), "components")
    return Deployment(
        deployment_id=_text(fields, "deploymentId"),
        configuration_arn=arn,
        target=arn.split(":configuration:", 1)[-1].rsplit(":", 1)[0],
        components={name: _wanted(name, value) for name, value in components.items()},
        at_ms=int(fields.get("creationTimestamp") or now_ms),
        wants_rollback=fields.get("failureHandlingPolicy", "ROLLBACK") == "ROLLBACK",
    )


def _wanted(name: str, value: object) -> Wanted:
    fields = _mapping(value, f"components.{name}")
    update = fields.get("configurationUpdate")
    requirement = _text(fields, "version", f"components.{name}.version")
    if update is None:
        return Wanted(requirement)
    update = _mapping(update, f"components.{name}.configurationUpdate")
    merge, reset = update.get("merge"), update.get("reset")
    if isinstance(merge, str):  # CreateDeployment's own form, in case it comes through as it was given
        try:
            merge = json.loads(merge)
        except ValueError as error:
            raise DocumentError(f"components.{name}.configurationUpdate.merge is not JSON") from error
    if reset is not None and not (isinstance(reset, list) and all(isinstance(entry, str) for entry in reset)):
        raise DocumentError(f"components.{name}.configurationUpdate.reset must be a list of JSON pointers")
    if bad := [pointer for pointer in reset or () if pointer and not pointer.startswith("/")]:
        raise DocumentError(
            f"components.{name}.configurationUpdate.reset: {bad[0]!r} is no JSON pointer",
            "Begin it with a slash; the empty string is the whole configuration.",
        )
    return Wanted(
        requirement,
        None if merge is None else _mapping(merge, f"components.{name}.configurationUpdate.merge"),
        None if reset is None else tuple(reset),
    )


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DocumentError(f"{where} must be an object")
    return value


def _text(fields: Mapping[str, Any], name: str, where: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise DocumentError(f"{where or name} must be a non-empty string")
    return value
