"""One suite for every FactSink: each fact once, each device in its own order; then what only SQLite has."""

import json
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cloud.drift.attempts import Attempt
from cloud.drift.incidents import Incidents
from cloud.errors import InvalidInputError
from cloud.fleet.database import Database, StoreDamagedError, StoreInUseError, StoreUnavailableError, from_ms
from cloud.fleet.facts import Fact, Rejection, WindowFact
from cloud.fleet.ingest import read_body
from cloud.fleet.order import to_ms
from cloud.fleet.queries import MODELS_QUERY, DeviceFilters, Queries
from cloud.fleet.schema import SCHEMA_VERSION, TABLES, StoreForeignError, StoreTooNewError
from cloud.fleet.store import CommitResult, FactSink, MemoryFactSink, SqliteFactSink, activation_sentence, add_counts
from edge_component.contracts.envelope import Envelope
from tests.cloud.fleet.samples import T0, activation_fact, deployment_fact, heartbeat_fact, rule_output, window_fact


@pytest.fixture(params=["memory", "sqlite"])
def sink(request: pytest.FixtureRequest, database: Database) -> FactSink:
    return MemoryFactSink() if request.param == "memory" else SqliteFactSink(database)


def one(database: Database, query: str) -> Any:
    with database.read() as connection:
        return connection.execute(query).fetchone()[0]


@pytest.mark.parametrize(
    "fact",
    [heartbeat_fact(1), window_fact(1), activation_fact(1), deployment_fact()],
    ids=["heartbeat", "window", "activation", "deployment"],
)
def test_the_same_fact_is_stored_once(sink: FactSink, fact: Fact) -> None:
    assert sink.commit([fact]) == CommitResult(1, 0, 0)
    assert sink.commit([fact]) == CommitResult(0, 1, 0)
    assert sink.commit([], [Rejection("malformed", "Because.")]) == CommitResult(0, 0, 1)


ORDER = [
    ("older sequence", heartbeat_fact(5), heartbeat_fact(4), 0),
    ("newer sequence", heartbeat_fact(5), heartbeat_fact(6), 1),
    ("new epoch begins at 1", heartbeat_fact(5), heartbeat_fact(1, epoch="e2", received_s=9), 1),
    ("old epoch comes late", heartbeat_fact(1, epoch="e2", received_s=9), heartbeat_fact(500, received_s=8), 0),
    ("other device", heartbeat_fact(5), heartbeat_fact(1, thing="JFK"), 1),
    ("later status", deployment_fact("IN_PROGRESS", 5), deployment_fact("SUCCEEDED", 6, "ev2"), 1),
    ("final status in the same second", deployment_fact("IN_PROGRESS", 5), deployment_fact("FAILED", 5, "ev2"), 1),
    ("late status", deployment_fact("SUCCEEDED", 5), deployment_fact("IN_PROGRESS", 4, "ev2"), 0),
    ("progress after the end, same second", deployment_fact("FAILED", 5), deployment_fact("IN_PROGRESS", 5, "e"), 0),
]


@pytest.mark.parametrize(("first", "second", "news"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_an_older_fact_never_overwrites_a_newer(sink: FactSink, first: Fact, second: Fact, news: int) -> None:
    sink.commit([first])
    assert sink.commit([second]).stored_count == news


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.permutations(range(1, 7)), st.data())
def test_any_order_in_any_batches_ends_the_same(tmp_path: Path, order: list[int], data: st.DataObject) -> None:
    (tmp_path / "any.db").unlink(missing_ok=True)
    database = Database(tmp_path / "any.db")
    sink = SqliteFactSink(database)
    while order:
        cut = data.draw(st.integers(1, len(order)))
        batch, order = order[:cut], order[cut:]
        sink.commit([heartbeat_fact(sequence, f"1.0.{sequence}") for sequence in batch])
    assert one(database, "SELECT sequence FROM heartbeat") == 6
    assert one(database, "SELECT version FROM device_model") == "1.0.6"
    database.close()


def test_a_late_heartbeat_changes_neither_hot_nor_cold(database: Database) -> None:
    sink = SqliteFactSink(database)
    sink.commit([heartbeat_fact(9, "1.1.0")])
    sink.commit([heartbeat_fact(8, "1.0.0")])
    assert one(database, "SELECT version FROM device_model") == "1.1.0"
    assert one(database, "SELECT value FROM counter WHERE name = 'known'") == 1


def test_a_crash_of_the_runtime_is_an_event_and_an_unchanged_one_is_none(database: Database) -> None:
    sink = SqliteFactSink(database)
    sink.commit([heartbeat_fact(1)])
    sink.commit([heartbeat_fact(2)])
    assert one(database, "SELECT count(*) FROM event") == 0
    sink.commit([heartbeat_fact(3, process_id=8)])
    assert "crashed" in one(database, "SELECT sentence FROM event WHERE kind = 'restart'")


def test_a_window_is_complete_when_every_part_has_come_once(database: Database) -> None:
    sink = SqliteFactSink(database)
    part0, part1 = window_fact(1, part=0, part_count=2), window_fact(2, part=1, part_count=2)
    sink.commit([part1, part1])
    assert one(database, "SELECT arrived_count FROM window") == 1
    sink.commit([part0, part1])
    assert one(database, "SELECT arrived_count = part_count FROM window") == 1


AT_1970, IN_10_YEARS = datetime(1970, 1, 1, 0, 3, tzinfo=UTC), T0 + timedelta(days=3650)
FIVE_MINUTES, REPLAYED = timedelta(minutes=5), T0 - timedelta(days=1000)
SPANS = [
    ("a right clock", T0, T0 + FIVE_MINUTES, (0, 300)),
    ("asleep for most of it", T0, T0 + timedelta(hours=1), (0, 3600)),
    ("never set since the device started", AT_1970 - FIVE_MINUTES, AT_1970, (7200 - 300, 7200)),
    ("set within the window, forwards", AT_1970, T0 + FIVE_MINUTES, (0, 300)),
    ("set within the window, backwards", T0 + FIVE_MINUTES, T0 + timedelta(minutes=2), (120 - 300, 120)),
    ("sent years later", REPLAYED, REPLAYED + FIVE_MINUTES, (-86_400 * 1000, -86_400 * 1000 + 300)),
    ("ten years ahead", IN_10_YEARS - FIVE_MINUTES, IN_10_YEARS, (7200 - 300, 7200)),
    ("set back by ten years within the window", IN_10_YEARS, T0 + FIVE_MINUTES, (0, 300)),
]


@pytest.mark.parametrize(("starts_at", "ends_at", "span_s"), [row[1:] for row in SPANS], ids=[row[0] for row in SPANS])
def test_a_window_lies_where_it_can_have_been_whatever_the_devices_clock_says(
    database: Database, starts_at: datetime, ends_at: datetime, span_s: tuple[int, int]
) -> None:
    made = window_fact(7200, starts_at=starts_at, ends_at=ends_at)
    message = Envelope("window", "EWR", "e1", 7200, T0, made.window.to_document())
    fact = read_body(json.dumps({**json.loads(rule_output(message)), "received_at_ms": to_ms(made.origin.received_at)}))
    assert isinstance(fact, WindowFact)
    SqliteFactSink(database).commit([fact])
    row = [from_ms(one(database, f"SELECT {name} FROM window")) for name in ("starts_at_ms", "ends_at_ms")]
    assert row == [T0 + timedelta(seconds=second) for second in span_s]


def test_a_window_of_a_wrong_clock_lies_in_the_same_place_in_whichever_order_its_parts_come(tmp_path: Path) -> None:
    parts = [window_fact(7200 + part, part=part, part_count=2, starts_at=AT_1970, ends_at=AT_1970) for part in range(2)]
    rows = set()
    for name, order in (("forth", parts), ("back", parts[::-1])):
        database = Database(tmp_path / f"{name}.db")
        for fact in order:
            SqliteFactSink(database).commit([fact])
        with database.read() as connection:
            rows.add(tuple(connection.execute("SELECT * FROM window").fetchone()))
        database.close()
    assert len(rows) == 1


def test_a_batch_that_fails_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = SqliteFactSink(database)

    def full(*_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("cloud.fleet.store._store_window", full)
    with pytest.raises(StoreUnavailableError, match="full"):
        sink.commit([heartbeat_fact(1), window_fact(2)])
    assert one(database, "SELECT count(*) FROM heartbeat") == 0


def test_rejections_are_counted_by_code(database: Database) -> None:
    SqliteFactSink(database).commit([], [Rejection("identity", "x"), Rejection("identity", "y")])
    assert one(database, "SELECT value FROM counter WHERE name = 'rejected:identity'") == 2


@pytest.mark.parametrize("message", ["it differs by 0.3", "It differs by 0.3."])
def test_a_refusal_is_told_in_sentences(message: str) -> None:
    fact = activation_fact(1, "refused")
    event = replace(fact.event, phase="golden", code="golden-mismatch", message=message)
    sentence = activation_sentence(replace(fact, event=event))
    assert f" was refused in golden (golden-mismatch): {message.rstrip('.')}. " in sentence
    assert sentence.endswith(" serves.")


def test_a_lowered_floor_is_told_with_what_it_was() -> None:
    fact = activation_fact(1, "activated")
    event = replace(fact.event, outcome="floor-lowered", phase="floor", message="floors were release 9; are release 2")
    assert activation_sentence(replace(fact, event=event)).endswith(
        " floor-lowered: floors were release 9; are release 2."
    )


def test_a_database_of_a_later_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "later.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreTooNewError, match=f"schema {SCHEMA_VERSION + 1}"):
        Database(path)


def test_a_database_of_the_first_version_keeps_its_incident_as_a_first_attempt(tmp_path: Path) -> None:
    path = tmp_path / "first.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO incident VALUES ('drift-1', 'weather', '1.0.0', 7, 1000, '{}', 2000)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    database = Database(path)
    attempt = Incidents(database).last_attempt("weather", "1.0.0")
    assert attempt == Attempt("drift-1", "weather", "1.0.0", 1, from_ms(2000), "open")
    assert Incidents(database).pending() == (attempt,)
    database.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("not a database at all, but long enough to look like one" * 40)
    before = path.read_bytes()
    with pytest.raises(StoreDamagedError, match="not a database") as caught:
        Database(path)
    assert "EDGEWRIGHT_DATABASE_URL" in caught.value.remedy
    assert path.read_bytes() == before
    with pytest.raises(InvalidInputError, match="postgres"):
        Database.from_url("postgres://x")


@pytest.mark.parametrize("path", [":memory:", "fleet.db?mode=ro", "file:fleet.db"])
def test_what_sqlite_would_take_for_something_else_than_a_file_is_refused(path: str) -> None:
    """In memory each thread would have a database of its own, all of them empty."""
    with pytest.raises(InvalidInputError, match="EDGEWRIGHT_DATABASE_URL"):
        Database.from_url(f"sqlite:///{path}")


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoice (number INTEGER)")
    connection.close()
    with pytest.raises(StoreForeignError, match=r"theirs\.db"):
        Database(path)
    with sqlite3.connect(path) as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["invoice"]
    connection.close()


def test_a_damaged_database_is_not_called_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    database = Database(path)
    SqliteFactSink(database).commit([heartbeat_fact(index, thing=f"d{index:04}") for index in range(1, 500)])
    database.close()
    content = bytearray(path.read_bytes())
    for offset in range(4096, len(content), 4096):
        content[offset : offset + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match="malformed") as caught:
        Queries(Database(path)).devices(DeviceFilters())
    assert "move it aside" in caught.value.remedy.lower()


def test_a_database_that_somebody_holds_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.fleet.database.BUSY_TIMEOUT_MS", 1)
    database = Database(tmp_path / "fleet.db")
    holder = sqlite3.connect(tmp_path / "fleet.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked") as caught, database.write():
        raise AssertionError
    assert "another program" in caught.value.remedy.lower()
    holder.close()
    with database.write() as connection:
        add_counts(connection, {"later": 1})
    database.close()


def test_one_service_alone_works_over_a_database(tmp_path: Path) -> None:
    """Two reconcilers would repair everything twice."""
    database = Database(tmp_path / "fleet.db")
    with database.alone():
        second = Database(tmp_path / "fleet.db")
        with pytest.raises(StoreInUseError, match=r"fleet\.db"), second.alone():
            raise AssertionError
        second.close()
    with database.alone():
        pass
    database.close()


def test_models_are_counted_within_indices(database: Database) -> None:
    """The page asks for them each few seconds: of 100,000 devices a sorted copy of every row took 118 ms, this takes 19."""
    with database.read() as connection:
        plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {MODELS_QUERY}", ("", "", 50))]
    for table, index in (("device_model", "device_model_by_model_version"), ("wanted", "wanted_by_model")):
        (step,) = [one for one in plan if f" {table} " in f"{one} "]
        assert f"COVERING INDEX {index}" in step, plan


def test_every_filter_of_the_api_reads_an_index_in_page_order(database: Database) -> None:
    filters = {
        "device": "status", "device_model": "model_name", "device_group": "group_name",
    }  # fmt: skip
    with database.read() as connection:
        for table, column in filters.items():
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN SELECT thing_name FROM {table} WHERE {column} = 'x' AND thing_name > 'y'"
                " ORDER BY thing_name LIMIT 50"
            ).fetchall()
            text = " ".join(row["detail"] for row in plan)
            assert "SEARCH" in text
            assert "TEMP B-TREE" not in text


def test_threads_that_end_leave_no_connection_behind(tmp_path: Path) -> None:
    """The API's server ends idle threads and starts others for as long as it runs: each took two descriptors with it."""
    database = Database(tmp_path / "fleet.db")

    def descriptors() -> int:
        opened = {path.resolve() for path in tmp_path.glob("fleet.db*")}
        return sum(path.resolve() in opened for path in Path("/proc/self/fd").iterdir())

    before = descriptors()
    for _ in range(20):
        reader = threading.Thread(target=lambda: one(database, "SELECT count(*) FROM device"))
        reader.start()
        reader.join()
    assert descriptors() == before
    database.close()
    assert descriptors() == 0


def test_views_at_once_are_apart_and_one_that_outlives_the_close_is_closed(database: Database) -> None:
    with database.read() as first, database.read() as second, database.write() as writer:
        add_counts(writer, {"x": 1})
        assert len({id(first), id(second), id(writer)}) == 3
        assert first.execute("SELECT count(*) FROM counter").fetchone()[0] == 0
        database.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")


def test_a_file_that_a_later_reader_cannot_open_is_said_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refused)
    with database.read(), pytest.raises(StoreUnavailableError, match="unable to open"), database.read():
        raise AssertionError
