"""What the API's answers look like, for OpenAPI and for those who read them. Strict: ``false`` is no number.

Answers are built by ``cloud.fleet.queries`` as plain dictionaries and sent as they are (validating each of them again
halves the requests a second); a test holds every answer against these models. Times are ISO 8601 in UTC with ``Z``.
"""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """No coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class ServedModel(Strict):
    """What a device's runtime verified and answers with."""

    model_name: str
    version: str
    digest: str
    state: str
    since_at: str
    previous_version: str | None


class WantedComponent(Strict):
    """What the latest deployments ask of a device; model name and digest are empty where not known.

    ``refused_version``: the newer version in whose place this one is asked for, since every device refused it; mostly empty.
    """

    component_name: str
    version: str
    deployment_id: str
    model_name: str
    digest: str
    refused_version: str


class DriftState(Strict):
    """The latest drift decision about a device."""

    decision_id: int
    model_name: str
    version: str
    level: str
    action: str
    sentence: str
    at: str


class Device(Strict):
    """A device in a list."""

    thing_name: str
    status: str
    status_sentence: str
    status_since_at: str
    last_seen_at: str | None
    runtime_version: str
    platform: str
    groups: list[str]
    models: list[ServedModel]
    wanted: list[WantedComponent]
    drift: DriftState | None


class Event(Strict):
    """One line of the fleet's history."""

    event_id: int
    at: str
    kind: str
    thing_name: str
    model_name: str
    version: str
    outcome: str
    sentence: str


class DeviceDeployment(Strict):
    """What Greengrass claims of one deployment on one device."""

    deployment_id: str
    status: str
    reason: str
    error_types: list[str]
    error_stack: list[str]
    changed_at: str


class DeviceDetail(Device):
    """Everything known of a device."""

    health: str
    reasons: list[str]
    process_id: int | None
    boot_id: str
    started_at: str | None
    first_seen_at: str
    recorded_at: str | None
    answered_count: int | None
    failed_count: int | None
    queued_count: int | None
    dropped_count: int | None
    disk_free_bytes: int | None
    rss_bytes: int | None
    installed: dict[str, str]
    deployments: list[DeviceDeployment]
    events: list[Event]


class Retraining(Strict):
    """The newest attempt to replace a model version: ``open``, ``running``, ``succeeded``, ``failed`` or ``stopped``.

    ``sentence`` says how it ended, and what comes next; it is empty until then.
    """

    incident_id: str
    attempt: int
    state: str
    sentence: str
    execution_arn: str
    opened_at: str
    ended_at: str | None


class ModelVersion(Strict):
    """A model version: on how many devices it serves and is wanted; ``is_retrained`` if drift opened an incident."""

    model_name: str
    version: str
    serving_count: int
    wanted_count: int
    is_retrained: bool
    retraining: Retraining | None


class Deployment(Strict):
    """A Greengrass deployment, with the number of devices by reported status."""

    deployment_id: str
    name: str
    target_arn: str
    components: dict[str, str]
    status: str
    created_at: str
    is_latest: bool
    device_statuses: dict[str, int]


class Streak(Strict):
    """Judgements in a row."""

    warn: int
    alarm: int


class DriftColumn(Strict):
    """One feature in a drift decision."""

    name: str
    absolute_distance: float | None
    absolute_p: float | None
    absolute_level: str
    absolute_streak: Streak
    relative_distance: float | None
    relative_p: float | None
    relative_level: str
    relative_streak: Streak
    peers_level: str
    chi_squared_v: float | None
    chi_squared_p: float | None
    stability_index: float | None


class Estimate(Strict):
    """Expected or realised metrics."""

    accuracy: float | None
    log_loss: float | None
    auc: float | None
    accuracy_se: float | None
    log_loss_se: float | None
    record_count: int


class Performance(Strict):
    """A window's performance beside the baseline's."""

    source: str
    output: str
    baseline: Estimate
    window: Estimate
    unsupported_ratio: float | None
    unsupported_feature: str


class DriftDecision(Strict):
    """A drift decision."""

    decision_id: int
    at: str
    thing_name: str
    model_name: str
    version: str
    starts_at: str
    ends_at: str
    level: str
    action: str
    sentence: str
    record_count: int
    peer_record_count: int
    has_dropped: bool
    performance: Performance | None
    columns: list[DriftColumn]


class DevicePage(Strict):
    """A stretch of devices."""

    items: list[Device]
    next_cursor: str | None


class ModelPage(Strict):
    """A stretch of model versions."""

    items: list[ModelVersion]
    next_cursor: str | None


class DeploymentPage(Strict):
    """A stretch of deployments."""

    items: list[Deployment]
    next_cursor: str | None


class EventPage(Strict):
    """A stretch of history."""

    items: list[Event]
    next_cursor: str | None


class DriftPage(Strict):
    """A stretch of drift decisions."""

    items: list[DriftDecision]
    next_cursor: str | None


class Retention(Strict):
    """One kind of history: kept for so many days, from when its oldest is, and how many rows go in the next passes.

    ``kind``: of an event, or a drift decision's level; else empty. ``due_count`` ends at 10,000.
    """

    table: str
    kind: str
    days: int
    oldest_at: str | None
    due_count: int


class Store(Strict):
    """The fleet's database: its file, what of it is free to be used again, and the disk that it lies on."""

    file_bytes: int
    free_bytes: int
    disk_free_bytes: int
    retention: list[Retention]


class Loop(Strict):
    """One of the service's own loops; ``trouble`` is its latest failure, empty while all is well."""

    name: str
    trouble: str


class Healthz(Strict):
    """The service itself: ``ok`` or ``degraded``; without the token, where one is configured, this word alone."""

    status: str
    schema_version: int | None = None
    counters: dict[str, int] | None = None
    loops: list[Loop] | None = None
