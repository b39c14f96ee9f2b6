"""Hypothesis strategies for every contract: values as a careful writer makes them, with unknown fields at every level."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from edge_component.contracts.activation import OUTCOMES, ActivationEvent
from edge_component.contracts.admin import COMMANDS, Acknowledgement, Command
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.codec import INTEGER_MAX
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.fastpath import Failure, Hello, Open, Opened, Region, Welcome
from edge_component.contracts.heartbeat import HEALTH, MODEL_STATES, Heartbeat, ModelRef, OutboxState, ServedModel
from edge_component.contracts.manifest import (
    DTYPES,
    NAN_POLICIES,
    OUTPUT_KINDS,
    PLATFORMS,
    BundledFile,
    Caps,
    Feature,
    GoldenTest,
    Manifest,
    TensorSpec,
    WatchedOutput,
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
from edge_component.contracts.telemetry import COUNT_MAX, ColumnCounts, ServiceCounts, TelemetryWindow
from edge_component.contracts.topics import KINDS, Address

unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.datetimes(min_value=datetime(1, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis wants it naive
naturals = st.integers(0, INTEGER_MAX)
positives = st.integers(1, INTEGER_MAX)
counts = st.integers(0, COUNT_MAX)
finite = st.floats(allow_nan=False, allow_infinity=False)
versions = st.from_regex(r"(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})(-rc\.[0-9])?", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | unicode_text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(unicode_text, inner, max_size=2),
    max_leaves=4,
)
extras = st.dictionaries(st.text("xyz", min_size=1).map("future_".__add__), json_values, max_size=2)


def tables(values: st.SearchStrategy, size_max: int = 3) -> st.SearchStrategy:
    return st.dictionaries(unicode_text, values, max_size=size_max)


def tuples(values: st.SearchStrategy, size_max: int = 3) -> st.SearchStrategy:
    return st.lists(values, max_size=size_max).map(tuple)


models = st.builds(ModelRef, unicode_text, versions, digests, extras)
shares = st.floats(0, 1, exclude_min=True)
selectors = versions | st.sampled_from(["active", "previous"])
arms = st.lists(
    st.builds(Arm, selectors, st.integers(1, 1_000_000), extras), max_size=3, unique_by=lambda arm: arm.version
).map(tuple)
rules = st.builds(
    ModelRules,
    split=arms,
    shadow=st.none() | st.builds(ShadowRule, selectors, shares, extras),
    batch=st.none() | st.builds(BatchRule, st.integers(2, 65_536), st.integers(0, 1_000_000), extras),
    states=tuples(st.builds(StatePair, unicode_text, unicode_text, extras)),
    in_flight_max=st.none() | positives,
    queue_max=st.none() | naturals,
    extra=extras,
)
model_names = st.text("mnop", min_size=1, max_size=5)
route_tables = st.builds(
    RouteTable,
    revision=naturals,
    aliases=st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        model_names | st.builds("{}@{}".format, model_names, versions),
        max_size=3,
    ),
    models=st.dictionaries(model_names, rules, max_size=2),
    extra=extras,
)
routings = st.builds(
    RoutingReport,
    naturals,
    tuples(st.builds(ArmReport, versions, digests, finite, naturals, naturals, extras)),
    st.none() | st.builds(ShadowReport, versions, digests, naturals, naturals, naturals, naturals, finite, extras),
    extras,
)
served_models = st.builds(
    ServedModel,
    models,
    st.sampled_from(MODEL_STATES),
    moments,
    st.none() | models,
    naturals,
    naturals,
    st.none() | routings,
    extras,
)
heartbeats = st.builds(
    Heartbeat,
    runtime_version=versions,
    process_id=naturals,
    started_at=moments,
    boot_id=unicode_text,
    platform=st.sampled_from(PLATFORMS),
    models=tuples(served_models, 2),
    outbox=st.builds(OutboxState, naturals, naturals, naturals, unicode_text, extras),
    disk_free_bytes=naturals,
    rss_bytes=naturals,
    health=st.sampled_from(HEALTH),
    reasons=tuples(unicode_text),
    configuration=st.none() | tables(unicode_text),
    extra=extras,
)
column_counts = st.builds(ColumnCounts, tuples(counts, 64), naturals, naturals, naturals, naturals, extras)
service_counts = st.builds(ServiceCounts, naturals, naturals, tuples(counts, 41), tables(naturals), extras)
windows = st.builds(
    TelemetryWindow,
    model=models,
    baseline_id=st.just("") | digests,
    window_id=unicode_text,
    starts_at=moments,
    ends_at=moments,
    duration_ms=naturals,
    record_count=naturals,
    features=tables(column_counts),
    outputs=tables(column_counts),
    service=st.none() | service_counts,
    lost_count=naturals,
    part=naturals,
    part_count=positives,
    extra=extras,
)
activations = st.builds(
    ActivationEvent,
    attempt_id=unicode_text,
    outcome=st.sampled_from(OUTCOMES),
    model_name=unicode_text,
    candidate=st.none() | models,
    serving=st.none() | models,
    phase=unicode_text,
    code=unicode_text,
    message=unicode_text,
    duration_ms=naturals,
    extra=extras,
)
commands = st.builds(Command, st.sampled_from(COMMANDS), unicode_text, tables(json_values), positives, extras)
acknowledgements = st.builds(
    Acknowledgement, unicode_text, st.booleans(), tables(json_values), unicode_text, unicode_text, unicode_text, extras
)
baseline_columns = st.builds(
    BaselineColumn,
    name=unicode_text,
    edges=st.lists(finite, min_size=BIN_COUNT - 1, max_size=BIN_COUNT - 1).map(sorted).map(tuple),
    counts=st.lists(naturals, min_size=BIN_COUNT, max_size=BIN_COUNT).map(tuple),
    minimum=finite,
    maximum=finite,
    nan_count=naturals,
    infinite_count=naturals,
    zero_count=naturals,
    positive_rate=st.none() | st.lists(finite, min_size=BIN_COUNT, max_size=BIN_COUNT).map(tuple),
    extra=extras,
)
baselines = st.builds(
    Baseline,
    model_name=unicode_text,
    sample_count=naturals,
    features=tuples(baseline_columns, 1),
    outputs=tuples(baseline_columns, 1),
    performance=tables(finite),
    extra=extras,
)
tensors = st.builds(TensorSpec, unicode_text, st.sampled_from(DTYPES), tuples(st.integers(-1, INTEGER_MAX), 4), extras)
manifests = st.builds(
    Manifest,
    component_name=unicode_text,
    model_name=unicode_text,
    version=versions,
    release=positives,
    platform=st.sampled_from(PLATFORMS),
    created_at=moments,
    expires_at=moments,
    precision=unicode_text,
    opsets=tables(naturals),
    inputs=tuples(tensors, 2),
    outputs=tuples(tensors, 2),
    files=tables(st.builds(BundledFile, digests, naturals, extras), 2),
    golden=st.builds(GoldenTest, finite, finite, extras),
    features=tuples(st.builds(Feature, unicode_text, unicode_text, naturals, extras), 2),
    watched_outputs=tuples(
        st.builds(WatchedOutput, unicode_text, unicode_text, naturals, st.sampled_from(OUTPUT_KINDS), extras), 2
    ),
    nan_policy=st.sampled_from(NAN_POLICIES),
    caps=st.builds(Caps, positives, positives, extras),
    lineage=tables(json_values),
    extra=extras,
)
envelopes = st.builds(
    Envelope,
    kind=st.sampled_from(KINDS),
    thing_name=unicode_text,
    epoch=unicode_text,
    sequence=positives,
    recorded_at=moments,
    body=st.dictionaries(unicode_text, json_values, max_size=3),
    extra=extras,
)
addresses = st.builds(Address, st.from_regex(r"[A-Za-z0-9:_-]{1,128}", fullmatch=True), st.sampled_from(KINDS))

regions = st.builds(Region, tensors, naturals, naturals, extras)
hellos = st.builds(Hello, tuples(naturals), unicode_text, st.none() | naturals, extras)
welcomes = st.builds(Welcome, naturals, unicode_text, naturals, extras)
opens = st.builds(
    Open, unicode_text, tables(naturals), naturals, st.none() | unicode_text, st.none() | unicode_text, extras
)
openeds = st.builds(
    Opened,
    channel=st.integers(0, 0xFFFF),
    model=models,
    generation=st.integers(0, 0xFFFFFFFF),
    inputs=tuples(regions, 2),
    outputs=tuples(regions, 2),
    slot_count=positives,
    slot_bytes=naturals,
    nan_policy=st.sampled_from(NAN_POLICIES),
    extra=extras,
)
failures = st.builds(
    Failure, unicode_text, unicode_text, unicode_text, st.none() | naturals, st.none() | naturals, extras
)

CONTRACTS = {
    "message": (Envelope, envelopes),
    "heartbeat": (Heartbeat, heartbeats),
    "window": (TelemetryWindow, windows),
    "activation": (ActivationEvent, activations),
    "command": (Command, commands),
    "acknowledgement": (Acknowledgement, acknowledgements),
    "baseline": (Baseline, baselines),
    "bundle": (Manifest, manifests),
    "route-table": (RouteTable, route_tables),
    "fastpath-hello": (Hello, hellos),
    "fastpath-welcome": (Welcome, welcomes),
    "fastpath-open": (Open, opens),
    "fastpath-opened": (Opened, openeds),
    "fastpath-error": (Failure, failures),
}
"""Contract name (as in its ``schema`` field) to its class and a strategy for its values."""
