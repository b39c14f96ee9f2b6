"""One suite for every History: what is old goes, what is needed or young stays; then what SQLite alone has."""

import sqlite3
import threading
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from cloud.drift.incidents import open_attempt
from cloud.drift.judgement import DriftDecision
from cloud.fleet.database import Database
from cloud.fleet.desired import DeploymentRecord
from cloud.fleet.history import History, HistoryRow, MemoryHistory, SqliteHistory
from cloud.fleet.ledger import Ledger
from cloud.fleet.order import to_ms
from cloud.fleet.pruning import Pruning, PruningPace, told
from cloud.fleet.queries import Queries
from cloud.fleet.retention import Cut, RetentionLimits, cuts
from cloud.fleet.schema import TABLES
from cloud.fleet.store import SqliteFactSink, add_event
from tests.cloud.fleet.samples import T0, heartbeat_fact, window_fact

LIMITS = RetentionLimits()
CUTS = {(cut.table, cut.kind): cut for cut in cuts(LIMITS, T0)}
KEEPING = [key for key in CUTS if key[0] in {"decision", "device_deployment", "deployment"}] + [("event", "deployment")]
"""Kinds of which something may be needed however old it is."""


class MemoryWorld:
    """Adds rows to the fake."""

    def __init__(self) -> None:
        self.history = MemoryHistory()
        self._keys = count(1)

    def add(self, table: str, kind: str, at: datetime, *, is_needed: bool = False) -> None:
        self.history.rows.append(HistoryRow(table, kind, next(self._keys), at, is_needed))

    def count(self, table: str) -> int:
        return sum(row.table == table for row in self.history.rows)


class SqliteWorld:
    """Adds rows with what makes them needed: a thing that has no later decision, a deployment that is the latest."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.history = SqliteHistory(database)
        self._keys = count(1)

    def add(self, table: str, kind: str, at: datetime, *, is_needed: bool = False) -> None:
        key, at_ms = next(self._keys), to_ms(at)
        with self.database.write() as connection:
            match table:
                case "window":
                    insert_window(connection, f"thing-{key}", f"w{key}", at_ms)
                case "decision":
                    insert_decision(connection, f"thing-{key}", kind, at_ms)
                    if not is_needed:
                        insert_decision(connection, f"thing-{key}", "quiet", to_ms(T0), version="9.9.9")
                case "event":
                    name = "refused" if is_needed else "any"
                    add_event(connection, f"{name}/{key}", (at_ms, kind, "EWR", "", "", "", "It happened."))
                case "device_deployment":
                    insert_deployment(connection, f"d{key}", to_ms(T0), is_latest=is_needed)
                    connection.execute(
                        "INSERT INTO device_deployment VALUES ('EWR', ?, 'SUCCEEDED', '', '[]', '[]', ?)",
                        (f"d{key}", at_ms),
                    )
                case "deployment":
                    insert_deployment(connection, f"d{key}", at_ms, is_latest=is_needed)

    def count(self, table: str) -> int:
        with self.database.read() as connection:
            found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            beside = connection.execute("SELECT count(*) FROM decision WHERE version = '9.9.9'").fetchone()[0]
        return int(found) - (beside if table == "decision" else 0)


World = MemoryWorld | SqliteWorld


def insert_window(connection: sqlite3.Connection, thing: str, window_id: str, at_ms: int) -> None:
    connection.execute(
        "INSERT INTO window VALUES (?, ?, 'weather', '1.0.0', 'd', 'b', ?, ?, 10, 1, 1, ?, NULL)",
        (thing, window_id, at_ms, at_ms, at_ms),
    )
    connection.execute("INSERT INTO window_part VALUES (?, ?, 0, x'00')", (thing, window_id))


def insert_decision(connection: sqlite3.Connection, thing: str, level: str, at_ms: int, version: str = "1.0.0") -> int:
    written = connection.execute(
        "INSERT INTO decision (at_ms, thing_name, model_name, version, starts_at_ms, ends_at_ms, level, action, sentence,"
        " document) VALUES (?1, ?2, 'weather', ?3, ?1, ?1, ?4, 'none', 'It is so.', '{\"columns\": []}')",
        (at_ms, thing, version, level),
    )
    return int(written.lastrowid or 0)


def insert_deployment(connection: sqlite3.Connection, key: str, at_ms: int, *, is_latest: bool) -> None:
    connection.execute("INSERT INTO deployment VALUES (?, 'arn', '', '{}', 'ACTIVE', ?, ?)", (key, at_ms, is_latest))


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, database: Database) -> World:
    return MemoryWorld() if request.param == "memory" else SqliteWorld(database)


def emptied(history: History, cut: Cut, count_max: int = 2) -> int:
    deleted, place = 0, None
    while True:
        batch = history.delete_batch(cut, place, count_max)
        assert batch.deleted_count <= count_max
        deleted, place = deleted + batch.deleted_count, batch.next_place
        if place is None:
            return deleted


@pytest.mark.parametrize("key", CUTS, ids=["-".join(filter(None, key)) for key in CUTS])
def test_what_is_older_than_its_period_goes_and_the_rest_stays(world: World, key: tuple[str, str]) -> None:
    cut = CUTS[key]
    for late_ms in (0, 1, 86_400_000):
        world.add(*key, cut.before + timedelta(milliseconds=late_ms))
    for early_ms in (1, 1, 2, 86_400_000, 86_400_000_000):
        world.add(*key, cut.before - timedelta(milliseconds=early_ms))
    assert world.history.oldest_at(cut) == cut.before - timedelta(days=1000)
    assert world.history.due_count(cut, 100) == 5
    assert world.history.due_count(cut, 4) == 4
    assert emptied(world.history, cut) == 5
    assert world.count(key[0]) == 3
    assert world.history.due_count(cut, 100) == emptied(world.history, cut) == 0
    assert world.history.oldest_at(cut) == cut.before


@pytest.mark.parametrize("key", KEEPING, ids=["-".join(filter(None, key)) for key in KEEPING])
def test_what_is_needed_stays_however_old_and_stops_nothing_behind_it(world: World, key: tuple[str, str]) -> None:
    cut = CUTS[key]
    for turn in range(6):
        world.add(*key, cut.before - timedelta(days=20 - turn), is_needed=turn not in {2, 5})
    assert world.history.due_count(cut, 100) == 2
    assert emptied(world.history, cut) == 2
    assert world.count(key[0]) == 4


@pytest.mark.parametrize("table", {table for table, _ in CUTS})
def test_an_empty_table_has_nothing_to_go(world: World, table: str) -> None:
    cut = next(cut for (name, _), cut in CUTS.items() if name == table)
    assert world.history.oldest_at(cut) is None
    assert emptied(world.history, cut) == 0


def test_an_audit_event_outlives_a_routine_one_of_the_same_day(world: World) -> None:
    for kind in ("status", "activation"):
        world.add("event", kind, T0 - timedelta(days=100))
    Pruning(world.history, lambda: T0, LIMITS, PruningPace(batch_pause_s=0)).pass_once(threading.Event())
    assert world.history.oldest_at(CUTS["event", "status"]) is None
    assert world.history.oldest_at(CUTS["event", "activation"]) is not None


def pruned(database: Database, now: datetime) -> None:
    with database.write() as connection:  # devices are heard all the while
        connection.execute("UPDATE heartbeat SET received_at_ms = ?", (to_ms(now),))
    Pruning(SqliteHistory(database), lambda: now, LIMITS, PruningPace(batch_pause_s=0)).pass_once(threading.Event())


def a_decision() -> DriftDecision:
    return DriftDecision("quiet", "none", "Nothing is wrong.", 200, 0, False, (), None)


def test_what_was_heard_of_devices_says_how_old_history_is_and_not_a_clock_that_is_set_wrong(
    database: Database,
) -> None:
    SqliteFactSink(database).commit([heartbeat_fact(1)])
    history = SqliteHistory(database)
    assert history.heard_at() == heartbeat_fact(1).origin.received_at
    with database.write() as connection:
        insert_window(connection, "EWR", "w1", to_ms(T0 - timedelta(days=1)))
    a_year_ahead = Pruning(history, lambda: T0 + timedelta(days=365), LIMITS, PruningPace(batch_pause_s=0))
    assert a_year_ahead.pass_once(threading.Event()) == {}
    assert not any(row["due_count"] for row in told(history, LIMITS, T0 + timedelta(days=365))["retention"])


def test_rows_in_a_row_are_counted_on_after_a_long_pause_of_a_model_that_serves(database: Database) -> None:
    """The last decision of each version a device serves stays, and that of the device; those before them go."""
    SqliteFactSink(database).commit([heartbeat_fact(1)])
    with database.write() as connection:
        for version in ("0.9.0", "1.0.0", "1.0.0", "0.9.0", "0.9.0", "0.8.0"):
            insert_decision(connection, "EWR", "quiet", to_ms(T0), version)
    pruned(database, T0 + timedelta(days=400))
    with database.read() as connection:
        rows = connection.execute("SELECT decision_id, version FROM decision ORDER BY decision_id")
        assert [tuple(row) for row in rows] == [(3, "1.0.0"), (6, "0.8.0")]


def test_a_decision_that_a_retraining_refers_to_stays(database: Database) -> None:
    detail = {"model_name": "weather", "model_version": "1.0.0", "sentence": "Retrain."}
    with database.write() as connection:
        referred = insert_decision(connection, "EWR", "alarm", to_ms(T0))
        for _ in range(2):
            insert_decision(connection, "EWR", "alarm", to_ms(T0))
        assert open_attempt(connection, 1, detail | {"decision_id": referred}, T0)
    pruned(database, T0 + timedelta(days=4000))
    with database.read() as connection:
        assert [row[0] for row in connection.execute("SELECT decision_id FROM decision")] == [referred, referred + 2]


def test_a_refusal_that_still_holds_is_not_told_as_news_again(database: Database) -> None:
    record = DeploymentRecord(
        "d1",
        "arn:aws:iot:us-east-1:123456789012:thinggroup/all",
        "",
        {"c": "1.0.0"},
        "ACTIVE",
        T0,
        refused={"c": "2.0.0"},
    )
    told_at = []
    for _ in range(2):
        Ledger(database).record_deployments([record])
        pruned(database, T0 + timedelta(days=4000))
        told_at += [event["event_id"] for event in Queries(database).events().items]
    assert told_at == [1, 1]


def test_windows_go_with_their_parts_and_what_is_still_unjudged_goes_too(database: Database) -> None:
    sink = SqliteFactSink(database)
    sink.commit([window_fact(1, "w1", part, part_count=3) for part in range(2)])  # the third never came
    sink.commit([window_fact(9, "w2")])
    pruned(database, T0 + timedelta(days=30, seconds=5))
    with database.read() as connection:
        assert [row[0] for row in connection.execute("SELECT window_id FROM window_part")] == ["w2"]
    assert Queries(database).counters()["counters"] == {"stored": 3, "pruned:window": 1}


def test_a_window_that_comes_again_while_it_may_still_be_in_the_queue_is_known(database: Database) -> None:
    sink, shortest = SqliteFactSink(database), RetentionLimits(window_days=15)
    sink.commit([window_fact(1)])
    queue_longest = T0 + timedelta(days=14, seconds=1)
    Pruning(SqliteHistory(database), lambda: queue_longest, shortest).pass_once(threading.Event())
    assert sink.commit([window_fact(1)]).known_count == 1


def filled(database: Database, event_count: int) -> None:
    with database.write() as connection:
        for key in range(event_count):
            add_event(connection, str(key), (to_ms(T0), "status", "EWR", "", "", "", "x" * 200))


def test_a_file_shrinks_by_what_was_deleted_but_for_what_comes_next(database: Database) -> None:
    filled(database, 20_000)
    history = SqliteHistory(database)
    before = history.size()
    pruned(database, T0 + timedelta(days=91))
    after = history.size()
    assert after.file_bytes < before.file_bytes / 2
    assert after.free_bytes <= 0.2 * after.file_bytes + 4_096
    filled(database, 100)
    assert history.size().file_bytes == after.file_bytes, "what is free is used first"


def test_a_file_of_an_earlier_version_uses_its_space_again(tmp_path: Path) -> None:
    path = tmp_path / "early.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    database = Database(path)
    filled(database, 20_000)
    full = SqliteHistory(database).size()
    pruned(database, T0 + timedelta(days=91))
    assert SqliteHistory(database).size().file_bytes == full.file_bytes
    with database.write() as connection:
        connection.execute("DELETE FROM event")
    filled(database, 20_000)
    assert SqliteHistory(database).size().file_bytes <= 1.02 * full.file_bytes
    database.close()
