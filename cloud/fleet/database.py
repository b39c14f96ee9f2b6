"""SQLite connections for the fleet store: lent for one view or transaction, WAL, and a commit that survives a power cut.

The failure this exists for: a queue message deleted after a commit that the disk forgot. ``synchronous=NORMAL`` lost
acknowledged rows in power cuts (measured), so every connection uses FULL; batches make that cheap.

Concurrency: any number of readers beside one writer, each with a connection of its own while it works; there are as many
as ever worked at once, however many threads came and went. Writers wait for each other up to ``BUSY_TIMEOUT_MS``. It is
not an object mapper: statements live beside their readers.
"""

import fcntl
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cloud.errors import ConflictError, EdgewrightError, InvalidInputError, UnavailableError
from cloud.fleet.order import MS_MAX
from cloud.fleet.schema import migrate

BUSY_TIMEOUT_MS = 10_000
SCHEME = "sqlite:///"
NO_FILE = re.compile(r":memory:|file:.*|.*\?.*")
"""What SQLite, or its URLs elsewhere, take for something else than a file's name."""

DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LOCK_SUFFIX = "-serve"
DISK_REMEDY = "Check free space and permissions of the database's folder; nothing was lost."
HELD_REMEDY = "Another program writes to it for long, perhaps a backup: end that one. Nothing was lost."
DAMAGED_REMEDY = (
    "Check EDGEWRIGHT_DATABASE_URL. If it is the fleet's own file: end edgewright serve, move it aside with its -wal and -shm, and "
    "put a copy of it there or none; from nothing, devices are known again by their next heartbeats, and the history is gone."
)


class StoreUnavailableError(UnavailableError):
    """The database file cannot be read or written now (full disk, lock, permissions); nothing was changed."""

    code = "store-unavailable"


class StoreDamagedError(EdgewrightError):
    """The file is no SQLite database, or its content is damaged; nothing was changed."""

    code = "store-damaged"


class StoreInUseError(ConflictError):
    """Another process does over this database what only one may do."""

    code = "store-in-use"


class Database:
    """The fleet database. Thread-safe; :meth:`close` closes every connection."""

    def __init__(self, path: Path) -> None:
        """Open, create and migrate as needed.

        Raises:
            StoreTooNewError, StoreForeignError: written by a later Edgewright, or by another program.
            StoreDamagedError: no database, or damaged.
            StoreUnavailableError: the file cannot be opened, or another program holds it.
        """
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False
        self._lock = threading.Lock()
        with _wrapped(f"opening {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._lent() as connection:
                    migrate(connection)
            except BaseException:
                self.close()
                raise

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._path.absolute().parent

    @classmethod
    def from_url(cls, url: str, *, must_exist: bool = False) -> "Database":
        """Open ``sqlite:///<path>``.

        Raises:
            InvalidInputError: another kind of URL, or no file where there must be one.
        """
        path = url.removeprefix(SCHEME)
        if path in ("", url) or NO_FILE.fullmatch(path):
            raise InvalidInputError(
                f"EDGEWRIGHT_DATABASE_URL is {url!r}",
                "Write sqlite:///<path of a file>; other stores are not built yet.",
            )
        if must_exist and not Path(path).is_file():
            raise InvalidInputError(
                f"there is no fleet database at {Path(path).absolute()}",
                "Point EDGEWRIGHT_DATABASE_URL at the file of edgewright serve.",
            )
        return cls(Path(path))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For what only one process may do over this database; the system lets go when a process ends, however it does.

        Not a lock on the database's own file: closing that would take SQLite's locks away.

        Raises:
            StoreInUseError: another process does it.
        """
        with _wrapped(f"locking {self._path}"):
            lock = self._path.with_name(self._path.name + LOCK_SUFFIX).open("wb")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreInUseError(
                    f"another edgewright serve works over {self._path}",
                    "End that one, or point EDGEWRIGHT_DATABASE_URL at another file.",
                ) from error
            yield

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view over several statements."""
        with _wrapped("reading the fleet database"), self._lent() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed durably at the end of the block, or rolled back whole if it raises."""
        with _wrapped("writing the fleet database"), self._lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close every connection; one that is lent is closed when it comes back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._opened()
        try:
            yield connection
        finally:
            with self._lock:
                is_kept = not self._is_closed and not connection.in_transaction
                if is_kept:
                    self._idle.append(connection)
            if not is_kept:
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            if not connection.execute("PRAGMA page_count").fetchone()[0]:  # later it would need a VACUUM
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection


def from_ms(at_ms: int) -> datetime:
    """The inverse of :func:`cloud.fleet.order.to_ms`."""
    return datetime.fromtimestamp(min(at_ms, MS_MAX) / 1000, UTC)


@contextmanager
def _wrapped(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells more closely
        if code in DAMAGED:
            raise StoreDamagedError(f"{what}: {error}", DAMAGED_REMEDY) from error
        is_held = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        raise StoreUnavailableError(f"{what}: {error}", HELD_REMEDY if is_held else DISK_REMEDY) from error
    except OSError as error:
        raise StoreUnavailableError(f"{what}: {error}", DISK_REMEDY) from error
