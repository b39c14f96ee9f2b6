"""The store's side of retraining: attempts that are open, announced, and ended; one row for each.

Rows in and values out; ``attempts`` decides. Opening an attempt belongs to the transaction of the judgement that asks
for it (``journal``); every other step is a transaction of its own, so that a crash repeats it. Thread-safe.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloud.drift.attempts import PENDING_STATES, Attempt, Outcome
from cloud.fleet.database import Database, from_ms
from cloud.fleet.order import to_ms
from cloud.fleet.store import add_event

ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class Incident:
    """An attempt to replace a model version, as it is announced: once, though perhaps several times over.

    Attributes:
        incident_id: also the name of what is done about it, so that a second delivery does nothing twice.
        detail: the EventBridge event's detail.
    """

    incident_id: str
    model_name: str
    version: str
    detail: Mapping[str, Any]


class Incidents:
    """Reads and writes for ``watch``."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database

    def last_attempt(self, model_name: str, version: str) -> Attempt | None:
        """The newest attempt to replace a model version."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT * FROM incident WHERE model_name = ? AND version = ? ORDER BY attempt DESC LIMIT 1",
                (model_name, version),
            ).fetchone()
        return _attempt(row) if row else None

    def unannounced(self) -> tuple[Incident, ...]:
        """Attempts whose event has not been sent yet, as far as we know."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM incident WHERE announced_at_ms IS NULL ORDER BY decision_id")
            return tuple(
                Incident(row["incident_id"], row["model_name"], row["version"], json.loads(row["detail"]))
                for row in rows
            )

    def mark_announced(self, incident: Incident, now: datetime) -> None:
        """The event was accepted by EventBridge."""
        again = f" again (attempt {incident.detail['attempt']})" if incident.detail.get("attempt", 1) > 1 else ""
        sentence = f"Retraining of {incident.model_name} was asked for{again}: {incident.detail['sentence']}"
        with self._database.write() as connection:
            connection.execute(
                "UPDATE incident SET announced_at_ms = ? WHERE incident_id = ?", (to_ms(now), incident.incident_id)
            )
            columns = (to_ms(now), "incident", "", incident.model_name, incident.version, "announced", sentence)
            add_event(connection, f"incident/{incident.incident_id}", columns)

    def pending(self) -> tuple[Attempt, ...]:
        """Announced attempts of which nobody knows yet how they end, the oldest first."""
        query = "SELECT * FROM incident WHERE announced_at_ms IS NOT NULL AND ended_at_ms IS NULL ORDER BY opened_at_ms"
        with self._database.read() as connection:
            return tuple(_attempt(row) for row in connection.execute(query).fetchall())

    def record_outcome(self, attempt: Attempt, outcome: Outcome, now: datetime) -> None:
        """What an attempt has come to, with a line of history where there is something to say."""
        ended_at_ms = None if outcome.state in PENDING_STATES else to_ms(now)
        with self._database.write() as connection:
            connection.execute(
                "UPDATE incident SET state = ?, sentence = ?, execution_arn = ?, ended_at_ms = ? WHERE incident_id = ?",
                (outcome.state, outcome.sentence, outcome.execution_arn, ended_at_ms, attempt.incident_id),
            )
            if outcome.sentence:
                columns = (
                    to_ms(now), "incident", "", attempt.model_name, attempt.version, outcome.state, outcome.sentence,
                )  # fmt: skip
                add_event(connection, f"incident/{attempt.incident_id}/{outcome.state}", columns)


def open_attempt(
    connection: sqlite3.Connection, number: int, detail: Mapping[str, Any], now: datetime
) -> Incident | None:
    """Open an attempt within the caller's transaction; ``None`` where that number is taken already.

    ``detail`` says what is known of the drift; id and number are added to it.
    """
    model_name, version = str(detail["model_name"]), str(detail["model_version"])
    incident_id = _incident_id(model_name, version, number, int(detail["decision_id"]), now)
    whole = {"incident_id": incident_id, "attempt": number, **detail}
    written = connection.execute(
        "INSERT OR IGNORE INTO incident (incident_id, model_name, version, attempt, decision_id, opened_at_ms, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (incident_id, model_name, version, number, detail["decision_id"], to_ms(now), json.dumps(whole)),
    )
    return Incident(incident_id, model_name, version, whole) if written.rowcount else None


def _incident_id(model_name: str, version: str, number: int, decision_id: int, now: datetime) -> str:
    seed = f"{model_name}/{version}/{number}/{to_ms(now)}/{decision_id}"
    return f"drift-{hashlib.blake2b(seed.encode(), digest_size=ID_BYTES).hexdigest()}"


def _attempt(row: sqlite3.Row) -> Attempt:
    return Attempt(
        incident_id=row["incident_id"],
        model_name=row["model_name"],
        version=row["version"],
        number=row["attempt"],
        announced_at=None if row["announced_at_ms"] is None else from_ms(row["announced_at_ms"]),
        state=row["state"],
        ended_at=None if row["ended_at_ms"] is None else from_ms(row["ended_at_ms"]),
    )
