"""The outbox: envelopes on disk, the size that fits, and a disk that is not there yet."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from edge_component.clock import ManualClock, SystemClock
from edge_component.contracts.codec import to_bytes
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.errors import TooLargeError
from edge_component.contracts.heartbeat import OutboxState
from edge_component.contracts.limits import LIMITS
from edge_component.telemetry.errors import OutboxClosedError, OutboxDiskError
from edge_component.telemetry.outbox import EPOCH_CHARS_MAX, SEQUENCE_MAX, Outbox, body_bytes_max
from tests.edge_component.telemetry.conftest import OpenOutbox


def test_a_message_is_kept_over_a_restart_and_numbers_go_on(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    assert outbox.append("heartbeat", {"n": 1}) == 1
    outbox.close()
    again = open_outbox()
    assert again.append("window", {"n": 2}) == 2
    messages = [Envelope.from_bytes(queued.payload) for queued in again.oldest(10)]
    assert [(message.kind, message.sequence, message.epoch) for message in messages] == [
        ("heartbeat", 1, "e1"),
        ("window", 2, "e1"),
    ]
    assert again.state().queued_count == 2
    assert again.state().queued_bytes > 200


def test_what_does_not_fit_a_publish_is_not_kept(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    with pytest.raises(TooLargeError):
        outbox.append("heartbeat", {"pad": "x" * LIMITS.publish_bytes_max})
    assert outbox.state() == OutboxState()
    assert outbox.append("heartbeat", {}) == 1


@given(st.text(min_size=0, max_size=4_300), st.from_regex(r"[A-Za-z0-9:_-]{1,128}", fullmatch=True))
def test_a_body_within_the_bound_always_fits_its_envelope(text: str, thing_name: str) -> None:
    clock = SystemClock()
    body = {"text": text}
    if len(to_bytes(body)) > body_bytes_max(thing_name, clock):
        return
    Envelope("activation", thing_name, "e" * EPOCH_CHARS_MAX, SEQUENCE_MAX, clock.now(), body).to_bytes()


def test_a_disk_that_is_not_there_yet_is_tried_again_with_each_message(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    outbox = Outbox(blocked, "station-jfk", clock)
    assert "cannot be opened" in caplog.text
    for _ in range(2):
        with pytest.raises(OutboxDiskError, match="cannot be opened"):
            outbox.append("heartbeat", {})
        with pytest.raises(OutboxDiskError):
            outbox.oldest(1)
    assert outbox.state().queued_count == 0
    assert caplog.text.count("cannot be opened") == 1, "the transition, not the attempts"
    blocked.unlink()
    assert outbox.append("heartbeat", {}) == 1
    outbox.close()


def test_a_closed_outbox_takes_and_gives_nothing(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    outbox.append("heartbeat", {})
    outbox.close()
    outbox.close()
    with pytest.raises(OutboxClosedError):
        outbox.append("heartbeat", {})
    with pytest.raises(OutboxClosedError):
        outbox.oldest(1)


def test_a_wait_misses_nothing_that_came_before_it(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    mark = outbox.mark()
    outbox.append("heartbeat", {})
    outbox.wait_for_arrival(mark, 600)
    mark = outbox.mark()
    outbox.wake()
    outbox.wait_for_arrival(mark, 600)
    outbox.wait_for_wake(mark, 600)


def test_a_heartbeat_that_the_disk_does_not_take_leaves_from_memory_behind_what_waits(
    open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = open_outbox()
    outbox.append("window", {"n": 1})
    refuse_writes(monkeypatch)
    with pytest.raises(OutboxDiskError):
        outbox.append("heartbeat", {"n": 2})
    assert "No space left" in outbox.state().problem
    for n in (2, 3):
        outbox.hold("heartbeat", {"n": n})
    (kept,) = outbox.oldest(10)
    assert Envelope.from_bytes(kept.payload).body == {"n": 1}
    held = outbox.after(kept)
    assert held is not None
    assert outbox.after(held) is None
    outbox.acknowledge(kept)
    assert outbox.oldest(10) == (held,)
    message = Envelope.from_bytes(held.payload)
    assert (message.kind, message.epoch, message.sequence, dict(message.body)) == ("heartbeat", "e2", 2, {"n": 3})
    outbox.hold("heartbeat", {"n": 4})
    outbox.acknowledge(held)
    (later,) = outbox.oldest(10)
    assert Envelope.from_bytes(later.payload).body == {"n": 4}, "the later one has taken its place"
    outbox.give_up(later)
    assert outbox.oldest(10) == ()


def test_what_is_held_is_superseded_once_the_disk_takes_messages_again(
    open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = open_outbox()
    with monkeypatch.context() as patched:
        refuse_writes(patched)
        with pytest.raises(OutboxDiskError):
            outbox.append("heartbeat", {"n": 1})
        outbox.hold("heartbeat", {"n": 1})
    assert outbox.append("heartbeat", {"n": 2}) == 1, "no number of the log's own was spent on it"
    assert [Envelope.from_bytes(queued.payload).body for queued in outbox.oldest(10)] == [{"n": 2}]
    assert outbox.state().problem == ""


def test_an_outbox_that_cannot_be_opened_sends_what_it_holds(tmp_path: Path, clock: ManualClock) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    outbox = Outbox(blocked, "station-jfk", clock)
    assert "cannot be opened" in outbox.state().problem
    outbox.hold("heartbeat", {})
    (held,) = outbox.oldest(10)
    outbox.acknowledge(held)
    with pytest.raises(OutboxDiskError):
        outbox.oldest(10)
    outbox.close()


def refuse_writes(patched: pytest.MonkeyPatch) -> None:
    """As a full disk does; the cursor, which takes no new block, is written with ``pwrite``."""

    def refuse(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patched.setattr(os, "write", refuse)
