"""Rows of the fleet database as JSON-ready dictionaries, in the shapes that ``cloud.api.schemas`` documents.

No decisions and no paging (``queries``); each function reads within its caller's view.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from cloud.fleet.database import from_ms
from edge_component.contracts.codec import format_moment

Json = dict[str, Any]
HISTORY_COUNT = 20
"""Events and deployments shown with one device."""

TIMES_KEPT_COUNT = 8_192
"""Formatted times kept: half of a page's work, and the next page of a fleet asks for many of the same."""


def summaries(connection: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Json]:
    """Devices as a list shows them; ``rows`` are of ``device`` with its heartbeat."""
    names = json.dumps([row["thing_name"] for row in rows])
    models = _grouped(connection, "device_model", names)
    wanted = _grouped(connection, "wanted", names)
    groups = _grouped(connection, "device_group", names)
    drift = _latest_drift(connection, names)
    return [
        {
            "thing_name": (name := row["thing_name"]),
            "status": row["status"],
            "status_sentence": row["status_sentence"],
            "status_since_at": moment(row["status_since_ms"]),
            "last_seen_at": moment(row["received_at_ms"]),
            "runtime_version": row["runtime_version"],
            "platform": row["platform"],
            "groups": [group["group_name"] for group in groups.get(name, ())],
            "models": [_model(model) for model in models.get(name, ())],
            "wanted": [_wanted(one) for one in wanted.get(name, ())],
            "drift": drift.get(name),
        }
        for row in rows
    ]


def _grouped(connection: sqlite3.Connection, table: str, names: str) -> dict[str, list[sqlite3.Row]]:
    found: dict[str, list[sqlite3.Row]] = {}
    query = f"SELECT * FROM {table} WHERE thing_name IN (SELECT value FROM json_each(?))"  # noqa: S608 - a table of ours
    for row in connection.execute(query, (names,)):
        found.setdefault(row["thing_name"], []).append(row)
    return found


def _model(row: sqlite3.Row) -> Json:
    return {
        "model_name": row["model_name"],
        "version": row["version"],
        "digest": row["digest"],
        "state": row["state"],
        "since_at": moment(row["since_at_ms"]),
        "previous_version": row["previous_version"],
    }


def _wanted(row: sqlite3.Row) -> Json:
    keys = ("component_name", "version", "deployment_id", "model_name", "digest", "refused_version")
    return {key: row[key] for key in keys}


def _latest_drift(connection: sqlite3.Connection, names: str) -> dict[str, Json]:
    rows = connection.execute(
        "SELECT decision_id, at_ms, thing_name, model_name, version, level, action, sentence"
        " FROM json_each(?) n CROSS JOIN decision"
        " ON decision_id = (SELECT max(decision_id) FROM decision WHERE thing_name = n.value)",
        (names,),
    )
    kept = ("decision_id", "model_name", "version", "level", "action", "sentence")
    return {row["thing_name"]: {key: row[key] for key in kept} | {"at": moment(row["at_ms"])} for row in rows}


def details(connection: sqlite3.Connection, row: sqlite3.Row) -> Json:
    """What one device's own answer has beyond its summary."""
    name = (row["thing_name"],)
    deployments = connection.execute(
        "SELECT * FROM device_deployment WHERE thing_name = ? ORDER BY changed_at_ms DESC LIMIT ?",
        (*name, HISTORY_COUNT),
    )
    events = connection.execute(
        "SELECT * FROM event WHERE thing_name = ? ORDER BY event_id DESC LIMIT ?", (*name, HISTORY_COUNT)
    )
    installed = connection.execute("SELECT component_name, version FROM installed WHERE thing_name = ?", name)
    counts = ("answered_count", "failed_count", "queued_count", "dropped_count", "disk_free_bytes", "rss_bytes")
    return {
        "health": row["health"],
        "reasons": json.loads(row["reasons"]),
        "process_id": row["process_id"],
        "boot_id": row["boot_id"],
        "started_at": moment(row["started_at_ms"]),
        "first_seen_at": moment(row["first_seen_at_ms"]),
        "recorded_at": moment(row["recorded_at_ms"]),
        **{name: row[name] for name in counts},
        "installed": {one["component_name"]: one["version"] for one in installed},
        "deployments": [_device_deployment(one) for one in deployments],
        "events": [event_of(one) for one in events],
    }


def _device_deployment(row: sqlite3.Row) -> Json:
    return {
        "deployment_id": row["deployment_id"],
        "status": row["status"],
        "reason": row["reason"],
        "error_types": json.loads(row["error_types"]),
        "error_stack": json.loads(row["error_stack"]),
        "changed_at": moment(row["changed_at_ms"]),
    }


def deployment_of(connection: sqlite3.Connection, row: sqlite3.Row) -> Json:
    """A deployment, with the number of devices by reported status."""
    counts: Iterable[sqlite3.Row] = connection.execute(
        "SELECT status, count(*) FROM device_deployment WHERE deployment_id = ? GROUP BY status ORDER BY status",
        (row["deployment_id"],),
    )
    return {
        "deployment_id": row["deployment_id"],
        "name": row["name"],
        "target_arn": row["target_arn"],
        "components": json.loads(row["components"]),
        "status": row["status"],
        "created_at": moment(row["created_at_ms"]),
        "is_latest": bool(row["is_latest"]),
        "device_statuses": {count[0]: count[1] for count in counts},
    }


def model_version_of(connection: sqlite3.Connection, row: sqlite3.Row) -> Json:
    """A model version, with the newest attempt to retrain it."""
    attempt = connection.execute(
        "SELECT * FROM incident WHERE model_name = ? AND version = ? ORDER BY attempt DESC LIMIT 1",
        (row["model_name"], row["version"]),
    ).fetchone()
    kept = ("incident_id", "attempt", "state", "sentence", "execution_arn")
    retraining = attempt and {name: attempt[name] for name in kept} | {
        "opened_at": moment(attempt["opened_at_ms"]),
        "ended_at": moment(attempt["ended_at_ms"]),
    }
    return dict(row) | {"is_retrained": bool(row["is_retrained"]), "retraining": retraining}


def event_of(row: sqlite3.Row) -> Json:
    """One line of history."""
    names = ("event_id", "kind", "thing_name", "model_name", "version", "outcome", "sentence")
    return {name: row[name] for name in names} | {"at": moment(row["at_ms"])}


def decision_of(row: sqlite3.Row) -> Json:
    """A drift decision; its document's fields beside the row's."""
    document = json.loads(row["document"])
    names = ("decision_id", "thing_name", "model_name", "version", "level", "action", "sentence")
    return {name: row[name] for name in names} | {
        "at": moment(row["at_ms"]),
        "starts_at": moment(row["starts_at_ms"]),
        "ends_at": moment(row["ends_at_ms"]),
        "record_count": document["record_count"],
        "peer_record_count": document["peer_record_count"],
        "has_dropped": document["has_dropped"],
        "performance": document["performance"],
        "columns": document["columns"],
    }


@lru_cache(maxsize=TIMES_KEPT_COUNT)
def moment(at_ms: int | None) -> str | None:
    """A stored time as ISO 8601 with microseconds and ``Z``."""
    return None if at_ms is None else format_moment(from_ms(at_ms))
