"""Group commit: many threads append, one of them writes for all who wait.

The failure this exists for: one ``fdatasync`` per record and thread, when the disk gives a few hundred a second. Whoever
gets the log's lock first commits everything that has arrived by then; the others find their records done.

It knows neither files nor numbers; the log's ``commit`` marks each :class:`Waiting` with a sequence or an error.
"""

import threading
from collections.abc import Callable, Sequence

from edge_component.telemetry.errors import OutboxClosedError

Encode = Callable[[str, int], bytes]
"""Makes a payload once its epoch and sequence number are known."""


class Waiting:
    """One append on its way: done once it has a ``sequence`` (from 1) or an ``error``."""

    __slots__ = ("encode", "error", "sequence")

    def __init__(self, encode: Encode) -> None:
        """Not done."""
        self.encode = encode
        self.sequence = 0
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether somebody has committed or refused it."""
        return bool(self.sequence) or self.error is not None


class GroupCommit:
    """The queue before the log's lock."""

    def __init__(self, lock: threading.Lock, commit: Callable[[Sequence[Waiting]], None]) -> None:
        """``commit`` is called under ``lock`` and marks every element of the group as done."""
        self._lock = lock
        self._commit = commit
        self._arrivals = threading.Lock()
        self._waiting: list[Waiting] = []

    def append(self, encode: Encode) -> int:
        """Have one payload committed; returns its sequence.

        Raises:
            OutboxClosedError: whoever committed for us was interrupted; nothing is known of the record.
            Exception: what ``commit`` marked this one with.
        """
        mine = Waiting(encode)
        with self._arrivals:
            self._waiting.append(mine)
        with self._lock:
            if not mine.is_done:
                with self._arrivals:
                    group, self._waiting = self._waiting, []
                self._commit(group)
        if mine.error is not None:
            raise mine.error
        if not mine.is_done:
            raise OutboxClosedError("the append was interrupted")
        return mine.sequence
