"""What judging costs does not grow with the fleet, with what was judged, nor with how long nobody judged."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given, strategies as st

from cloud.drift import watch as watch_module
from cloud.drift.assembly import Batch, Stretch, WholeWindow, added
from cloud.drift.journal import PEER_WINDOWS_MAX, Journal
from cloud.drift.judgement import DriftDecision, Observed
from cloud.drift.recent import Name, Parts, RecentWindows
from cloud.drift.watch import DriftWatch, UnjudgedError, WatchLimits
from cloud.fleet.database import Database
from cloud.fleet.order import to_ms
from edge_component.contracts.telemetry import ColumnCounts, TelemetryWindow, merge_columns
from tests.cloud.drift.test_watch import BASELINE_ID, DRIFT, T0, World
from tests.cloud.fleet.samples import window_fact
from tests.cloud.fleet.work import work_of

COUNTS = st.builds(
    ColumnCounts,
    st.lists(st.integers(0, 2**53 - 1), max_size=5).map(tuple),
    st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9),
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(tmp_path / "fleet.db")
    yield World(database)
    database.close()


def watch_of(world: World, **changes: float) -> DriftWatch:
    return DriftWatch(world.database, world.ports, lambda: world.now, replace(WatchLimits(settle_s=1), **changes))  # type: ignore[arg-type]


@given(st.lists(COUNTS, min_size=2, max_size=6))
def test_columns_added_at_once_are_those_merged_one_after_the_other(columns: list[ColumnCounts]) -> None:
    assert added(columns) == reduce(merge_columns, columns)


def test_a_window_is_decoded_once_however_many_peers_it_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read, truly = Counter[str](), TelemetryWindow.read

    def counted(document: object) -> TelemetryWindow:
        found = truly(document)
        read[found.window_id] += 1
        return found

    things = [f"thing-{number}" for number in range(12)]
    for thing in things:
        world.send(1, thing)
    monkeypatch.setattr("cloud.drift.journal.TelemetryWindow.read", counted)
    decisions = world.watch.pass_once()
    assert [decision.peer_record_count for decision in decisions] == [11 * 400] * 12
    assert read == Counter({f"{thing}-1": 1 for thing in things})


def test_what_is_kept_is_bounded_by_columns_and_what_was_asked_for_last_stays() -> None:
    asked: list[list[Name]] = []
    part = window_fact(1).window  # of one column

    def read(names: Sequence[Name]) -> dict[Name, Parts]:
        asked.append(list(names))
        return {name: (part,) for name in names if name[1] != "gone"}

    recent = RecentWindows(read, column_count_max=2)
    one, two, three, gone = ("a", "1"), ("a", "2"), ("a", "3"), ("a", "gone")
    for names in ([one, two], [one], [three, gone], [one], [two]):
        assert recent.parts(names) == (part,) * (len(names) - names.count(gone))
    assert asked == [[one, two], [], [three, gone], [], [two]]


def test_windows_without_columns_are_not_kept_for_ever() -> None:
    part = replace(window_fact(1).window, features={}, outputs={})
    recent = RecentWindows(lambda names: dict.fromkeys(names, (part,)), column_count_max=10)
    for number in range(100):
        recent.parts([("a", str(number))])
    assert len(recent._kept) == 10


def test_a_long_row_of_unjudged_windows_is_judged_pass_by_pass_and_announced_in_between(world: World) -> None:
    for turn in range(1, 8):
        for thing in ("EWR", "JFK", "LGA"):
            world.send(turn, thing, DRIFT)
    watch = watch_of(world, stretch_count_max=2, batch_count_max=6)  # of 200 records: three windows of 400
    made, announced = [], []
    while decisions := watch.pass_once():
        made.append(len(decisions))
        announced.append(len(world.incidents.announced))
    assert (sum(made), max(made)) == (21, 6)
    assert announced[0] == 1, "it does not wait for the rest"
    assert world.one("SELECT count(*) FROM decision") == 21
    assert world.one("SELECT count(*) FROM window WHERE decision_id IS NULL") == 0


def test_everybody_is_judged_in_turn_and_each_in_the_order_of_time(world: World) -> None:
    for turn in range(1, 5):
        for thing in ("AAA", "ZZZ"):
            world.send(turn, thing)
    watch = watch_of(world, stretch_count_max=1, batch_count_max=1)
    while watch.pass_once():
        pass
    with world.database.read() as connection:
        rows = connection.execute("SELECT thing_name, ends_at_ms FROM decision ORDER BY decision_id").fetchall()
    assert [row[0] for row in rows] == ["AAA", "ZZZ"] * 4
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)


def test_those_whom_a_defect_keeps_from_being_judged_are_not_in_the_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    truly = watch_module.decide

    def defective(window: Observed, *arguments: object, **options: object) -> DriftDecision:
        if window.record_count == 401:
            raise ZeroDivisionError("of ours")
        return truly(window, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(watch_module, "decide", defective)
    world.send(1, "AAA", count=401)
    world.send(2, "EWR")
    watch = watch_of(world, stretch_count_max=1, unjudged_again_s=60)
    for _ in range(2):
        with pytest.raises(UnjudgedError, match="on AAA"):
            watch.pass_once()
    assert world.one("SELECT thing_name FROM decision") == "EWR"
    monkeypatch.undo()
    world.now += timedelta(seconds=61)
    assert len(watch.pass_once()) == 1, "it is tried again, and nothing is lost"


def test_a_stop_waits_for_one_judgement_and_not_for_the_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for turn in range(1, 5):
        world.send(turn)
    stop, truly = Event(), watch_module.decide

    def stopping(*arguments: object, **options: object) -> DriftDecision:
        stop.set()
        return truly(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(watch_module, "decide", stopping)
    world.watch.run(stop, lambda error: pytest.fail(str(error)) if error else None)
    assert world.one("SELECT count(*) FROM decision") == 1
    assert world.one("SELECT count(*) FROM window WHERE decision_id IS NULL") == 3


def test_a_device_that_claims_more_records_than_integers_add_up_to_stops_nobody_else(world: World) -> None:
    many = [window_fact(number, f"w{number}", thing="AAA", record_count=2**53 - 1) for number in range(1_030)]
    world.sink.commit(many)
    world.send(2, "EWR")
    journal = Journal(world.database)
    ready = journal.ready(world.now + timedelta(days=1), 200, 500)
    assert [stretch.thing_name for stretch in ready] == ["AAA", "EWR"]
    assert len(journal.waiting(ready[0], world.now + timedelta(days=1), 2_000)) == 1


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """200,000 windows of five minutes from a hundred devices, every one judged but the last of each."""
    database = Database(tmp_path_factory.mktemp("month") / "fleet.db")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199999)"
    ends_at = f"{to_ms(T0)} + (i / 100) * 300000"
    with database.write() as connection:
        connection.execute(
            f"INSERT INTO window {numbers} SELECT 'thing-' || (i % 100), 'w' || i, 'weather', '1.0.0', 'd', '{BASELINE_ID}',"
            f" {ends_at} - 300000, {ends_at}, 300, 1, 1, {ends_at}, iif(i < 199900, 7, NULL) FROM n"
        )
    yield database
    database.close()


def test_what_was_judged_costs_nothing_when_more_is_looked_for(month: Database) -> None:
    journal, now = Journal(month), T0 + timedelta(days=10)
    assert work_of(month, lambda: journal.ready(now, 200, 500)) < 10
    assert len(journal.ready(now, 200, 500)) == 100
    assert len(journal.ready(now, 200, 7)) == 7
    assert journal.ready(now, 301, 500) == ()
    (stretch,) = journal.ready(now, 200, 1)
    assert work_of(month, lambda: journal.waiting(stretch, now, 10_000)) < 2
    assert len(journal.waiting(stretch, now, 10_000)) == 1


@pytest.mark.parametrize("age", [0, 1_000, 1_990], ids=["live", "days late", "a week late"])
def test_the_peers_of_a_late_judgement_are_found_as_those_of_a_live_one(month: Database, age: int) -> None:
    ends_at = T0 + timedelta(minutes=5 * (1_999 - age))
    own = WholeWindow("thing-7", "w", ends_at - timedelta(minutes=5), ends_at, 300)
    stretch, journal = Stretch("thing-7", "weather", "1.0.0", BASELINE_ID), Journal(month)
    assert work_of(month, lambda: journal.peers(stretch, Batch((own,)))) < 20
    peers = journal.peers(stretch, Batch((own,)))
    assert {peer.ends_at for peer in peers} == {ends_at}
    assert len(peers) == 99 <= PEER_WINDOWS_MAX
