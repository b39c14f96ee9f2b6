"""Well-formed messages with numbers and times at the ends of what the wire allows: taken in, shown, and in nobody's way.

One that raised in the store would come again, with everybody else's messages of its batch; one that raised in the API would
take the whole list with it.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloud.fleet.consumer import Consumer, MemoryQueue, QueueMessage
from cloud.fleet.database import Database, from_ms
from cloud.fleet.health import judge
from cloud.fleet.ledger import Ledger
from cloud.fleet.order import to_ms
from cloud.fleet.queries import DeviceFilters, Queries
from cloud.fleet.store import SqliteFactSink
from edge_component.contracts.codec import INTEGER_MAX
from edge_component.contracts.envelope import Envelope
from tests.cloud.fleet.samples import T0, activation_fact, heartbeat, rule_output, window_fact

LAST_MOMENT = "9999-12-31T23:59:59.999999Z"
FIRST_MOMENT = "0001-01-01T00:00:00.000000Z"
BODIES: dict[str, Any] = {
    "heartbeat": heartbeat().to_document(),
    "window": window_fact(1).window.to_document(),
    "activation": activation_fact(1).event.to_document(),
}


def mutations(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Each number and each time of a document at its ends."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from mutations(entry, (*path, name))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from mutations(entry, (*path, index))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from ((path, number) for number in (0, INTEGER_MAX))
    elif isinstance(value, str) and value.endswith("Z"):
        yield from ((path, moment) for moment in (FIRST_MOMENT, LAST_MOMENT))


def changed(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    copy = json.loads(json.dumps(document))
    place = copy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return copy


CASES = [
    (kind, path, value) for kind, body in BODIES.items() for path, value in mutations(json.loads(json.dumps(body)))
]


def taken_in(database: Database, *bodies: str) -> None:
    queue = MemoryQueue([QueueMessage(body, str(number)) for number, body in enumerate(bodies)])
    Consumer(queue, SqliteFactSink(database)).drain_once()
    assert len(queue.deleted) == len(bodies), "none comes again"


def shown(database: Database) -> None:
    queries = Queries(database)
    assert [device["thing_name"] for device in queries.devices(DeviceFilters()).items] == ["EWR", "JFK"]
    queries.device("EWR")
    queries.models()
    queries.events()
    for view in Ledger(database).views():
        judge(view, T0)


def good(sequence: int = 1) -> str:
    return rule_output(Envelope("heartbeat", "JFK", "e1", sequence, T0, BODIES["heartbeat"]))


@pytest.mark.parametrize(
    ("kind", "path", "value"), CASES, ids=[f"{kind}-{'.'.join(map(str, path))}-{value}" for kind, path, value in CASES]
)
def test_a_number_or_time_at_its_end_is_in_nobodys_way(
    database: Database, kind: str, path: tuple[str | int, ...], value: object
) -> None:
    hostile = rule_output(Envelope(kind, "EWR", "e1", 2, T0, changed(BODIES[kind], path, value)))
    first = rule_output(Envelope("heartbeat", "EWR", "e1", 1, T0, BODIES["heartbeat"]))
    taken_in(database, first, hostile, good())
    shown(database)


def test_counts_that_add_up_to_more_than_a_column_holds(database: Database) -> None:
    models = [changed(BODIES["heartbeat"]["models"][0], ("name",), name) for name in ("a", "b")]
    for model in models:
        model["answered_count"] = model["failed_count"] = INTEGER_MAX
    body = {**BODIES["heartbeat"], "models": models}
    taken_in(database, rule_output(Envelope("heartbeat", "EWR", "e1", 1, T0, body)), good())
    shown(database)
    assert Queries(database).device("EWR")["answered_count"] == INTEGER_MAX


@pytest.mark.parametrize("ends_at", [FIRST_MOMENT, LAST_MOMENT])
def test_a_window_of_endless_duration_on_a_clock_that_is_wrong(database: Database, ends_at: str) -> None:
    body = {**BODIES["window"], "ends_at": ends_at, "duration_ms": INTEGER_MAX}
    heartbeats = rule_output(Envelope("heartbeat", "EWR", "e1", 1, T0, BODIES["heartbeat"])), good()
    taken_in(database, *heartbeats, rule_output(Envelope("window", "EWR", "e1", 2, T0, body)))
    shown(database)
    with database.read() as connection:
        starts_at_ms = connection.execute("SELECT starts_at_ms FROM window").fetchone()[0]
    assert from_ms(starts_at_ms) == T0 - timedelta(days=31)


def test_a_time_that_iot_cannot_have_said_is_parked(database: Database) -> None:
    document = json.loads(rule_output(Envelope("window", "EWR", "e1", 1, T0, BODIES["window"])))
    queue = MemoryQueue([QueueMessage(json.dumps({**document, "received_at_ms": 253_402_300_799_000}), "r")])
    assert Consumer(queue, SqliteFactSink(database)).drain_once().rejected_count == 1
    assert queue.parked[0][1].code == "bad-rule-output"


def test_a_time_in_the_last_millisecond_is_kept_within_it() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
    assert to_ms(from_ms(to_ms(last))) == to_ms(last)
    assert from_ms(to_ms(last) + 1) == from_ms(to_ms(last)), "as earlier versions stored it"
