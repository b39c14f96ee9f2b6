"""Released bytes are kept for ever: every file under golden/ is read by today's code, and comes back byte for byte.

A file here is never changed or removed. A new field gets a new file in the same folder; a new major version gets its own
folder, and a reader for the old one stays. ``SHA256SUMS`` is what makes an accidental edit fail.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.admin import Acknowledgement, Command
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn, baseline_id
from edge_component.contracts.codec import from_bytes, to_bytes
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.fastpath import (
    ANSWER_HEAD,
    MODEL_NAMED,
    REQUEST_HEAD,
    Failure,
    Hello,
    Kind,
    Open,
    Opened,
    Region,
    Welcome,
    pack_control,
    pack_failed,
)
from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState, ServedModel
from edge_component.contracts.manifest import (
    BundledFile,
    Caps,
    Feature,
    GoldenTest,
    Manifest,
    TensorSpec,
    WatchedOutput,
    bundle_digest,
)
from edge_component.contracts.routes import (
    Arm,
    ArmReport,
    BatchRule,
    ModelRules,
    RouteTable,
    RoutingReport,
    ShadowReport,
    ShadowRule,
    StatePair,
)
from edge_component.contracts.telemetry import ColumnCounts, ServiceCounts, TelemetryWindow

GOLDEN = Path(__file__).parent / "golden" / "v1"
AT = datetime(2026, 3, 1, 6, 30, 0, 123_456, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 6, 35, 0, 123_456, tzinfo=UTC)
OLD = ModelRef("weather", "1.0.0", "0" * 64)
NEW = ModelRef("weather", "1.1.0", "1" * 64)
FUTURE = {"from_the_future": {"kept": [1, 2.5, "é", None]}}

HEARTBEAT = Heartbeat(
    runtime_version="0.1.0",
    process_id=4711,
    started_at=AT,
    boot_id="0c5ea5d4-8a3f-4b4e-9d9a-0d6f8f8c2b11",
    platform="linux/x86_64",
    models=(ServedModel(NEW, "probation", LATER, OLD, 1000, 3),),
    outbox=OutboxState(7, 12_345, 2),
    disk_free_bytes=1_000_000_000,
    rss_bytes=60_000_000,
    health="degraded",
    reasons=("the outbox dropped 2 messages",),
)
WINDOW = TelemetryWindow(
    model=NEW,
    baseline_id="b" * 64,
    window_id="w-1",
    starts_at=AT,
    ends_at=LATER,
    duration_ms=300_000,
    record_count=1003,
    features={"temp": ColumnCounts(tuple(range(64)), 1, 2, 3, 4), "humid": ColumnCounts((0,) * 63 + (300,))},
    outputs={"low_visibility": ColumnCounts((2**53 - 1, *(0,) * 63))},
    service=ServiceCounts(1000, 3, (*(0,) * 5, 1000, *(0,) * 35), {"nan-input": 3}),
    lost_count=9,
    part=0,
    part_count=2,
)
ACTIVATION = ActivationEvent(
    "a-1",
    "refused",
    "weather",
    NEW,
    OLD,
    "golden",
    "golden-mismatch",
    "output 3 is 0.5 away from its golden value",
    812,
)
MANIFEST = Manifest(
    component_name="com.edgewright.model.Weather",
    model_name="weather",
    version="1.1.0",
    release=2,
    platform="linux/x86_64",
    created_at=AT,
    expires_at=datetime(2027, 3, 1, tzinfo=UTC),
    precision="int8",
    opsets={"": 17, "com.microsoft": 1},
    inputs=(TensorSpec("input", "float32", (-1, 2)),),
    outputs=(TensorSpec("probability", "float32", (-1, 1)),),
    files={"model.onnx": BundledFile("2" * 64, 12_345), "golden.npz": BundledFile("3" * 64, 678)},
    golden=GoldenTest(1e-3, 1e-5),
    features=(Feature("temp", "input", 0), Feature("humid", "input", 1)),
    watched_outputs=(WatchedOutput("low_visibility", "probability", 0, "probability"),),
    nan_policy="accept",
    caps=Caps(60_000, 2_000_000_000),
    lineage={"training_job_arn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/weather-1"},
)
BASELINE = Baseline(
    "weather",
    640,
    features=(
        BaselineColumn("temp", tuple(i / 2 for i in range(BIN_COUNT - 1)), (10,) * BIN_COUNT, -4.5, 40.0, 1, 2, 3),
    ),
    outputs=(
        BaselineColumn(
            "low_visibility",
            tuple(i / 64 for i in range(1, BIN_COUNT)),
            (10,) * BIN_COUNT,
            0.001,
            0.999,
            positive_rate=tuple(i / 64 for i in range(BIN_COUNT)),
        ),
    ),
    performance={"log_loss": 0.209, "auc": 0.93},
)
VALUES = {
    "heartbeat.json": HEARTBEAT,
    "heartbeat-first.json": Heartbeat("0.1.0", 1, AT, "boot", "linux/aarch64", (), OutboxState(), 0, 0),
    "heartbeat-configured.json": Heartbeat(
        "0.2.0", 1, AT, "boot", "linux/x86_64", (), OutboxState(), 0, 0, configuration={"/heartbeat_s": "0f39bb26"}
    ),
    "heartbeat-unkept.json": Heartbeat(
        "0.2.0", 1, AT, "boot", "linux/x86_64", (), OutboxState(0, 0, 3, "the outbox cannot be written"), 0, 0
    ),
    "heartbeat-later-minor.json": Heartbeat(
        "0.2.0",
        1,
        AT,
        "boot",
        "linux/aarch64",
        (ServedModel(ModelRef("weather", "1.0.0", "0" * 64, FUTURE), "serving", AT, extra=FUTURE),),
        OutboxState(extra=FUTURE),
        0,
        0,
        extra=FUTURE,
    ),
    "window.json": WINDOW,
    "window-second-part.json": TelemetryWindow(
        NEW, "b" * 64, "w-1", AT, LATER, 300_000, 1003, {"wind": ColumnCounts((1003,))}, part=1, part_count=2
    ),
    "activation-refused.json": ACTIVATION,
    "activation-unreadable.json": ActivationEvent("a-2", "refused", "weather", None, None, "receive", "not-a-zip", "…"),
    "command-route.json": Command("route", "r-2", {"table": {"schema": "edgewright.route-table/1"}}),
    "routes.json": RouteTable(
        revision=7,
        aliases={"stable": "weather@1.0.0"},
        models={
            "weather": ModelRules(
                split=(Arm("active", 90), Arm("previous", 10)),
                shadow=ShadowRule("1.0.0", 0.25),
                batch=BatchRule(16, 500),
                states=(StatePair("state", "stateN"),),
                in_flight_max=4,
                queue_max=0,
            )
        },
    ),
    "heartbeat-routing.json": Heartbeat(
        "0.2.0",
        1,
        AT,
        "boot",
        "linux/aarch64",
        (
            ServedModel(
                NEW,
                "serving",
                AT,
                OLD,
                100,
                1,
                RoutingReport(
                    7,
                    (ArmReport("1.1.0", "1" * 64, 0.9, 90, 1), ArmReport("1.0.0", "0" * 64, 0.1, 10, 0)),
                    ShadowReport("1.0.0", "0" * 64, 25, 24, 1, 0, 0.125),
                ),
            ),
        ),
        OutboxState(),
        0,
        0,
    ),
    "command-activate.json": Command(
        "activate", "r-1", {"bundle": "/b/Weather.zip", "component_name": "com.x", "version": "1.1.0"}, 55_000
    ),
    "acknowledgement-ok.json": Acknowledgement("r-1", ok=True, result=ACTIVATION.to_document()),
    "acknowledgement-refused.json": Acknowledgement("r-1", False, {}, "bad-signature", "It is not ours.", "Sign it."),
    "manifest.json": MANIFEST,
    "baseline.json": BASELINE,
    "message-heartbeat.json": Envelope("heartbeat", "station-jfk", "e-1", 42, AT, HEARTBEAT.to_document()),
    "message-window.json": Envelope("window", "station-jfk", "e-1", 43, AT, WINDOW.to_document()),
    "fastpath-hello.json": Hello((1,), "python"),
    "fastpath-welcome.json": Welcome(1, "0.1.0", 4711),
    "fastpath-open.json": Open("weather", {"input": 4_096}, 0),
    "fastpath-opened.json": Opened(
        channel=0,
        model=NEW,
        generation=2,
        inputs=(Region(TensorSpec("input", "float32", (-1, 2)), 0, 4_096),),
        outputs=(Region(TensorSpec("probability", "float32", (-1, 1)), 4_096, 65_536),),
        slot_count=2,
        slot_bytes=69_632,
    ),
    "fastpath-open-keyed.json": Open("weather", {"input": 4_096}, 0, "station-jfk", "gust-1"),
    "fastpath-overloaded.json": Failure("overloaded", "4 requests are computed and 8 wait", "", None, 25),
    "fastpath-error.json": Failure("answer-too-large", "output y takes 70000 bytes", "", 70_000),
}
PACKETS = {
    "fastpath-request.bin": REQUEST_HEAD.pack(Kind.REQUEST, 1, 0, 7, 250_000) + (3).to_bytes(4, "little") * 2,
    "fastpath-answer.bin": ANSWER_HEAD.pack(Kind.ANSWER, 0, 0, 7, 2, 41) + b"\3\0\0\0\1\0\0\0",
    "fastpath-answer-named.bin": ANSWER_HEAD.pack(Kind.ANSWER, MODEL_NAMED, 0, 8, 3, 40)
    + b"\3\0\0\0\1\0\0\0"
    + to_bytes(NEW.to_document()),
    "fastpath-failed.bin": pack_failed(0, 9, Failure("input-nan", "input holds NaN")),
    "fastpath-hello.bin": pack_control(Kind.HELLO, Hello((1,), "python").to_document()),
}
"""Whole messages of the fast path, for writers of clients in other languages."""


@pytest.mark.parametrize("name", VALUES)
def test_todays_code_reads_released_bytes_and_writes_the_same(name: str) -> None:
    released = (GOLDEN / name).read_bytes()
    value = type(VALUES[name]).read(from_bytes(released, 100_000))
    assert value == VALUES[name]
    assert to_bytes(value.to_document()) == released


@pytest.mark.parametrize("name", PACKETS)
def test_todays_code_packs_the_released_messages(name: str) -> None:
    assert (GOLDEN / name).read_bytes() == PACKETS[name]


def test_every_released_file_is_read_and_none_was_edited() -> None:
    sums = dict(reversed(line.split("  ")) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {*VALUES, *PACKETS} == {path.name for path in GOLDEN.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == digest, f"{name} was edited"


def test_a_released_message_leads_to_its_body() -> None:
    message = Envelope.from_bytes((GOLDEN / "message-window.json").read_bytes())
    assert TelemetryWindow.read(message.body) == WINDOW


def test_identities_are_of_the_bytes_as_released() -> None:
    assert bundle_digest((GOLDEN / "manifest.json").read_bytes()) == hashlib.sha256(MANIFEST.to_bytes()).hexdigest()
    assert baseline_id((GOLDEN / "baseline.json").read_bytes()) == hashlib.sha256(BASELINE.to_bytes()).hexdigest()
