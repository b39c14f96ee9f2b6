"""One queue body in, one typed fact or one rejection out.

The failures this exists for: a device that speaks in another's name, and one malformed message that stops a queue. So
identity is the thing name in the rule's topic (which the IoT policy ties to the connection's certificate), a payload
that names another thing is rejected, and nothing in here raises on bad input: a rejection is a value.

Pure. The shell that reads the queue is ``consumer``; duplicates and order are the store's (``store``).
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloud.fleet.facts import (
    ActivationFact,
    DeploymentStatusFact,
    Fact,
    HeartbeatFact,
    Origin,
    Rejection,
    WindowFact,
)
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.codec import Fields, as_text, from_bytes
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.errors import ContractError, MalformedError, TooLargeError, UnsupportedVersionError
from edge_component.contracts.heartbeat import Heartbeat
from edge_component.contracts.telemetry import TelemetryWindow
from edge_component.contracts.topics import KINDS, THING_NAME_PATTERN

BODY_BYTES_MAX = 262_144
"""An SQS message is at most 256 KiB (AWS SQS quotas)."""

RECEIVED_MS_MAX = 7_258_118_400_000
"""The year 2200: AWS IoT's clock says no such thing, and what is reckoned from it stays within the calendar."""

DEPLOYMENT_DETAIL_TYPE = "Greengrass V2 Effective Deployment Status Change"
DEPLOYMENT_SOURCE = "aws.greengrass"


def read_body(body: str) -> Fact | Rejection:
    """Decode one SQS body: an IoT rule's output, or an EventBridge event about a deployment."""
    try:
        document = from_bytes(body.encode(), BODY_BYTES_MAX)
    except (ContractError, UnicodeEncodeError) as error:
        return Rejection("not-json", f"The body is not one JSON object: {error}.")
    if "detail-type" in document:
        return _read_deployment(document)
    if "payload_b64" in document:
        return _read_message(document)
    return Rejection("unknown-shape", "The body is neither an IoT rule's output nor an EventBridge event.")


def _read_message(document: Mapping[str, Any]) -> Fact | Rejection:
    try:
        fields = Fields(document)
        thing_name, kind = fields.text("thing_name"), fields.choice("kind", KINDS)
        received_at = _from_ms(fields.integer("received_at_ms", maximum=RECEIVED_MS_MAX))
        payload = _decoded(fields.text("payload_b64"))
    except ContractError as error:
        return Rejection("bad-rule-output", f"The IoT rule's output is malformed: {error}.")
    if not THING_NAME_PATTERN.fullmatch(thing_name):
        return Rejection("bad-thing-name", f"{thing_name[:128]!r} cannot be an AWS IoT thing name.")
    try:
        return _read_payload(payload, thing_name, kind, received_at)
    except UnsupportedVersionError as error:
        return Rejection("unsupported-version", f"Newer or foreign message: {error}.", thing_name)
    except TooLargeError as error:
        return Rejection("too-large", f"The payload is too large: {error}.", thing_name)
    except ContractError as error:
        return Rejection("malformed", f"The {kind} is malformed: {error}.", thing_name)


def _read_payload(payload: bytes, thing_name: str, kind: str, received_at: datetime) -> Fact | Rejection:
    envelope = Envelope.from_bytes(payload)
    if envelope.thing_name != thing_name:
        return Rejection(
            "identity", f"{thing_name} sent a message that names {envelope.thing_name[:128]!r}.", thing_name
        )
    if envelope.kind != kind:
        return Rejection("kind-mismatch", f"A {envelope.kind} arrived on the topic for a {kind}.", thing_name)
    if not envelope.epoch:
        raise MalformedError("is empty", "epoch")
    origin = Origin(thing_name, envelope.epoch, envelope.sequence, envelope.recorded_at, received_at)
    return _fact(origin, envelope)


def _fact(origin: Origin, envelope: Envelope) -> Fact:
    if envelope.kind == "heartbeat":
        return HeartbeatFact(origin, Heartbeat.read(envelope.body))
    if envelope.kind == "window":
        return WindowFact(origin, _checked(TelemetryWindow.read(envelope.body)))
    return ActivationFact(origin, ActivationEvent.read(envelope.body))


def _checked(window: TelemetryWindow) -> TelemetryWindow:
    if window.part >= window.part_count:
        raise MalformedError(f"{window.part} is not below part_count {window.part_count}", "part")
    return window


def _read_deployment(document: Mapping[str, Any]) -> Fact | Rejection:
    try:
        fields = Fields(document)
        source, detail_type = fields.text("source"), fields.text("detail-type")
        if (source, detail_type) != (DEPLOYMENT_SOURCE, DEPLOYMENT_DETAIL_TYPE):
            return Rejection("unknown-event", f"Nobody here reads {detail_type!r} from {source!r}.")
        detail = fields.nested("detail", Fields)
        details = detail.optional("statusDetails", lambda name: detail.nested(name, Fields))
        return DeploymentStatusFact(
            event_id=fields.text("id"),
            thing_name=_core_device(fields),
            deployment_id=detail.text("deploymentId"),
            status=detail.text("coreDeviceExecutionStatus"),
            reason=detail.optional("reason", detail.text) or "",
            error_types=_texts(details, "errorTypes"),
            error_stack=_texts(details, "errorStack"),
            changed_at=fields.moment("time"),
        )
    except ContractError as error:
        return Rejection("malformed-event", f"The deployment event is malformed: {error}.")


def _core_device(fields: Fields) -> str:
    for arn in fields.items("resources", as_text):
        name = arn.partition(":coreDevices:")[2]  # the first: a name may have colons of its own
        if THING_NAME_PATTERN.fullmatch(name):
            return name
    raise MalformedError("names no core device", "resources")


def _texts(fields: Fields | None, name: str) -> tuple[str, ...]:
    if fields is None:
        return ()
    return fields.optional(name, lambda present: fields.items(present, as_text)) or ()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("is not base64", "payload_b64") from error


def _from_ms(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
