"""Values that the fleet's tests are made of."""

import base64
import json
from datetime import UTC, datetime, timedelta

from cloud.fleet.facts import ActivationFact, DeploymentStatusFact, HeartbeatFact, Origin, WindowFact
from cloud.fleet.order import to_ms
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState, ServedModel
from edge_component.contracts.telemetry import ColumnCounts, ServiceCounts, TelemetryWindow

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "a" * 64


def heartbeat(version: str = "1.0.0", process_id: int = 7, **changes: object) -> Heartbeat:
    served = ServedModel(ModelRef("weather", version, DIGEST), "serving", T0, answered_count=5)
    fields = {
        "runtime_version": "0.1.0", "process_id": process_id, "started_at": T0, "boot_id": "b1",
        "platform": "linux/x86_64", "models": (served,), "outbox": OutboxState(), "disk_free_bytes": 1, "rss_bytes": 2,
    }  # fmt: skip
    return Heartbeat(**{**fields, **changes})  # type: ignore[arg-type]


def origin(sequence: int, thing: str = "EWR", epoch: str = "e1", received_s: float | None = None) -> Origin:
    received_at = T0 + timedelta(seconds=sequence if received_s is None else received_s)
    return Origin(thing, epoch, sequence, T0 + timedelta(seconds=sequence), received_at)


def heartbeat_fact(sequence: int, version: str = "1.0.0", **where: object) -> HeartbeatFact:
    process_id = where.pop("process_id", 7)
    return HeartbeatFact(origin(sequence, **where), heartbeat(version, process_id))  # type: ignore[arg-type]


def rule_output(envelope: Envelope, thing_name: str | None = None, kind: str | None = None) -> str:
    return json.dumps(
        {
            "payload_b64": base64.b64encode(envelope.to_bytes()).decode(),
            "thing_name": thing_name or envelope.thing_name,
            "kind": kind or envelope.kind,
            "received_at_ms": to_ms(envelope.recorded_at),
        }
    )


def activation_fact(sequence: int, outcome: str = "activated", thing: str = "EWR") -> ActivationFact:
    model = ModelRef("weather", "1.0.0", DIGEST)
    return ActivationFact(
        origin(sequence, thing), ActivationEvent(f"attempt-{sequence}", outcome, "weather", model, model, "switch")
    )


def window_fact(
    sequence: int, window_id: str = "w1", part: int = 0, part_count: int = 1, thing: str = "EWR", **changes: object
) -> WindowFact:
    fields = {
        "model": ModelRef("weather", "1.0.0", DIGEST), "baseline_id": "b" * 64, "window_id": window_id,
        "starts_at": T0, "ends_at": T0 + timedelta(minutes=5), "duration_ms": 300_000, "record_count": 300,
        "features": {f"f{part}": ColumnCounts((1, 2, 3))}, "service": ServiceCounts() if part == 0 else None,
        "part": part, "part_count": part_count,
    }  # fmt: skip
    return WindowFact(origin(sequence, thing), TelemetryWindow(**{**fields, **changes}))  # type: ignore[arg-type]


def deployment_fact(status: str = "SUCCEEDED", at_s: int = 10, event_id: str = "ev1") -> DeploymentStatusFact:
    return DeploymentStatusFact(event_id, "EWR", "dep-1", status, "", (), (), T0 + timedelta(seconds=at_s))
