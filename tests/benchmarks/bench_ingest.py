"""How many messages a second reach the fleet store, and how fast the fleet is read while it is large.

Question: does one process take in 50,000 heartbeats a second, and does a page of devices stay under half a millisecond?

Method: a fleet of ``--devices`` devices is written once; then every device sends heartbeats in rounds, in batches of 1,000
as the queue consumer commits them, 98 of 100 changing nothing but numbers. Each round is committed by the real
``SqliteFactSink`` (WAL, ``synchronous=FULL``) and, in the same round on the same disk, by two others: the one wide table
with an index for each filter that one would write first, and the real one with a commit for each message. Facts are
decoded beforehand; decoding the queue bodies is measured by itself, since it is another core's work as soon as there are
two consumers. Pages are read through ``Queries`` at random places, in process and over HTTP (one keep-alive connection).
Medians over rounds.

Run ``python tests/benchmarks/bench_ingest.py [--devices N] [--rounds N]``. The last line is JSON for ``make bench``.
"""

import argparse
import base64
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cloud.api.app import create_app
from cloud.api.server import ApiServer
from cloud.fleet.cursors import encode_cursor
from cloud.fleet.database import Database
from cloud.fleet.facts import HeartbeatFact, Origin
from cloud.fleet.ingest import read_body
from cloud.fleet.order import to_ms
from cloud.fleet.queries import DeviceFilters, Queries
from cloud.fleet.store import SqliteFactSink
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.heartbeat import Heartbeat, ModelRef, OutboxState, ServedModel

BATCH = 1_000
CHANGED_EVERY = 50
SINGLE_COUNT = 300
PAGE_COUNT = 400
T0 = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCES = [ModelRef("weather", f"1.{minor}.0", f"{minor:064x}") for minor in range(2)]


def beat(number: int, turn: int) -> HeartbeatFact:
    """A device's heartbeat of one round; every fiftieth device changes its model each time."""
    model = REFERENCES[turn % 2 if number % CHANGED_EVERY == 0 else 0]
    served = ServedModel(model, "serving", T0, answered_count=turn * 100)
    heartbeat = Heartbeat(
        "0.1.0", 100 + number, T0, f"boot-{number}", "linux/aarch64", (served,), OutboxState(turn), 10**9, 6 * 10**7
    )
    at = T0 + timedelta(minutes=turn)
    return HeartbeatFact(Origin(f"device-{number:06}", "e1", 2 * turn + 1, at, at), heartbeat)


def round_of(devices: int, turn: int) -> list[list[HeartbeatFact]]:
    """Everybody's heartbeat, in arrival order, cut into batches."""
    facts = [beat(number, turn) for number in range(devices)]
    random.Random(turn).shuffle(facts)
    return [facts[start : start + BATCH] for start in range(0, devices, BATCH)]


def body_of(fact: HeartbeatFact) -> str:
    """The queue message that such a heartbeat arrives as."""
    origin = fact.origin
    envelope = Envelope(
        "heartbeat", origin.thing_name, origin.epoch, origin.sequence, origin.recorded_at, fact.heartbeat.to_document()
    )
    rule_output = {
        "payload_b64": base64.b64encode(envelope.to_bytes()).decode(),
        "thing_name": origin.thing_name,
        "kind": "heartbeat",
        "received_at_ms": to_ms(origin.received_at),
    }
    return json.dumps(rule_output)


class WideTable:
    """The peer: one table with everything in it and an index for each filter."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE device (thing_name TEXT PRIMARY KEY, epoch TEXT, sequence INTEGER, recorded_at_ms INTEGER,"
            " received_at_ms INTEGER, runtime_version TEXT, platform TEXT, health TEXT, process_id INTEGER, boot_id TEXT,"
            " model_name TEXT, version TEXT, digest TEXT, state TEXT, answered_count INTEGER, disk_free_bytes INTEGER,"
            " rss_bytes INTEGER);"
            "CREATE INDEX a ON device (health, thing_name); CREATE INDEX b ON device (model_name, version, thing_name);"
            "CREATE INDEX c ON device (version, thing_name); CREATE INDEX d ON device (received_at_ms, thing_name);"
        )

    def commit(self, facts: Sequence[HeartbeatFact]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            f"INSERT OR REPLACE INTO device VALUES ({', '.join('?' * 17)})", [self._row(fact) for fact in facts]
        )
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def _row(fact: HeartbeatFact) -> tuple[Any, ...]:
        origin, heartbeat = fact.origin, fact.heartbeat
        (model,) = heartbeat.models
        return (
            origin.thing_name, origin.epoch, origin.sequence, to_ms(origin.recorded_at), to_ms(origin.received_at),
            heartbeat.runtime_version, heartbeat.platform, heartbeat.health, heartbeat.process_id, heartbeat.boot_id,
            model.active.name, model.active.version, model.active.digest, model.state, model.answered_count,
            heartbeat.disk_free_bytes, heartbeat.rss_bytes,
        )  # fmt: skip


def rate(count: int, work: Callable[[], object]) -> float:
    """``count`` a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def each(commit: Callable[[Sequence[HeartbeatFact]], object], batches: Iterable[Sequence[HeartbeatFact]]) -> None:
    """Commit batch by batch."""
    for batch in batches:
        commit(batch)


@dataclass
class Rates:
    """A second, one entry a round."""

    decoded: list[float]
    split: list[float]
    wide: list[float]
    single: list[float]


def measure_ingest(folder: Path, devices: int, rounds: int) -> tuple[Rates, Database]:
    """Fill a fleet, then let it beat."""
    database = Database(folder / "fleet.db")
    sink, wide = SqliteFactSink(database), WideTable(folder / "wide.db")
    first = round_of(devices, 0)
    each(sink.commit, first)
    each(wide.commit, first)
    rates = Rates([], [], [], [])
    for turn in range(1, rounds + 1):
        batches = round_of(devices, turn)
        bodies = [body_of(fact) for fact in batches[0]]
        rates.decoded.append(rate(len(bodies), lambda bodies=bodies: [read_body(body) for body in bodies]))
        rates.split.append(rate(devices, lambda batches=batches: each(sink.commit, batches)))
        rates.wide.append(rate(devices, lambda batches=batches: each(wide.commit, batches)))
        later = [[_later(fact)] for fact in batches[0][:SINGLE_COUNT]]
        rates.single.append(rate(SINGLE_COUNT, lambda later=later: each(sink.commit, later)))
    wide.close()
    return rates, database


def _later(fact: HeartbeatFact) -> HeartbeatFact:
    """The next heartbeat of the same device, between two rounds."""
    return replace(fact, origin=replace(fact.origin, sequence=fact.origin.sequence + 1))


def percentiles_ms(work: Callable[[str], object], devices: int) -> tuple[float, float]:
    """p50 and p99 of reading a page of 50 at random places."""
    places = random.Random(1)
    times = []
    for _ in range(PAGE_COUNT):
        cursor = encode_cursor((f"device-{places.randrange(devices):06}",))
        started = time.perf_counter()
        work(cursor)
        times.append((time.perf_counter() - started) * 1_000)
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def measure_pages(database: Database, devices: int) -> dict[str, tuple[float, float]]:
    """Pages in process and over HTTP."""
    queries = Queries(database)
    status, model = DeviceFilters(status="unjudged"), DeviceFilters(model="weather", version="1.0.0")
    pages = {
        "by status": percentiles_ms(lambda cursor: queries.devices(status, 50, cursor), devices),
        "by model and version": percentiles_ms(lambda cursor: queries.devices(model, 50, cursor), devices),
    }
    with ApiServer(create_app(database)) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        pages["over HTTP"] = percentiles_ms(
            lambda cursor: client.get("/v1/devices", params={"limit": 50, "cursor": cursor}).raise_for_status(), devices
        )
    return pages


def bar(name: str, value: float, unit: str, target: float, *, at_least: bool) -> dict[str, object]:
    """One bar of the last line."""
    holds = value >= target if at_least else value <= target
    return {"name": name, "value": round(value, 3), "unit": unit, "target": target, "holds": holds}


def main() -> None:
    """Print the tables, and the bars as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgewright-bench-") as folder:
        rates, database = measure_ingest(Path(folder), options.devices, options.rounds)
        pages = measure_pages(database, options.devices)
        database.close()
    split = statistics.median(rates.split)
    print("| heartbeats | a second |\n|---|---|")
    print(f"| committed, hot and cold apart, batches of {BATCH} | {split:,.0f} |")
    print(f"| committed, one wide table with four indexes | {statistics.median(rates.wide):,.0f} |")
    print(f"| committed one by one | {statistics.median(rates.single):,.0f} |")
    print(f"| decoded from queue bodies, one core | {statistics.median(rates.decoded):,.0f} |")
    print("\n| page of 50 devices | p50 ms | p99 ms |\n|---|---|---|")
    for name, (p50, p99) in pages.items():
        print(f"| {name} | {p50:.2f} | {p99:.2f} |")
    p50, p99 = pages["by status"]
    bars = [
        bar("ingest_heartbeats_committed", split, "1/s", 50_000, at_least=True),
        bar("ingest_list_p50", p50, "ms", 0.5, at_least=False),
        bar("ingest_list_p99", p99, "ms", 10, at_least=False),
    ]
    print(json.dumps({"bench": "ingest", "bars": bars}))


if __name__ == "__main__":
    main()
