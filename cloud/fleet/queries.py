"""Reading for the API: keyset pages over the fleet, every filter through an index in page order.

Rows in, plain JSON-ready dictionaries out (``cloud.api.schemas`` documents them). Names ascend; histories run from the
newest back. A page costs its rows, whatever the size of the fleet. Thread-safe; each call is one consistent reading.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

from cloud.errors import NotFoundError
from cloud.fleet import rows
from cloud.fleet.cursors import decode_cursor, encode_cursor
from cloud.fleet.database import Database
from cloud.fleet.schema import SCHEMA_VERSION

Json = dict[str, Any]
LIMIT_MAX = 500
LIMIT_DEFAULT = 50


class DeviceUnknownError(NotFoundError):
    """No device of that name has been heard of, or is targeted by a deployment."""

    code = "device-unknown"


@dataclass(frozen=True, slots=True)
class DeviceFilters:
    """Which devices; ``None`` is no matter."""

    status: str | None = None
    model: str | None = None
    version: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a list; ``next_cursor`` is ``None`` on the last page."""

    items: list[Json]
    next_cursor: str | None


class Queries:
    """What the API and the page read."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database

    def devices(self, filters: DeviceFilters, limit: int = LIMIT_DEFAULT, cursor: str | None = None) -> Page:
        """Devices by name.

        Raises:
            InvalidCursorError: not a cursor of this list.
        """
        after = str(decode_cursor(cursor, [str])[0]) if cursor else ""
        query, values = device_query(filters, after, limit + 1)
        with self._database.read() as connection:
            found = connection.execute(query, values).fetchall()
            items = rows.summaries(connection, found[:limit])
        return Page(items, encode_cursor((items[-1]["thing_name"],)) if len(found) > limit else None)

    def device(self, thing_name: str) -> Json:
        """Everything known of one device.

        Raises:
            DeviceUnknownError: of nobody by that name.
        """
        with self._database.read() as connection:
            row = connection.execute(
                f"{DEVICE_COLUMNS} FROM device d {HEARTBEAT} WHERE d.thing_name = ?", (thing_name,)
            )
            found = row.fetchone()
            if found is None:
                raise DeviceUnknownError(f"no device is named {thing_name!r}", "See edgewright get devices.")
            (summary,) = rows.summaries(connection, [found])
            return summary | rows.details(connection, found)

    def status_counts(self) -> dict[str, int]:
        """Status to number of devices."""
        with self._database.read() as connection:
            found = connection.execute("SELECT status, count(*) FROM device GROUP BY status ORDER BY status")
            return {row[0]: row[1] for row in found}

    def models(self, limit: int = LIMIT_DEFAULT, cursor: str | None = None) -> Page:
        """Model versions that serve or are wanted somewhere, by name and version."""
        after = decode_cursor(cursor, [str, str]) if cursor else ("", "")
        with self._database.read() as connection:
            found = connection.execute(MODELS_QUERY, (*after, limit + 1)).fetchall()
            items = [rows.model_version_of(connection, row) for row in found[:limit]]
        last = items[-1] if len(found) > limit else None
        return Page(items, encode_cursor((last["model_name"], last["version"])) if last else None)

    def deployments(self, limit: int = LIMIT_DEFAULT, cursor: str | None = None) -> Page:
        """Deployments, the newest first, with how many devices report which status."""
        before = decode_cursor(cursor, [int, str]) if cursor else (2**63 - 1, "")
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT * FROM deployment WHERE (created_at_ms, deployment_id) < (?, ?)"
                " ORDER BY created_at_ms DESC, deployment_id DESC LIMIT ?",
                (*before, limit + 1),
            ).fetchall()
            items = [rows.deployment_of(connection, row) for row in found[:limit]]
        last = found[limit - 1] if len(found) > limit else None
        return Page(items, encode_cursor((last["created_at_ms"], last["deployment_id"])) if last else None)

    def events(
        self,
        limit: int = LIMIT_DEFAULT,
        cursor: str | None = None,
        thing_name: str | None = None,
        kind: str | None = None,
    ) -> Page:
        """The fleet's history, the newest first."""
        found = self._history("event", "event_id", {"thing_name": thing_name, "kind": kind}, limit, cursor)
        items = [rows.event_of(row) for row in found[:limit]]
        return Page(items, encode_cursor((items[-1]["event_id"],)) if len(found) > limit else None)

    def decisions(
        self,
        limit: int = LIMIT_DEFAULT,
        cursor: str | None = None,
        thing_name: str | None = None,
        model: str | None = None,
        level: str | None = None,
    ) -> Page:
        """Drift decisions, the newest first."""
        filters = {"thing_name": thing_name, "model_name": model, "level": level}
        found = self._history("decision", "decision_id", filters, limit, cursor)
        items = [rows.decision_of(row) for row in found[:limit]]
        return Page(items, encode_cursor((items[-1]["decision_id"],)) if len(found) > limit else None)

    def counters(self) -> Json:
        """Schema version, and how many messages were stored, known already, or rejected and why."""
        with self._database.read() as connection:
            counts = {row[0]: row[1] for row in connection.execute("SELECT name, value FROM counter ORDER BY name")}
        return {"schema_version": SCHEMA_VERSION, "counters": counts}

    def _history(
        self, table: str, key: str, filters: dict[str, str | None], limit: int, cursor: str | None
    ) -> list[sqlite3.Row]:
        before = int(decode_cursor(cursor, [int])[0]) if cursor else 2**63 - 1
        chosen = {column: value for column, value in filters.items() if value is not None}
        led = LED_TOGETHER if chosen.keys() >= LED_TOGETHER and "thing_name" not in chosen else {*list(chosen)[:1]}
        conditions = "".join(f" AND {'' if column in led else '+'}{column} = ?" for column in chosen)
        query = f"SELECT * FROM {table} WHERE {key} < ?{conditions} ORDER BY {key} DESC LIMIT ?"  # noqa: S608 - names of ours
        with self._database.read() as connection:
            return connection.execute(query, (before, *chosen.values(), limit + 1)).fetchall()


LED_TOGETHER = {"model_name", "level"}
"""Filters of a history that have an index of their own; else the first leads, which a plus before the others keeps the
planner to: among a million rows it would walk all that are quiet for a device's few."""

DEVICE_COLUMNS = (
    "SELECT d.*, h.recorded_at_ms, h.received_at_ms, h.answered_count, h.failed_count, h.queued_count,"
    " h.dropped_count, h.disk_free_bytes, h.rss_bytes"
)
HEARTBEAT = "LEFT JOIN heartbeat h ON h.thing_name = d.thing_name"

MODELS_QUERY = """
SELECT model_name, version, sum(serving) AS serving_count, sum(wanting) AS wanted_count, sum(drifting) > 0 AS is_retrained
FROM (
    SELECT model_name, version, count(*) AS serving, 0 AS wanting, 0 AS drifting FROM device_model GROUP BY model_name, version
    UNION ALL SELECT model_name, version, 0, count(*), 0 FROM wanted
        WHERE model_name <> '' AND version NOT LIKE '0.0.%' GROUP BY model_name, version
    UNION ALL SELECT model_name, version, 0, 0, 1 FROM incident
)
WHERE (model_name, version) > (?, ?) GROUP BY model_name, version ORDER BY model_name, version LIMIT ?
"""


def device_query(filters: DeviceFilters, after: str, limit: int) -> tuple[str, list[object]]:
    """SQL and values for one page of devices.

    ``n`` is the table whose index gives the names in page order under the most selective filter; the others are applied
    row by row. CROSS JOIN keeps SQLite's planner from turning the join around. Only a version alone can find a device
    twice (in two models), hence the GROUP BY, which that index serves without sorting.
    """
    table, chosen, rest = _leading_filter(filters)
    conditions = [*(f"n.{column} = ?" for column, _ in chosen), "n.thing_name > ?"]
    values: list[object] = [*(value for _, value in chosen), after]
    if rest.group is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM device_group g WHERE g.thing_name = n.thing_name AND g.group_name = ?)"
        )
        values.append(rest.group)
    if rest.status is not None:
        conditions.append("d.status = ?")
        values.append(rest.status)
    grouping = " GROUP BY n.thing_name" if table == "device_model" and filters.model is None else ""
    query = (
        f"{DEVICE_COLUMNS} FROM {table} n CROSS JOIN device d ON d.thing_name = n.thing_name {HEARTBEAT}"
        f" WHERE {' AND '.join(conditions)}{grouping} ORDER BY n.thing_name LIMIT ?"
    )
    return query, [*values, limit]


def _leading_filter(filters: DeviceFilters) -> tuple[str, list[tuple[str, str]], DeviceFilters]:
    """The table to walk, what to look up in it, and which filters are still to be applied."""
    served = [
        (column, value)
        for column, value in (("model_name", filters.model), ("version", filters.version))
        if value is not None
    ]
    if served:
        return "device_model", served, DeviceFilters(status=filters.status, group=filters.group)
    if filters.group is not None:
        return "device_group", [("group_name", filters.group)], DeviceFilters(status=filters.status)
    if filters.status is not None:
        return "device", [("status", filters.status)], DeviceFilters()
    return "device", [], DeviceFilters()
