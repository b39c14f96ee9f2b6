"""SQLite connections for the fleet store: one per thread, WAL, and a commit that survives a power cut.

The failure this exists for: a queue message deleted after a commit that the disk forgot. ``synchronous=NORMAL`` lost
acknowledged rows in power cuts (measured), so every connection uses FULL; batches make that cheap.

Concurrency: any number of readers beside one writer, each thread with its own connection; writers wait for each other
up to ``BUSY_TIMEOUT_MS``. It is not an object mapper: statements live beside their readers.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cloud.errors import InvalidInputError, UnavailableError
from cloud.fleet.schema import migrate

BUSY_TIMEOUT_MS = 10_000
SCHEME = "sqlite:///"


class StoreUnavailableError(UnavailableError):
    """The database file cannot be read or written now (full disk, lock, permissions); nothing was changed."""

    code = "store-unavailable"


class Database:
    """The fleet database. Thread-safe; :meth:`close` closes every thread's connection."""

    def __init__(self, path: Path) -> None:
        """Open, create and migrate as needed.

        Raises:
            StoreTooNewError: written by a later Edgewright.
            StoreUnavailableError: the file cannot be opened or is no database.
        """
        self._path = path
        self._own = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with _wrapped(f"opening {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            migrate(self._connection())

    @classmethod
    def from_url(cls, url: str) -> "Database":
        """Open ``sqlite:///<path>``.

        Raises:
            InvalidInputError: another kind of URL.
        """
        if not url.startswith(SCHEME) or len(url) == len(SCHEME):
            raise InvalidInputError(
                f"EDGEWRIGHT_DATABASE_URL is {url!r}", "Write sqlite:///<path>; other stores are not built yet."
            )
        return cls(Path(url.removeprefix(SCHEME)))

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view over several statements."""
        connection = self._connection()
        with _wrapped("reading the fleet database"):
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed durably at the end of the block, or rolled back whole if it raises."""
        connection = self._connection()
        with _wrapped("writing the fleet database"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close every connection; call when no other thread uses the database any more."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._own = threading.local()

    def _connection(self) -> sqlite3.Connection:
        existing: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if existing is not None:
            return existing
        connection = sqlite3.connect(
            self._path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        with self._lock:
            self._all.append(connection)
        self._own.connection = connection
        return connection


def from_ms(at_ms: int) -> datetime:
    """The inverse of :func:`cloud.fleet.order.to_ms`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


@contextmanager
def _wrapped(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailableError(
            f"{what}: {error}", "Check free space and permissions of the database's folder; nothing was lost."
        ) from error
