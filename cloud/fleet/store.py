"""Commit facts: each exactly once, each device in its own order, many in one transaction.

The failure this exists for: at-least-once queues without order. A heartbeat overwrites only an older one of the same
device (``order``), a window's part and an event are stored once however often they arrive, and all of a batch is
committed or none of it; only then may the queue's messages be deleted (``consumer``).

``FactSink`` is the port, :class:`SqliteFactSink` the real one, :class:`MemoryFactSink` the fake that ships. Reading for
the API is ``queries``; what is wanted of the devices is ``ledger``. Thread-safe: each commit is one transaction.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cloud.fleet.database import Database
from cloud.fleet.facts import ActivationFact, DeploymentStatusFact, Fact, HeartbeatFact, Rejection, WindowFact
from cloud.fleet.heartbeat_rows import device_row, hot_row, model_rows
from cloud.fleet.order import Place, is_newer, newest_by_thing, place_of, status_supersedes, to_ms
from edge_component.contracts.codec import to_bytes

EVENT_KINDS = ("activation", "deployment", "drift", "incident", "repair", "restart", "status")
"""What the fleet's history is made of: the ``kind`` of :func:`add_event`."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What became of a batch: ``stored`` was news; ``known`` was a duplicate, or older than what is stored."""

    stored_count: int
    known_count: int
    rejected_count: int


class FactSink(Protocol):
    """Where ingest puts what it read."""

    def commit(self, facts: Sequence[Fact], rejections: Sequence[Rejection] = ()) -> CommitResult:
        """Store all of it durably, or raise and store nothing.

        Raises:
            StoreUnavailableError: nothing was stored; the same batch may be committed again.
        """


@dataclass(slots=True)
class MemoryFactSink:
    """The fake: facts by their key, counts of rejections by code; raises ``failure`` once where it is set."""

    stored: dict[tuple[object, ...], Fact] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    failure: Exception | None = None

    def commit(self, facts: Sequence[Fact], rejections: Sequence[Rejection] = ()) -> CommitResult:
        """See :class:`FactSink`."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        stored = sum(map(self._keep, facts))
        self.rejected.update(rejection.code for rejection in rejections)
        return CommitResult(stored, len(facts) - stored, len(rejections))

    def _keep(self, fact: Fact) -> bool:
        key = fact_key(fact)
        held = self.stored.get(key)
        if held is not None and not _replaces(fact, held):
            return False
        self.stored[key] = fact
        return True


def fact_key(fact: Fact) -> tuple[object, ...]:
    """What a fact is stored under; two facts with one key are versions or copies of each other."""
    match fact:
        case HeartbeatFact():
            return ("heartbeat", fact.origin.thing_name)
        case WindowFact():
            return ("window", fact.origin.thing_name, fact.window.window_id, fact.window.part)
        case ActivationFact():
            return ("activation", fact.origin.thing_name, fact.event.attempt_id, fact.event.outcome)
        case DeploymentStatusFact():
            return ("deployment", fact.thing_name, fact.deployment_id)


def _replaces(fact: Fact, held: Fact) -> bool:
    if isinstance(fact, HeartbeatFact) and isinstance(held, HeartbeatFact):
        return is_newer(place_of(fact.origin), place_of(held.origin))
    if isinstance(fact, DeploymentStatusFact) and isinstance(held, DeploymentStatusFact):
        return status_supersedes(fact.status, to_ms(fact.changed_at), held.status, to_ms(held.changed_at))
    return False


class SqliteFactSink:
    """The real one."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database

    def commit(self, facts: Sequence[Fact], rejections: Sequence[Rejection] = ()) -> CommitResult:
        """See :class:`FactSink`."""
        with self._database.write() as connection:
            stored = _store_heartbeats(connection, [fact for fact in facts if isinstance(fact, HeartbeatFact)])
            for fact in facts:
                match fact:
                    case WindowFact():
                        stored += _store_window(connection, fact)
                    case ActivationFact():
                        stored += _store_activation(connection, fact)
                    case DeploymentStatusFact():
                        stored += _store_deployment_status(connection, fact)
                    case HeartbeatFact():
                        pass  # stored above, sorted by name
            known = len(facts) - stored
            counts = Counter(f"rejected:{rejection.code}" for rejection in rejections)
            add_counts(connection, {"stored": stored, "known": known, **counts})
        return CommitResult(stored, known, len(rejections))


def add_counts(connection: sqlite3.Connection, counts: Mapping[str, int]) -> None:
    """Add to the named counters, within the caller's transaction."""
    connection.executemany(
        "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        [(name, count) for name, count in counts.items() if count],
    )


def add_event(connection: sqlite3.Connection, key: str, columns: Sequence[object]) -> bool:
    """Write one line of the fleet's history, once for each key, within the caller's transaction.

    ``columns`` are at_ms, kind, thing_name, model_name, version, outcome, sentence.
    """
    written = connection.execute(
        "INSERT OR IGNORE INTO event (dedupe_key, at_ms, kind, thing_name, model_name, version, outcome, sentence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, *columns),
    )
    return written.rowcount == 1


def _store_heartbeats(connection: sqlite3.Connection, facts: Iterable[HeartbeatFact]) -> int:
    newest = newest_by_thing(facts)
    stored = _stored_places(connection, newest)
    news = [fact for name, fact in newest.items() if name not in stored or _is_news(fact, stored[name])]
    rows = [hot_row(fact) for fact in news]
    connection.executemany(f"INSERT OR REPLACE INTO heartbeat VALUES ({', '.join('?' * 12)})", rows)  # noqa: S608 - only question marks
    changed = [
        fact
        for fact, row in zip(news, rows, strict=True)
        if (before := stored.get(fact.origin.thing_name)) is None or before["fingerprint"] != row[5]
    ]
    for fact in changed:
        _store_cold(connection, fact, stored.get(fact.origin.thing_name))
    return len(news)


def _is_news(fact: HeartbeatFact, row: sqlite3.Row) -> bool:
    return is_newer(place_of(fact.origin), Place(row["epoch"], row["sequence"], row["received_at_ms"]))


def _stored_places(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, sqlite3.Row]:
    rows = connection.execute(
        "SELECT thing_name, epoch, sequence, received_at_ms, fingerprint FROM heartbeat"
        " WHERE thing_name IN (SELECT value FROM json_each(?))",
        (json.dumps(list(names)),),
    )
    return {row["thing_name"]: row for row in rows}


def _store_cold(connection: sqlite3.Connection, fact: HeartbeatFact, before: sqlite3.Row | None) -> None:
    if before is not None:
        _note_restart(connection, fact)
    connection.execute(
        "INSERT INTO device (thing_name, runtime_version, platform, process_id, started_at_ms, boot_id, health,"
        " reasons, first_seen_at_ms, configuration, status, status_sentence, status_since_ms)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'unjudged', 'Heard for the first time.', ?9)"
        " ON CONFLICT (thing_name) DO UPDATE SET runtime_version = ?2, platform = ?3, process_id = ?4,"
        " started_at_ms = ?5, boot_id = ?6, health = ?7, reasons = ?8, configuration = ?10",
        device_row(fact),
    )
    connection.execute("DELETE FROM device_model WHERE thing_name = ?", (fact.origin.thing_name,))
    connection.executemany(f"INSERT INTO device_model VALUES ({', '.join('?' * 8)})", model_rows(fact))  # noqa: S608 - only question marks


def _note_restart(connection: sqlite3.Connection, fact: HeartbeatFact) -> None:
    """A new process id under the same runtime version and boot is a crash that Greengrass may have hidden."""
    heartbeat, name = fact.heartbeat, fact.origin.thing_name
    row = connection.execute(
        "SELECT process_id, runtime_version, boot_id FROM device WHERE thing_name = ?", (name,)
    ).fetchone()
    if row is None or row["process_id"] in (None, heartbeat.process_id):
        return
    cause = "crashed and was restarted"
    if row["boot_id"] != heartbeat.boot_id:
        cause = "came back after a reboot"
    elif row["runtime_version"] != heartbeat.runtime_version:
        cause = f"was upgraded from {row['runtime_version']} to {heartbeat.runtime_version}"
    sentence = f"The runtime {cause}: process {row['process_id']} became {heartbeat.process_id}."
    key = f"restart/{name}/{heartbeat.boot_id}/{heartbeat.process_id}/{to_ms(heartbeat.started_at)}"
    at_ms = to_ms(fact.origin.received_at)
    add_event(connection, key, (at_ms, "restart", name, "", heartbeat.runtime_version, "restarted", sentence))


def _store_window(connection: sqlite3.Connection, fact: WindowFact) -> bool:
    name, window = fact.origin.thing_name, fact.window
    starts_at, ends_at = fact.span
    written = connection.execute(
        "INSERT OR IGNORE INTO window_part VALUES (?, ?, ?, ?)",
        (name, window.window_id, window.part, to_bytes(window.to_document())),
    )
    if written.rowcount == 0:
        return False
    connection.execute(
        "INSERT INTO window VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, NULL) ON CONFLICT (thing_name, window_id)"
        " DO UPDATE SET arrived_count = arrived_count + 1, arrived_at_ms = max(arrived_at_ms, excluded.arrived_at_ms),"
        " starts_at_ms = min(starts_at_ms, excluded.starts_at_ms), ends_at_ms = max(ends_at_ms, excluded.ends_at_ms)",
        (
            name, window.window_id, window.model.name, window.model.version, window.model.digest, window.baseline_id,
            to_ms(starts_at), to_ms(ends_at), window.record_count, window.part_count,
            to_ms(fact.origin.received_at),
        ),
    )  # fmt: skip
    return True


def _store_activation(connection: sqlite3.Connection, fact: ActivationFact) -> bool:
    event = fact.event
    version = event.candidate.version if event.candidate else ""
    columns = (
        to_ms(fact.origin.received_at), "activation", fact.origin.thing_name, event.model_name, version, event.outcome,
        activation_sentence(fact),
    )  # fmt: skip
    return add_event(connection, f"activation/{fact.origin.thing_name}/{event.attempt_id}/{event.outcome}", columns)


def activation_sentence(fact: ActivationFact) -> str:
    """An activation event in one sentence."""
    event = fact.event
    candidate = f"{event.model_name} {event.candidate.version}" if event.candidate else event.model_name
    serving = f" {event.serving.name} {event.serving.version} serves." if event.serving else " Nothing serves."
    if event.code:
        return f"{candidate} was {event.outcome} in {event.phase} ({event.code}): {event.message.rstrip('.')}.{serving}"
    if event.message:
        return f"{candidate} {event.outcome}: {event.message.rstrip('.')}."
    return f"{candidate} {event.outcome} in {event.duration_ms} ms.{serving}"


def _store_deployment_status(connection: sqlite3.Connection, fact: DeploymentStatusFact) -> bool:
    at_ms = to_ms(fact.changed_at)
    row = connection.execute(
        "SELECT status, changed_at_ms FROM device_deployment WHERE thing_name = ? AND deployment_id = ?",
        (fact.thing_name, fact.deployment_id),
    ).fetchone()
    if row is not None and not status_supersedes(fact.status, at_ms, row["status"], row["changed_at_ms"]):
        return False
    connection.execute(
        "INSERT OR REPLACE INTO device_deployment VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            fact.thing_name, fact.deployment_id, fact.status, fact.reason,
            json.dumps(fact.error_types), json.dumps(fact.error_stack), at_ms,
        ),
    )  # fmt: skip
    sentence = f"Greengrass reports deployment {fact.deployment_id} as {fact.status}."
    if fact.reason:
        sentence = f"{sentence[:-1]}: {fact.reason}"
    columns = (at_ms, "deployment", fact.thing_name, "", "", fact.status, sentence)
    add_event(connection, f"deployment/{fact.event_id}", columns)
    return True
