"""Each fault with its exact chain: whatever fails between receive and delete, nothing is lost and nothing is counted twice."""

import threading
from collections.abc import Sequence

import pytest

from cloud.errors import EdgewrightError, UnavailableError
from cloud.fleet.consumer import Consumer, ConsumerLimits, MemoryQueue, QueueMessage
from cloud.fleet.database import Database, StoreUnavailableError
from cloud.fleet.facts import Fact, HeartbeatFact, Rejection
from cloud.fleet.store import CommitResult, MemoryFactSink, SqliteFactSink
from edge_component.contracts.envelope import Envelope
from tests.cloud.fleet.samples import T0, heartbeat, rule_output


def message(sequence: int, thing: str = "EWR") -> QueueMessage:
    envelope = Envelope("heartbeat", thing, "e1", sequence, T0, heartbeat().to_document())
    return QueueMessage(rule_output(envelope), f"{thing}-{sequence}")


BAD = QueueMessage("{", "bad")


def test_a_batch_spans_many_receives_and_is_deleted_after_the_commit() -> None:
    queue = MemoryQueue([message(1, f"thing-{index}") for index in range(25)])
    result = Consumer(queue, MemoryFactSink()).drain_once()
    assert (result.stored_count, len(queue.deleted)) == (25, 25)


def test_a_batch_is_bounded() -> None:
    queue = MemoryQueue([message(1, f"thing-{index}") for index in range(45)])
    result = Consumer(queue, MemoryFactSink(), ConsumerLimits(batch_count_max=20)).drain_once()
    assert result.stored_count == 20
    assert len(queue.waiting) == 25


def test_malformed_messages_are_parked_with_their_reason_and_counted() -> None:
    queue, sink = MemoryQueue([message(1), BAD]), MemoryFactSink()
    result = Consumer(queue, sink).drain_once()
    assert (result.stored_count, result.rejected_count) == (1, 1)
    assert [(parked.receipt, rejection.code) for parked, rejection in queue.parked] == [("bad", "not-json")]
    assert sink.rejected == {"not-json": 1}
    assert not queue.in_flight


def test_nothing_is_deleted_before_the_store_has_committed() -> None:
    queue, sink = MemoryQueue([message(1)]), MemoryFactSink(failure=StoreUnavailableError("full"))
    consumer = Consumer(queue, sink)
    with pytest.raises(StoreUnavailableError):
        consumer.drain_once()
    assert (queue.deleted, len(queue.in_flight)) == ([], 1)
    queue.redeliver()
    assert consumer.drain_once().stored_count == 1


def test_a_crash_between_commit_and_delete_is_known_the_second_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = MemoryQueue([message(1)])
    consumer = Consumer(queue, SqliteFactSink(database))

    def lost(messages: object) -> None:
        raise UnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryQueue, "delete", lambda self, messages: lost(messages))
        with pytest.raises(UnavailableError):
            consumer.drain_once()
    queue.redeliver()
    result = consumer.drain_once()
    assert (result.stored_count, result.known_count) == (0, 1)


def test_a_message_that_cannot_be_parked_stays_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, sink = MemoryQueue([BAD]), MemoryFactSink()

    def refuse(*_: object) -> None:
        raise UnavailableError("no dead-letter queue")

    monkeypatch.setattr(MemoryQueue, "park", refuse)
    with pytest.raises(UnavailableError):
        Consumer(queue, sink).drain_once()
    assert (queue.in_flight, sink.rejected) == ([BAD], {})


def test_run_reports_a_row_of_failures_once_and_goes_on() -> None:
    stop, reports = threading.Event(), list[EdgewrightError | None]()

    class Flaky(MemoryQueue):
        failures = 3

        def receive(self, wait_s: int) -> list[QueueMessage]:
            if self.failures:
                self.failures -= 1
                raise UnavailableError("down")
            if not self.waiting:
                stop.set()
            return list(super().receive(wait_s))

    sink = MemoryFactSink()
    limits = ConsumerLimits(retry_s_min=0.001, retry_s_max=0.002)
    Consumer(Flaky([message(1)]), sink, limits).run(stop, reports.append)
    assert [str(error) for error in reports] == ["down", "None"]
    assert len(sink.stored) == 1


class DefectiveSink(MemoryFactSink):
    """Fails, in a way that nobody foresaw, whatever holds something of one of these things."""

    things: frozenset[str] = frozenset()

    def commit(self, facts: Sequence[Fact], rejections: Sequence[Rejection] = ()) -> CommitResult:
        if any(fact.origin.thing_name in self.things for fact in facts if isinstance(fact, HeartbeatFact)):
            raise OverflowError("of ours")
        return super().commit(facts, rejections)


def test_what_a_defect_keeps_out_of_the_store_keeps_nothing_else_out() -> None:
    """It would come again with its batch until each of them has been received too often for SQS to keep."""
    queue, sink = (
        MemoryQueue([message(1, "AAA"), message(1, "BAD"), BAD, message(1, "ZZZ"), message(1, "AAA")]),
        DefectiveSink(),
    )
    sink.things = frozenset({"BAD"})
    result = Consumer(queue, sink).drain_once()
    assert result == CommitResult(stored_count=2, known_count=1, rejected_count=2)
    assert sorted(key[1] for key in sink.stored) == ["AAA", "ZZZ"]
    assert [(parked.receipt, rejection.code) for parked, rejection in queue.parked] == [
        ("bad", "not-json"), ("BAD-1", "defect"),
    ]  # fmt: skip
    assert "OverflowError('of ours')" in queue.parked[1][1].sentence
    assert sink.rejected == {"not-json": 1, "defect": 1}
    assert not queue.in_flight


def test_a_defect_that_is_met_with_every_message_leaves_them_in_the_queue() -> None:
    queue, sink = MemoryQueue([message(1, "AAA"), message(1, "ZZZ")]), DefectiveSink()
    sink.things = frozenset({"AAA", "ZZZ"})
    with pytest.raises(OverflowError):
        Consumer(queue, sink).drain_once()
    assert (len(queue.in_flight), queue.parked) == (2, [])
