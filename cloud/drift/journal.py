"""The store's side of drift: windows that wait to be judged, and decisions; what follows from them is ``incidents``.

Rows in and values out, no decisions. A decision, the windows it used up and the attempt it may open are one
transaction, so a crash repeats a judgement or has made it, never half.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cloud.drift.assembly import Batch, Stretch, WholeWindow
from cloud.drift.documents import streaks_from, to_document
from cloud.drift.incidents import Incident, open_attempt
from cloud.drift.judgement import DriftDecision, Streak
from cloud.drift.recent import Name, Parts, RecentWindows
from cloud.fleet.database import Database, from_ms
from cloud.fleet.order import to_ms
from cloud.fleet.store import add_event
from edge_component.contracts.codec import from_bytes
from edge_component.contracts.telemetry import TelemetryWindow

PART_BYTES_MAX = 262_144
"""As large as a queue message: what came in goes out."""

PEER_WINDOWS_MAX = 200
"""Most recent windows of other devices that one judgement is compared with; more would change no answer."""


PEERS_LATER_MIN = timedelta(minutes=5)
"""So long after a batch, or as long as itself, a peer's window may end; later ones had not come when others were judged."""

IS_WAITING = "decision_id IS NULL AND arrived_count = part_count AND baseline_id <> ''"
"""The condition of the index ``window_to_judge``, to the letter."""


class Journal:
    """Reads and writes for ``watch``. One thread."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database
        self._recent = RecentWindows(self._read)

    def ready(
        self, arrived_before: datetime, record_count_min: int, stretch_count_max: int, but_of: Collection[str] = ()
    ) -> tuple[Stretch, ...]:
        """Of whom there is enough to judge: complete windows with a baseline that nobody has judged; the longest waiting first.

        Those over the baselines ``but_of`` are passed over. Costs a look at the index of what waits, whatever was judged.
        """
        query = (
            f"SELECT thing_name, model_name, version, baseline_id FROM window WHERE {IS_WAITING} AND arrived_at_ms <= ?"  # noqa: S608 - names of ours
            " AND baseline_id NOT IN (SELECT value FROM json_each(?)) GROUP BY thing_name, model_name, version, baseline_id"
            " HAVING total(record_count) >= ? ORDER BY min(ends_at_ms), thing_name LIMIT ?"
        )
        values = (to_ms(arrived_before), json.dumps(list(but_of)), record_count_min, stretch_count_max)
        with self._database.read() as connection:
            return tuple(Stretch(*row) for row in connection.execute(query, values))

    def waiting(self, stretch: Stretch, arrived_before: datetime, record_count_max: int) -> tuple[WholeWindow, ...]:
        """The oldest of these windows, up to so many records; :meth:`parts` reads them."""
        query = (
            f"SELECT * FROM window WHERE {IS_WAITING} AND thing_name = ? AND model_name = ? AND version = ?"  # noqa: S608 - names of ours
            " AND baseline_id = ? AND arrived_at_ms <= ? ORDER BY ends_at_ms"
        )
        whose = (stretch.thing_name, stretch.model_name, stretch.version, stretch.baseline_id, to_ms(arrived_before))
        found: list[WholeWindow] = []
        record_count = 0
        with self._database.read() as connection:
            for row in connection.execute(query, whose):
                found.append(_whole(row))
                record_count += found[-1].record_count
                if record_count >= record_count_max:
                    break
        return tuple(found)

    def waits_for(self, baseline_id: str) -> bool:
        """Whether there is any such window over this baseline."""
        query = (
            "SELECT 1 FROM window WHERE baseline_id = ? AND decision_id IS NULL AND arrived_count = part_count LIMIT 1"
        )
        with self._database.read() as connection:
            return connection.execute(query, (baseline_id,)).fetchone() is not None

    def peers(self, stretch: Stretch, batch: Batch) -> tuple[WholeWindow, ...]:
        """What other devices saw over the same bins in the same time, judged or not, the latest first.

        Not what ended long after: a judgement that comes late would go through all that has been since.
        """
        query = (
            "SELECT * FROM window WHERE baseline_id = ? AND ends_at_ms > ? AND ends_at_ms <= ? AND starts_at_ms < ?"
            " AND thing_name <> ? AND model_name = ? AND arrived_count = part_count ORDER BY ends_at_ms DESC LIMIT ?"
        )
        starts_at, ends_at = batch.starts_at, batch.ends_at
        values = (
            stretch.baseline_id, to_ms(starts_at), to_ms(ends_at + max(ends_at - starts_at, PEERS_LATER_MIN)),
            to_ms(ends_at), stretch.thing_name, stretch.model_name, PEER_WINDOWS_MAX,
        )  # fmt: skip
        with self._database.read() as connection:
            return tuple(_whole(row) for row in connection.execute(query, values))

    def parts(self, windows: Sequence[WholeWindow]) -> tuple[TelemetryWindow, ...]:
        """What some windows hold, part by part."""
        return self._recent.parts([(window.thing_name, window.window_id) for window in windows])

    def _read(self, names: Sequence[Name]) -> dict[Name, Parts]:
        query = "SELECT body FROM window_part WHERE thing_name = ? AND window_id = ? ORDER BY part"
        with self._database.read() as connection:
            return {
                name: tuple(
                    TelemetryWindow.read(from_bytes(row["body"], PART_BYTES_MAX))
                    for row in connection.execute(query, name)
                )
                for name in names
            }

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
