"""The store's side of drift: windows that wait to be judged, and decisions; what follows from them is ``incidents``.

Rows in and values out, no decisions. A decision, the windows it used up and the attempt it may open are one
transaction, so a crash repeats a judgement or has made it, never half. Thread-safe.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from cloud.drift.assembly import Batch, Stretch, WholeWindow
from cloud.drift.documents import streaks_from, to_document
from cloud.drift.incidents import Incident, open_attempt
from cloud.drift.judgement import DriftDecision, Streak
from cloud.fleet.database import Database, from_ms
from cloud.fleet.order import to_ms
from cloud.fleet.store import add_event
from edge_component.contracts.codec import from_bytes
from edge_component.contracts.telemetry import TelemetryWindow

PART_BYTES_MAX = 262_144
"""As large as a queue message: what came in goes out."""

PEER_WINDOWS_MAX = 200
"""Most recent windows of other devices that one judgement is compared with; more would change no answer."""


class Journal:
    """Reads and writes for ``watch``."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database

    def waiting(
        self, arrived_before: datetime, but_of: Collection[str] = ()
    ) -> Mapping[Stretch, tuple[WholeWindow, ...]]:
        """Complete windows with a baseline that nobody has judged, by whom they are about; :meth:`parts` reads them.

        Those over the baselines ``but_of`` are passed over.
        """
        query = (
            "SELECT * FROM window WHERE decision_id IS NULL AND arrived_count = part_count AND baseline_id <> ''"
            " AND arrived_at_ms <= ? AND baseline_id NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY thing_name, model_name, version, ends_at_ms"
        )
        found: dict[Stretch, list[WholeWindow]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query, (to_ms(arrived_before), json.dumps(list(but_of)))):
                stretch = Stretch(row["thing_name"], row["model_name"], row["version"], row["baseline_id"])
                found.setdefault(stretch, []).append(_whole(row))
        return {stretch: tuple(windows) for stretch, windows in found.items()}

    def waits_for(self, baseline_id: str) -> bool:
        """Whether there is any such window over this baseline."""
        query = (
            "SELECT 1 FROM window WHERE baseline_id = ? AND decision_id IS NULL AND arrived_count = part_count LIMIT 1"
        )
        with self._database.read() as connection:
            return connection.execute(query, (baseline_id,)).fetchone() is not None

    def peers(self, stretch: Stretch, batch: Batch) -> tuple[WholeWindow, ...]:
        """What other devices saw over the same bins in the same time, judged or not, the latest first."""
        query = (
            "SELECT * FROM window WHERE baseline_id = ? AND ends_at_ms > ? AND starts_at_ms < ? AND thing_name <> ?"
            " AND model_name = ? AND arrived_count = part_count ORDER BY ends_at_ms DESC LIMIT ?"
        )
        values = (
            stretch.baseline_id, to_ms(batch.starts_at), to_ms(batch.ends_at), stretch.thing_name, stretch.model_name,
            PEER_WINDOWS_MAX,
        )  # fmt: skip
        with self._database.read() as connection:
            return tuple(_whole(row) for row in connection.execute(query, values))

    def parts(self, windows: Sequence[WholeWindow]) -> tuple[TelemetryWindow, ...]:
        """What some windows hold, part by part."""
        query = "SELECT body FROM window_part WHERE thing_name = ? AND window_id = ? ORDER BY part"
        with self._database.read() as connection:
            return tuple(
                TelemetryWindow.read(from_bytes(row["body"], PART_BYTES_MAX))
                for window in windows
                for row in connection.execute(query, (window.thing_name, window.window_id))
            )

    def streaks(self, stretch: Stretch) -> Mapping[str, tuple[Streak, Streak]]:
        """How long each feature has drifted, by the last judgement of this device and model version."""
        with self._database.read() as connection:
            row = _last_decision(connection, stretch)
        return streaks_from(json.loads(row["document"])) if row else {}

    def record(
        self, stretch: Stretch, batch: Batch, decision: DriftDecision, now: datetime, attempt: int | None = None
    ) -> Incident | None:
        """Store a decision, use up its windows, and open the attempt of that number to replace the model version.

        The fleet's history tells of the first decision that says so, and of the end: a device that drifts for a month is judged
        thousands of times, and would leave no room for anything else.
        """
        with self._database.write() as connection:
            before = _last_decision(connection, stretch)
            decision_id = _insert_decision(connection, stretch, batch, decision, now)
            connection.executemany(
                "UPDATE window SET decision_id = ? WHERE thing_name = ? AND window_id = ?",
                [(decision_id, stretch.thing_name, window.window_id) for window in batch.windows],
            )
            if _is_news((before["level"], before["action"]) if before else ("", ""), (decision.level, decision.action)):
                columns = (
                    to_ms(now), "drift", stretch.thing_name, stretch.model_name, stretch.version, decision.action,
                    decision.sentence,
                )  # fmt: skip
                add_event(connection, f"drift/{decision_id}/{to_ms(now)}", columns)
            if attempt is None:
                return None
            return open_attempt(connection, attempt, _detail(stretch, batch, decision, decision_id), now)


def _whole(row: sqlite3.Row) -> WholeWindow:
    return WholeWindow(
        thing_name=row["thing_name"],
        window_id=row["window_id"],
        starts_at=from_ms(row["starts_at_ms"]),
        ends_at=from_ms(row["ends_at_ms"]),
        record_count=row["record_count"],
    )


def _last_decision(connection: sqlite3.Connection, stretch: Stretch) -> sqlite3.Row | None:
    query = (
        "SELECT level, action, document FROM decision WHERE thing_name = ? AND model_name = ? AND version = ?"
        " ORDER BY decision_id DESC LIMIT 1"
    )
    row: sqlite3.Row | None = connection.execute(
        query, (stretch.thing_name, stretch.model_name, stretch.version)
    ).fetchone()
    return row


def _is_news(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Level and action differ from the last decision's, and one of the two levels matters."""
    return before != now and bool({before[0], now[0]} & {"warn", "alarm"})


def _insert_decision(
    connection: sqlite3.Connection, stretch: Stretch, batch: Batch, decision: DriftDecision, now: datetime
) -> int:
    written = connection.execute(
        "INSERT INTO decision (at_ms, thing_name, model_name, version, starts_at_ms, ends_at_ms, level, action,"
        " sentence, document) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            to_ms(now), stretch.thing_name, stretch.model_name, stretch.version, to_ms(batch.starts_at),
            to_ms(batch.ends_at), decision.level, decision.action, decision.sentence,
            json.dumps(to_document(decision)),
        ),
    )  # fmt: skip
    return int(written.lastrowid or 0)


def _detail(stretch: Stretch, batch: Batch, decision: DriftDecision, decision_id: int) -> dict[str, Any]:
    """What an event says of the drift behind it."""
    document = to_document(decision)
    return {
        "model_name": stretch.model_name,
        "model_version": stretch.version,
        "thing_name": stretch.thing_name,
        "sentence": document["sentence"],
        "decision_id": decision_id,
        "starts_at_ms": to_ms(batch.starts_at),
        "ends_at_ms": to_ms(batch.ends_at),
        "features": [column["name"] for column in document["columns"] if column["absolute_level"] != "quiet"],
        "performance": document["performance"],
    }
