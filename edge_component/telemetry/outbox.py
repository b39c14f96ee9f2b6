"""The outbox: messages of contract form, kept on disk until the cloud's door has taken them.

The failure this exists for: a device that is offline for a night and forgets it. A message is durable before
:meth:`Outbox.append` returns; the outbox is bounded and gives up its oldest messages, every one of them counted; delivery
is at least once, and ``(thing name, epoch, sequence)`` lets the cloud tell a repetition. And a device whose disk is full:
an outbox that cannot be opened is tried again with each message, and serving starts without it; and a message of which
only the latest matters (a heartbeat) is sent from memory, so that the device in trouble is not the silent one. It leaves
behind everything that is on disk, and is numbered in an epoch of this process alone: a number of the log's own would be
given again after a crash, and the cloud would drop the message that it is then given to.

It makes envelopes and knows sizes; the disk is ``segment_log``'s and the network ``uplink``'s. Any thread may call
anything.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_component.clock import Clock
from edge_component.contracts.codec import Document, to_bytes
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.heartbeat import OutboxState
from edge_component.contracts.limits import LIMITS
from edge_component.telemetry.errors import OutboxClosedError, OutboxDiskError
from edge_component.telemetry.segment_log import Entry, LogLimits, SegmentLog

logger = logging.getLogger(__name__)

SEQUENCE_MAX = 2**63 - 1
LONGEST_KIND = "activation"
PROBLEM_CHARS_MAX = 200
EPOCH_CHARS_MAX = 32
"""What the log's cursor holds; the contract allows more."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits to be sent: ``payload`` is an envelope's bytes, ready to publish.

    ``entry`` is its place on disk; ``None`` for the one that is in memory alone.
    """

    payload: bytes
    entry: Entry | None = None

    @classmethod
    def of(cls, entry: Entry) -> "Queued":
        """One that is on disk."""
        return cls(entry.payload, entry)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in an outbox's life."""

    arrivals_count: int
    wakes_count: int


class Outbox:
    """A folder of waiting messages of one thing."""

    def __init__(
        self,
        directory: Path,
        thing_name: str,
        clock: Clock,
        limits: LogLimits | None = None,
        new_epoch: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """Open it, and recover what waits there; if the file system refuses, that is logged and tried again later."""
        self._directory = directory
        self.thing_name = thing_name
        """Who appends; what waits from before may name another."""
        self._clock = clock
        self._limits = limits or LogLimits()
        self._new_epoch = new_epoch
        self._opening = threading.Lock()
        self._opened: SegmentLog | None = None
        self._is_closed = False
        self._arrived = threading.Condition()
        self._mark = Mark(0, 0)
        self._problem = ""
        self._latest: Queued | None = None
        self._latest_count = 0
        self._process_epoch = ""
        try:
            self._log()
        except OutboxDiskError as error:
            self._keeps_nothing(error)

    @property
    def body_bytes_max(self) -> int:
        """How large a body's canonical JSON may be, so that its envelope fits a publish whatever its numbers."""
        return body_bytes_max(self.thing_name, self._clock)

    def append(self, kind: str, body: Document) -> int:
        """Keep a message; returns its sequence number once it is durable.

        Raises:
            TooLargeError: the envelope does not fit a publish; nothing was kept.
            OutboxDiskError: the disk refused, even after older messages were given up; nothing was kept.
            OutboxClosedError: the outbox is closed.
        """
        recorded_at = self._clock.now()

        def encode(epoch: str, sequence: int) -> bytes:
            return Envelope(kind, self.thing_name, epoch, sequence, recorded_at, body).to_bytes()

        try:
            sequence = self._log().append(encode)
        except OutboxDiskError as error:
            self._keeps_nothing(error)
            raise
        if self._problem:
            logger.info("outbox: messages are kept on disk again")
            self._problem, self._latest = "", None
        self._notice_arrival()
        return sequence

    def hold(self, kind: str, body: Document) -> None:
        """Let a message that :meth:`append` refused be sent from memory, behind what is on disk; the latest one only.

        It is gone with the process, when the next one takes its place, and when the disk takes messages again: a newer
        one will be among them, and would be overtaken.

        Raises:
            TooLargeError: the envelope does not fit a publish.
        """
        with self._arrived:
            self._process_epoch = self._process_epoch or self._new_epoch()
            self._latest_count += 1
            envelope = Envelope(kind, self.thing_name, self._process_epoch, self._latest_count, self._clock.now(), body)
            self._latest = Queued(envelope.to_bytes())
        self._notice_arrival()

    def oldest(self, count: int) -> tuple[Queued, ...]:
        """Up to ``count`` of the oldest messages, in the order in which they are to be sent.

        Raises:
            OutboxDiskError: the outbox cannot be opened, or what was sent cannot be left behind, and :meth:`hold` holds
                nothing.
            OutboxClosedError: it is closed.
        """
        latest = self._latest
        try:
            kept = tuple(Queued.of(entry) for entry in self._log().peek(count))
        except OutboxDiskError:
            if latest is None:
                raise
            return (latest,)
        return kept or ((latest,) if latest is not None else ())

    def acknowledge(self, last: Queued) -> None:
        """The door has taken every message up to and including ``last``: durably forget them.

        Raises:
            OutboxDiskError: that could not be made durable; after a crash they will be sent again.
        """
        if last.entry is None:
            self._let_go(last)
        else:
            self._log().acknowledge(last.entry)

    def after(self, queued: Queued) -> Queued | None:
        """The message that follows one of :meth:`oldest`; ``None`` if it is the last. Raises as :meth:`oldest`."""
        if queued.entry is None:
            return None
        entry = self._log().after(queued.entry)
        return Queued.of(entry) if entry else self._latest

    def give_up(self, queued: Queued) -> None:
        """Forget the oldest message undelivered, counted as dropped, and the delivered ones before it.

        Raises:
            OutboxDiskError: as for :meth:`acknowledge`.
        """
        if queued.entry is None:
            logger.error("outbox: a message that no disk held cannot be delivered and is given up")
            self._let_go(queued)
            return
        logger.error("outbox: message %d cannot be delivered and is given up", queued.entry.sequence)
        self._log().acknowledge(queued.entry, dropped_count=1)

    def mark(self) -> Mark:
        """Where the waits below count from, so that nothing which happens before the wait begins is missed."""
        with self._arrived:
            return self._mark

    def wait_for_arrival(self, since: Mark, timeout_s: float) -> None:
        """Return when a message has arrived or :meth:`wake` was called since the mark, or in ``timeout_s``."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._mark != since, timeout_s)

    def wait_for_wake(self, since: Mark, timeout_s: float) -> None:
        """Return when :meth:`wake` was called since the mark, or in ``timeout_s``; arrivals do not matter."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._mark.wakes_count != since.wakes_count, timeout_s)

    def wake(self) -> None:
        """Let everyone who waits go on."""
        with self._arrived:
            self._mark = replace(self._mark, wakes_count=self._mark.wakes_count + 1)
            self._arrived.notify_all()

    def state(self) -> OutboxState:
        """As the heartbeat reports it; zeros while it cannot be opened."""
        log = self._opened
        if log is None:
            return OutboxState(problem=self._problem)
        state = log.state()
        return OutboxState(state.queued_count, state.queued_bytes, state.dropped_count, self._problem)

    def close(self) -> None:
        """Close the files; idempotent."""
        with self._opening:
            self._is_closed = True
            if self._opened is not None:
                self._opened.close()
        self.wake()

    def _notice_arrival(self) -> None:
        with self._arrived:
            self._mark = replace(self._mark, arrivals_count=self._mark.arrivals_count + 1)
            self._arrived.notify_all()

    def _keeps_nothing(self, error: OutboxDiskError) -> None:
        if not self._problem:
            logger.warning("%s; messages are not kept on disk until it can", error)
        self._problem = str(error)[:PROBLEM_CHARS_MAX]

    def _let_go(self, sent: Queued) -> None:
        """Unless a later one has taken its place."""
        with self._arrived:
            if self._latest is sent:
                self._latest = None

    def _log(self) -> SegmentLog:
        with self._opening:
            if self._is_closed:
                raise OutboxClosedError("the outbox is closed")
            if self._opened is None:
                self._opened = SegmentLog(self._directory, self._limits, self._new_epoch)
            return self._opened


def body_bytes_max(thing_name: str, clock: Clock) -> int:
    """See :attr:`Outbox.body_bytes_max`. Canonical JSON has no context: an envelope is its frame plus its body."""
    epoch = "e" * EPOCH_CHARS_MAX
    frame = Envelope(LONGEST_KIND, thing_name, epoch, SEQUENCE_MAX, clock.now(), {})
    return LIMITS.publish_bytes_max - len(to_bytes(frame.to_document())) + len(b"{}")
