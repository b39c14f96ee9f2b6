"""Deleting old history in small transactions, and how large the store is: a port, its fake, and SQLite.

The failure this exists for: one DELETE over a month of rows, which holds the only writer's place for minutes while the
queue fills. A batch here looks at ``count_max`` rows, whatever the size of the tables, through an index in the order of
their age; rows that are old and needed are passed over by the place at which the next batch goes on.

What may go is ``retention``. Thread-safe: each batch is one transaction, and each is decided by what is there then.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from cloud.fleet.database import Database, from_ms
from cloud.fleet.order import to_ms
from cloud.fleet.retention import Cut
from cloud.fleet.store import add_counts

Place = tuple[str | int, ...]
"""A row's age and key; batches of one cut go through them in order."""

FREE_RATIO_KEPT = 0.2
"""Of the file: so much is kept for what comes next instead of being given back to the file system."""
GIVE_BACK_PAGES_MAX = 1_000
"""At most, in one transaction (4 MB)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch deleted; ``next_place`` is where the next goes on, ``None`` after the last."""

    deleted_count: int
    next_place: Place | None


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is.

    Attributes:
        file_bytes: of the database, free pages included; ``free_bytes``: of those that hold nothing, used again first.
        disk_free_bytes: where the database lies.
    """

    file_bytes: int
    free_bytes: int
    disk_free_bytes: int


class History(Protocol):
    """The part of the store that grows with time."""

    def delete_batch(self, cut: Cut, after: Place | None, count_max: int) -> Batch:
        """Look at up to ``count_max`` rows that are old enough, and delete those that nothing needs.

        Raises:
            StoreUnavailableError: nothing was deleted.
        """

    def due_count(self, cut: Cut, count_max: int) -> int:
        """How many rows would go; counts no further than ``count_max``."""

    def heard_at(self) -> datetime | None:
        """When a device was last heard, by AWS IoT's clock; ``None`` if none ever was."""

    def oldest_at(self, cut: Cut) -> datetime | None:
        """When the oldest row of a cut's table and kind is from, needed ones included."""

    def give_back(self) -> int:
        """Give some free pages back to the file system where there are many; returns how many bytes."""

    def size(self) -> Size:
        """How large the store is."""


@dataclass(slots=True)
class HistoryRow:
    """One row of the fake."""

    table: str
    kind: str
    key: int
    at: datetime
    is_needed: bool = False


@dataclass(slots=True)
class MemoryHistory:
    """The fake: ``rows``, and ``batches`` as they were asked for; raises ``failure`` once where it is set."""

    rows: list[HistoryRow] = field(default_factory=list)
    batches: list[Cut] = field(default_factory=list)
    failure: Exception | None = None
    last_heard_at: datetime | None = None

    def delete_batch(self, cut: Cut, after: Place | None, count_max: int) -> Batch:
        """See :class:`History`."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.batches.append(cut)
        old = sorted((row for row in self._of(cut) if row.at < cut.before), key=_place)
        looked_at = [row for row in old if after is None or _place(row) > after][:count_max]
        gone = [row for row in looked_at if not row.is_needed]
        self.rows = [row for row in self.rows if row not in gone]
        return Batch(len(gone), _place(looked_at[-1]) if len(looked_at) == count_max else None)

    def due_count(self, cut: Cut, count_max: int) -> int:
        """See :class:`History`."""
        return min(sum(row.at < cut.before and not row.is_needed for row in self._of(cut)), count_max)

    def heard_at(self) -> datetime | None:
        """See :class:`History`."""
        return self.last_heard_at

    def oldest_at(self, cut: Cut) -> datetime | None:
        """See :class:`History`."""
        return min((row.at for row in self._of(cut)), default=None)

    def give_back(self) -> int:
        """Memory has no pages."""
        return 0

    def size(self) -> Size:
        """A row is a byte."""
        return Size(len(self.rows), 0, 0)

    def _of(self, cut: Cut) -> Iterable[HistoryRow]:
        return (row for row in self.rows if (row.table, row.kind) == (cut.table, cut.kind))


def _place(row: HistoryRow) -> Place:
    return to_ms(row.at), row.key


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is walked by age.

    Attributes:
        age, key: columns; together, after ``kind``, an index.
        kind: the column of the cut's kind, empty if none.
        is_needed: an expression over ``t``.
        parts: a table whose rows go with it, by the same key.
    """

    age: str
    key: tuple[str, ...]
    kind: str = ""
    is_needed: str = "0"
    parts: str = ""


IS_LATEST = "EXISTS (SELECT 1 FROM deployment l WHERE l.deployment_id = t.deployment_id AND l.is_latest)"
LATER = "SELECT 1 FROM decision l WHERE l.thing_name = t.thing_name AND l.decision_id > t.decision_id"
IS_LAST_WORD = (
    f"(NOT EXISTS ({LATER})"  # noqa: S608 - names of ours
    " OR (EXISTS (SELECT 1 FROM device_model m WHERE m.thing_name = t.thing_name AND m.model_name = t.model_name"
    " AND m.version = t.version)"
    f" AND NOT EXISTS ({LATER} AND l.model_name = t.model_name AND l.version = t.version))"
    " OR EXISTS (SELECT 1 FROM incident i WHERE i.decision_id = t.decision_id))"
)

TABLES: Mapping[str, _Table] = MappingProxyType(
    {
        "window": _Table("arrived_at_ms", ("thing_name", "window_id"), parts="window_part"),
        "decision": _Table("at_ms", ("decision_id",), "level", IS_LAST_WORD),
        "event": _Table("at_ms", ("event_id",), "kind", "(t.kind = 'deployment' AND t.dedupe_key GLOB 'refused/*')"),
        "device_deployment": _Table("changed_at_ms", ("thing_name", "deployment_id"), is_needed=IS_LATEST),
        "deployment": _Table("created_at_ms", ("deployment_id",), is_needed="t.is_latest"),
    }
)


class SqliteHistory:
    """The real one."""

    def __init__(self, database: Database) -> None:
        """Borrow the database; the caller closes it."""
        self._database = database

    def delete_batch(self, cut: Cut, after: Place | None, count_max: int) -> Batch:
        """See :class:`History`; what was deleted is counted (``/healthz``) in the same transaction."""
        table = TABLES[cut.table]
        query, values = batch_query(cut, after, count_max)
        with self._database.write() as connection:
            found = [tuple(row) for row in connection.execute(query, values)]
            gone = [row[1:-1] for row in found if not row[-1]]
            keyed = " AND ".join(f"{column} = ?" for column in table.key)
            for name in filter(None, (table.parts, cut.table)):
                connection.executemany(f"DELETE FROM {name} WHERE {keyed}", gone)  # noqa: S608 - names of ours
            add_counts(connection, Counter({f"pruned:{cut.table}": len(gone)}))
        return Batch(len(gone), found[-1][:-1] if len(found) == count_max else None)

    def due_count(self, cut: Cut, count_max: int) -> int:
        """See :class:`History`."""
        where, values = _old(cut)
        query = f"SELECT 1 FROM {cut.table} t WHERE {where} AND NOT {TABLES[cut.table].is_needed} LIMIT ?"  # noqa: S608 - names of ours
        with self._database.read() as connection:
            counted = connection.execute(f"SELECT count(*) FROM ({query})", (*values, count_max))  # noqa: S608 - as above
            return int(counted.fetchone()[0])

    def heard_at(self) -> datetime | None:
        """See :class:`History`."""
        with self._database.read() as connection:
            at_ms = connection.execute("SELECT max(received_at_ms) FROM heartbeat").fetchone()[0]
        return None if at_ms is None else from_ms(at_ms)

    def oldest_at(self, cut: Cut) -> datetime | None:
        """See :class:`History`."""
        table = TABLES[cut.table]
        of_kind = f" WHERE {table.kind} = ?" if table.kind else ""
        query = f"SELECT min({table.age}) FROM {cut.table}{of_kind}"  # noqa: S608 - names of ours
        with self._database.read() as connection:
            at_ms = connection.execute(query, (cut.kind,) if table.kind else ()).fetchone()[0]
        return None if at_ms is None else from_ms(at_ms)

    def give_back(self) -> int:
        """See :class:`History`; files of before schema 5 keep what they have (cloud/fleet/README.md)."""
        with self._database.write() as connection:
            page_bytes, pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in PAGES)
            surplus = min(int(free - FREE_RATIO_KEPT * pages), GIVE_BACK_PAGES_MAX)
            if surplus <= 0:
                return 0
            connection.execute(f"PRAGMA incremental_vacuum({surplus})").fetchall()  # a page for each step
            return int(page_bytes * (pages - connection.execute("PRAGMA page_count").fetchone()[0]))

    def size(self) -> Size:
        """See :class:`History`."""
        with self._database.read() as connection:
            page_bytes, pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in PAGES)
        return Size(pages * page_bytes, free * page_bytes, shutil.disk_usage(self._database.folder).free)


PAGES = ("page_size", "page_count", "freelist_count")


def batch_query(cut: Cut, after: Place | None, count_max: int) -> tuple[str, list[object]]:
    """SQL and values of one batch's look: age, key, and whether something needs the row."""
    table = TABLES[cut.table]
    where, values = _old(cut)
    place = ", ".join((table.age, *table.key))
    if after is not None:
        where += f" AND ({place}) > ({', '.join('?' * len(after))})"
        values += after
    query = f"SELECT {place}, {table.is_needed} FROM {cut.table} t WHERE {where} ORDER BY {place} LIMIT ?"  # noqa: S608 - names of ours
    return query, [*values, count_max]


def _old(cut: Cut) -> tuple[str, list[object]]:
    table = TABLES[cut.table]
    of_kind = f"{table.kind} = ? AND " if table.kind else ""
    return f"{of_kind}{table.age} < ?", [*([cut.kind] if table.kind else []), to_ms(cut.before)]
