"""A million events: what a batch of the retention and a page of the history cost does not grow with them."""

import threading
from collections.abc import Callable, Iterator

import pytest

from cloud.fleet.database import Database
from cloud.fleet.history import Place, SqliteHistory, batch_query
from cloud.fleet.order import to_ms
from cloud.fleet.pruning import Pruning, PruningPace, told
from cloud.fleet.queries import Queries
from cloud.fleet.retention import RetentionLimits, cuts
from tests.cloud.fleet.samples import T0
from tests.cloud.fleet.work import work_of

LIMITS = RetentionLimits()
CUTS = {(cut.table, cut.kind): cut for cut in cuts(LIMITS, T0)}
ROWS = 1_000_000
SPREAD_MS = 60_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A million events and 100,000 decisions about a thousand devices, a minute apart, the last at T0."""
    database = Database(tmp_path_factory.mktemp("large") / "fleet.db")
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS - 1})"
    at_ms = f"{to_ms(T0)} - ({ROWS - 1} - i) * {SPREAD_MS}"
    with database.write() as connection:
        connection.execute(
            f"INSERT INTO event (dedupe_key, at_ms, kind, thing_name, model_name, version, outcome, sentence) {numbers}"
            f" SELECT 'k' || i, {at_ms}, iif(i % 10, 'status', 'repair'), 'thing-' || (i / 10 % 1000), '', '', 'ok', 'So.'"
            " FROM n"
        )
        connection.execute(
            "INSERT INTO decision (at_ms, thing_name, model_name, version, starts_at_ms, ends_at_ms, level, action,"
            f" sentence, document) {numbers} SELECT {at_ms}, 'thing-' || (i / 1000), 'weather', '1.0.0', 0, 0,"
            " iif(i % 100, 'quiet', 'alarm'), 'none', 'So.', '{\"record_count\": 1, \"peer_record_count\": 1,"
            ' "has_dropped": false, "performance": null, "columns": []}\' FROM n WHERE i % 10 = 0'
        )
    yield database
    database.close()


@pytest.mark.parametrize("key", CUTS, ids=["-".join(filter(None, key)) for key in CUTS])
@pytest.mark.parametrize("after", [None, (1, "x", "y")], ids=["first", "next"])
def test_a_batch_is_found_through_an_index_in_the_order_of_age(
    large: Database, key: tuple[str, str], after: Place | None
) -> None:
    place = after and after[: 3 if key[0] in {"window", "device_deployment"} else 2]
    query, values = batch_query(CUTS[key], place, 500)
    with large.read() as connection:
        plan = " / ".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values))
    assert plan.startswith("SEARCH t USING"), plan
    assert f"INDEX {key[0]}_by_{'time' if key[0] == 'deployment' else 'age'} (" in plan, plan
    assert "TEMP B-TREE" not in plan, plan


@pytest.mark.parametrize("key", [("event", "status"), ("decision", "quiet")], ids=["events", "decisions"])
def test_a_batch_costs_its_rows_and_not_those_of_the_table(large: Database, key: tuple[str, str]) -> None:
    query, values = batch_query(CUTS[key], None, 500)

    def read() -> None:
        with large.read() as connection:
            assert len(connection.execute(query, values).fetchall()) == 500

    assert work_of(large, read) < 100


PAGES: dict[str, Callable[[Queries], object]] = {
    "events": lambda queries: queries.events(),
    "events of a device": lambda queries: queries.events(thing_name="thing-7"),
    "events of a kind": lambda queries: queries.events(kind="repair"),
    "events of a device and a kind": lambda queries: queries.events(thing_name="thing-7", kind="status"),
    "events of a device and another kind": lambda queries: queries.events(thing_name="thing-7", kind="incident"),
    "decisions": lambda queries: queries.decisions(),
    "decisions of a device": lambda queries: queries.decisions(thing_name="thing-7"),
    "decisions of a level": lambda queries: queries.decisions(level="alarm"),
    "decisions of a device and a level": lambda queries: queries.decisions(thing_name="thing-7", level="quiet"),
    "decisions of a device and a model": lambda queries: queries.decisions(thing_name="thing-7", model="weather"),
    "decisions of an absent model": lambda queries: queries.decisions(model="absent", level="quiet"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_of_the_history_costs_the_same_among_a_million(
    large: Database, page: Callable[[Queries], object]
) -> None:
    queries = Queries(large)
    assert work_of(large, lambda: page(queries)) < 100


def test_a_pass_deletes_exactly_what_is_due(large: Database) -> None:
    """The million's oldest weeks; the rest stays, however near."""
    history, limits = SqliteHistory(large), RetentionLimits(30, 680, 680, 680, 690)
    for age_days, kind in ((680, "status"), (690, "repair")):
        cut = next(cut for cut in cuts(limits, T0) if cut.kind == kind)
        older = range(ROWS - 1 - age_days * 1_440)
        assert history.due_count(cut, ROWS) == sum((number % 10 == 0) == (kind == "repair") for number in older) > 0
    due_count = sum(row["due_count"] for row in told(history, limits, T0, ROWS)["retention"])
    gone = Pruning(history, lambda: T0, limits, PruningPace(2_000, 0.0)).pass_once(threading.Event())
    assert sum(gone.values()) == due_count
    assert not any(row["due_count"] for row in told(history, limits, T0)["retention"])
