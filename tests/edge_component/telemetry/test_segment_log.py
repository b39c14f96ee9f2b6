"""The log's ordinary life on real files: what was acknowledged is there, in order, once, and within its bytes."""

import os
import threading
from pathlib import Path

import pytest

from edge_component.contracts.errors import TooLargeError
from edge_component.telemetry.errors import OutboxClosedError
from tests.edge_component.telemetry.conftest import OpenLog
from tests.edge_component.telemetry.logs import SMALL, drain, put, segments, texts


def test_records_come_back_in_order_and_once_acknowledged_never_again(open_log: OpenLog) -> None:
    log = open_log()
    assert put(log, 5) == [1, 2, 3, 4, 5]
    assert texts(log, 2) == ["e1:1", "e1:2"]
    log.acknowledge(log.peek(2)[-1])
    assert texts(log) == ["e1:3", "e1:4", "e1:5"]
    log.close()
    again = open_log()
    assert texts(again) == ["e1:3", "e1:4", "e1:5"]
    assert put(again, 1) == [6]
    assert drain(again) == ["e1:3", "e1:4", "e1:5", "e1:6"]
    assert again.state().queued_count == 0


def test_numbers_go_on_after_everything_was_sent_and_closed(open_log: OpenLog) -> None:
    log = open_log(SMALL)
    for _ in range(3):
        put(log, 10)
        drain(log)
        log.close()
        log = open_log(SMALL)
    assert put(log, 1) == [31]
    assert log.state().epoch == "e1"


def test_sealed_segments_go_when_they_are_done_with(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    put(log, 20)
    assert len(segments(tmp_path)) > 2
    drain(log)
    assert len(segments(tmp_path)) == 1


def test_a_full_log_gives_up_its_oldest_and_counts_every_one(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    sequences = put(log, 100)
    state = log.state()
    kept = drain(log)
    assert kept == [f"e1:{sequence}" for sequence in sequences[state.dropped_count :]]
    assert 0 < state.dropped_count < 100
    assert state.queued_count == len(kept)


def test_the_log_stays_within_its_bytes(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(SMALL)
    for _ in range(60):
        put(log, 1, size=333)
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= SMALL.bytes_max


def test_dropped_counts_survive_a_restart(open_log: OpenLog) -> None:
    log = open_log(SMALL)
    put(log, 100)
    dropped_count = log.state().dropped_count
    log.close()
    assert open_log(SMALL).state().dropped_count == dropped_count > 0


def test_an_acknowledgement_of_what_was_given_up_meanwhile_is_no_matter(open_log: OpenLog) -> None:
    log = open_log(SMALL)
    put(log, 3)
    held = log.peek(2)
    put(log, 100)
    before = texts(log)
    log.acknowledge(held[-1])
    assert texts(log) == before


def test_a_failing_encoder_uses_up_no_number(open_log: OpenLog) -> None:
    log = open_log()

    def refuse(epoch: str, sequence: int) -> bytes:
        raise TooLargeError("no")

    with pytest.raises(TooLargeError):
        log.append(refuse)
    with pytest.raises(TooLargeError, match="a record holds at most"):
        log.append(lambda epoch, sequence: b"x" * 20_000)
    assert put(log, 1) == [1]


def test_a_closed_log_takes_nothing(open_log: OpenLog) -> None:
    log = open_log()
    log.close()
    log.close()
    with pytest.raises(OutboxClosedError):
        put(log, 1)


def test_many_threads_share_commits_and_no_number(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    sync = os.fdatasync

    def counting(descriptor: int) -> None:
        syncs.append(descriptor)
        sync(descriptor)

    log = open_log()
    monkeypatch.setattr(os, "fdatasync", counting)
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(put(log, 40))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 321))
    assert drain(log) == [f"e1:{number}" for number in range(1, 321)]
    assert len(syncs) <= 320 + 50
