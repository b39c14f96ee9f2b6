"""Read the ingest queue, commit in batches, and delete only what is committed.

The failure this exists for: telemetry lost between a queue and a store. The order is receive → decode → park what is
malformed in the dead-letter queue → commit → delete. A crash between any two steps delivers the messages again, which
the store takes as known; a message is parked twice at worst, never lost. One that a defect of ours keeps out of the store is
parked too: left in the queue it would keep the rest of its batch there, until SQS puts all of them away.

The shell; what a message means is ``ingest``, what becomes of a fact is ``store``. One consumer thread per process;
several processes may share the queue.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cloud.errors import EdgewrightError
from cloud.fleet.facts import Fact, Rejection
from cloud.fleet.ingest import read_body
from cloud.fleet.store import CommitResult, FactSink

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """How the consumer paces itself.

    Attributes:
        batch_count_max: messages in one transaction.
        wait_s: how long one empty receive waits (SQS: whole seconds up to 20).
        retry_s_min, retry_s_max: pause after a failure, doubled each time up to the maximum.
    """

    batch_count_max: int = 1_000
    wait_s: int = 1
    retry_s_min: float = 0.5
    retry_s_max: float = 30.0


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One delivery: ``receipt`` deletes this delivery, and changes with every redelivery."""

    body: str
    receipt: str


class IngestQueue(Protocol):
    """The queue that the IoT rule fills, and its dead-letter queue."""

    def receive(self, wait_s: int) -> Sequence[QueueMessage]:
        """Up to as many messages as one call gives; waits up to ``wait_s`` seconds for the first.

        Raises:
            UnavailableError: the queue did not answer.
        """

    def delete(self, messages: Sequence[QueueMessage]) -> None:
        """Remove these deliveries for good.

        Raises:
            UnavailableError: some may come again.
        """

    def park(self, message: QueueMessage, rejection: Rejection) -> None:
        """Put a copy of a message into the dead-letter queue, with the reason.

        Raises:
            UnavailableError: it was not parked; the original is still in the queue.
        """


@dataclass(slots=True)
class MemoryQueue:
    """The fake: ``waiting`` is what will be received, at most ten at a time; what was received stays until deleted."""

    waiting: list[QueueMessage] = field(default_factory=list)
    parked: list[tuple[QueueMessage, Rejection]] = field(default_factory=list)
    deleted: list[QueueMessage] = field(default_factory=list)
    in_flight: list[QueueMessage] = field(default_factory=list)

    def receive(self, wait_s: int) -> Sequence[QueueMessage]:
        """See :class:`IngestQueue`; does not wait."""
        del wait_s
        taken, self.waiting = self.waiting[:10], self.waiting[10:]
        self.in_flight += taken
        return taken

    def delete(self, messages: Sequence[QueueMessage]) -> None:
        """See :class:`IngestQueue`."""
        for message in messages:
            self.in_flight.remove(message)
            self.deleted.append(message)

    def park(self, message: QueueMessage, rejection: Rejection) -> None:
        """See :class:`IngestQueue`."""
        self.parked.append((message, rejection))

    def redeliver(self) -> None:
        """Let the visibility timeout pass."""
        self.waiting, self.in_flight = [*self.in_flight, *self.waiting], []


class Consumer:
    """Moves messages from the queue to the store."""

    def __init__(self, queue: IngestQueue, sink: FactSink, limits: ConsumerLimits = ConsumerLimits()) -> None:
        """Nothing is read until :meth:`drain_once` or :meth:`run`."""
        self._queue = queue
        self._sink = sink
        self._limits = limits

    def drain_once(self) -> CommitResult:
        """One batch: receive until the queue is empty for the moment or the batch is full, commit, delete.

        Raises:
            UnavailableError: queue or store did not answer; whatever was not committed will be delivered again.
        """
        messages = self._receive_batch()
        if not messages:
            return CommitResult(0, 0, 0)
        facts: list[tuple[QueueMessage, Fact]] = []
        rejections: list[Rejection] = []
        for message in messages:
            outcome = read_body(message.body)
            if isinstance(outcome, Rejection):
                self._queue.park(message, outcome)
                rejections.append(outcome)
            else:
                facts.append((message, outcome))
        try:
            result = self._sink.commit([fact for _, fact in facts], rejections)
        except EdgewrightError:
            raise
        except Exception as error:  # a defect of ours, met with one of them: SQS would in the end put all of them away
            log.exception("a batch of %d messages cannot be stored as a whole; each is stored by itself", len(messages))
            result = self._commit_each(facts, rejections, error)
        self._queue.delete(messages)
        return result

    def _commit_each(
        self, facts: Sequence[tuple[QueueMessage, Fact]], rejections: Sequence[Rejection], error: Exception
    ) -> CommitResult:
        stored = 0
        defects: list[tuple[QueueMessage, Rejection]] = []
        for message, fact in facts:
            try:
                stored += self._sink.commit([fact]).stored_count
            except EdgewrightError:
                raise
            except Exception as its_error:  # noqa: BLE001 - as above
                sentence = f"It cannot be stored, by a defect of Edgewright's: {its_error!r}."
                defects.append((message, Rejection("defect", sentence)))
        if len(defects) == len(facts) > 1:
            raise error  # it is not the messages
        for message, defect in defects:
            self._queue.park(message, defect)
        refused = [*rejections, *(defect for _, defect in defects)]
        self._sink.commit([], refused)
        return CommitResult(stored, len(facts) - len(defects) - stored, len(refused))

    def run(self, stop: threading.Event, report: Callable[[EdgewrightError | None], None]) -> None:
        """Drain until ``stop`` is set; ``report`` hears the first failure of each row of failures, and its end."""
        pause_s = 0.0
        while not stop.is_set():
            try:
                self.drain_once()
                if pause_s:
                    report(None)
                pause_s = 0.0
            except EdgewrightError as error:
                if not pause_s:
                    report(error)
                pause_s = min(max(2 * pause_s, self._limits.retry_s_min), self._limits.retry_s_max)
                stop.wait(pause_s)

    def _receive_batch(self) -> list[QueueMessage]:
        batch = list(self._queue.receive(self._limits.wait_s))
        while batch and len(batch) < self._limits.batch_count_max:
            more = self._queue.receive(0)
            if not more:
                break
            batch += more
        return batch
