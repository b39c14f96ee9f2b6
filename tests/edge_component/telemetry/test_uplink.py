"""The uplink: drains when there is a way, waits when there is none, and is held up by no single message."""

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from edge_component.backoff import Backoff
from edge_component.clock import ManualClock
from edge_component.contracts.envelope import Envelope
from edge_component.nucleus_port import InMemoryNucleus
from edge_component.telemetry.outbox import Outbox
from edge_component.telemetry.segment_log import LogLimits
from edge_component.telemetry.uplink import Action, Outcome, Uplink, UplinkLimits, UplinkState, decide
from tests.edge_component.telemetry.conftest import OpenOutbox

LIMITS = UplinkLimits(backoff=Backoff(1.0, 60.0), batch_count=4, refusals_max=3)
HEARTBEAT = "$aws/rules/edgewright_ingest/edgewright/v1/station-jfk/heartbeat"
WINDOW = "$aws/rules/edgewright_ingest/edgewright/v1/station-jfk/window"


def make_uplink(outbox: Outbox, nucleus: InMemoryNucleus) -> Uplink:
    return Uplink(outbox, nucleus, lambda: 0.0, limits=LIMITS)


def step_until_empty(uplink: Uplink, steps_max: int = 100) -> list[float]:
    waits: list[float] = []
    for _ in range(steps_max):
        wait_s = uplink.step()
        if wait_s is None:
            return waits
        waits.append(wait_s)
    raise AssertionError("the outbox never became empty")


def sequences(nucleus: InMemoryNucleus) -> list[int]:
    return [Envelope.from_bytes(payload).sequence for _, payload in nucleus.published]


# -- the decision ------------------------------------------------------------------------------------------------------

states = st.builds(UplinkState, st.integers(0, 100), st.integers(0, 2))


@given(states, st.sampled_from(Outcome), st.floats(0, 1, exclude_max=True))
def test_every_wait_is_bounded_and_only_a_failure_waits(state: UplinkState, outcome: Outcome, drawn: float) -> None:
    decision = decide(state, outcome, LIMITS, lambda: drawn)
    assert 0 <= decision.wait_s <= 60
    assert (decision.wait_s > 0) == (decision.action is Action.KEEP)
    assert decision.state.is_online or decision.action is Action.KEEP or outcome is Outcome.UNREADABLE


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True))
def test_backoff_doubles_between_its_bounds_and_is_jittered(failures_count: int, drawn: float) -> None:
    backoff = Backoff(1.0, 60.0)
    wait_s = backoff.wait_s(failures_count, lambda: drawn)
    interval_s = min(60.0, 2.0 ** min(failures_count - 1, 10))
    assert interval_s / 2 <= wait_s <= interval_s


# -- with a real outbox and the nucleus that ships ---------------------------------------------------------------------


def test_messages_of_another_thing_hold_up_none_of_this_one(tmp_path: Path, clock: ManualClock) -> None:
    """A card moved to another device, or an image taken of one that was in use: AWS IoT would take none of them, for ever."""
    before = Outbox(tmp_path / "moved", "station-ewr", clock)
    for number in range(10):
        before.append("window", {"n": number})
    before.close()
    outbox, nucleus = Outbox(tmp_path / "moved", "station-jfk", clock), InMemoryNucleus()
    outbox.append("heartbeat", {"n": 1})
    assert set(step_until_empty(make_uplink(outbox, nucleus))) == {0.0}
    assert [topic for topic, _ in nucleus.published] == [HEARTBEAT]
    assert (outbox.state().queued_count, outbox.state().dropped_count) == (0, 10), "every one of them counted"
    outbox.close()


def test_messages_go_out_in_order_to_their_topics(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus()
    outbox.append("heartbeat", {"n": 1})
    outbox.append("window", {"n": 2})
    assert step_until_empty(make_uplink(outbox, nucleus)) == [0.0]
    assert [topic for topic, _ in nucleus.published] == [HEARTBEAT, WINDOW]
    message = Envelope.from_bytes(nucleus.published[1][1])
    assert (message.thing_name, message.epoch, message.sequence, dict(message.body)) == (
        "station-jfk",
        "e1",
        2,
        {"n": 2},
    )
    assert outbox.state().queued_count == 0


def test_another_rule_is_another_topic(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus()
    uplink = make_uplink(outbox, nucleus)
    uplink.use_rule("other")
    outbox.append("heartbeat", {})
    uplink.step()
    assert nucleus.published[0][0] == "$aws/rules/other/edgewright/v1/station-jfk/heartbeat"


def test_offline_tries_one_message_at_growing_intervals_and_says_so_once(
    open_outbox: OpenOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outbox, nucleus = open_outbox(), InMemoryNucleus(is_online=False)
    for n in range(20):
        outbox.append("heartbeat", {"n": n})
    uplink = make_uplink(outbox, nucleus)
    assert [uplink.step() for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert outbox.state().queued_count == 20
    nucleus.is_online = True
    assert set(step_until_empty(uplink)) == {0.0}
    assert sequences(nucleus) == list(range(1, 21))
    said = [record.message for record in caplog.records if record.name.endswith("uplink")]
    assert len(said) == 2
    assert "no way to the cloud" in said[0]
    assert "again" in said[1]


def test_going_offline_in_mid_batch_repeats_nothing_that_was_acknowledged(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus()
    for n in range(4):
        outbox.append("heartbeat", {"n": n})
    taken = nucleus.publish

    class Falling:
        def publish(self, topic: str, payload: bytes) -> None:
            taken(topic, payload)
            nucleus.is_online = len(nucleus.published) < 2

    uplink = Uplink(outbox, Falling(), lambda: 0.0, limits=LIMITS)
    assert uplink.step() == 0.5
    assert outbox.state().queued_count == 2
    nucleus.is_online = True
    uplink = make_uplink(outbox, nucleus)
    step_until_empty(uplink)
    assert sequences(nucleus) == [1, 2, 3, 4]


@pytest.mark.parametrize("segments_count", [16, 4000], ids=["same segment", "next segment"])
def test_one_poisoned_message_is_given_up_and_counted_once_another_gets_through(
    open_outbox: OpenOutbox, segments_count: int
) -> None:
    outbox = open_outbox(LogLimits(bytes_max=1_000_000, segments_count=segments_count))
    nucleus = InMemoryNucleus(refused_topics={WINDOW})
    outbox.append("heartbeat", {})
    outbox.append("window", {})
    outbox.append("heartbeat", {})
    uplink = make_uplink(outbox, nucleus)
    assert step_until_empty(uplink) != []
    assert set(sequences(nucleus)) == {1, 3}
    state = outbox.state()
    assert (state.queued_count, state.dropped_count) == (0, 1)


def test_where_everything_is_refused_nothing_is_given_up(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    nucleus = InMemoryNucleus(refused_topics={WINDOW, HEARTBEAT})
    for _ in range(3):
        outbox.append("window", {})
    outbox.append("heartbeat", {})
    uplink = make_uplink(outbox, nucleus)
    for _ in range(50):
        assert uplink.step()
    assert (outbox.state().queued_count, outbox.state().dropped_count) == (4, 0)
    nucleus.refused_topics.clear()
    step_until_empty(uplink)
    assert sequences(nucleus) == [1, 2, 3, 4]


def test_what_is_no_message_is_given_up_at_once(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus()
    outbox._log().append(lambda epoch, sequence: b"junk")
    outbox.append("heartbeat", {})
    step_until_empty(make_uplink(outbox, nucleus))
    assert sequences(nucleus) == [2]
    assert outbox.state().dropped_count == 1


def test_on_its_thread_it_sends_what_arrives_and_stops(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus()
    arrived = threading.Event()

    class Noting:
        def publish(self, topic: str, payload: bytes) -> None:
            nucleus.publish(topic, payload)
            arrived.set()

    uplink = Uplink(outbox, Noting(), lambda: 0.0)
    uplink.start()
    for _ in range(3):
        arrived.clear()
        outbox.append("heartbeat", {})
        assert arrived.wait(10)
    uplink.stop()
    assert not uplink._thread.is_alive()
    assert sequences(nucleus) == [1, 2, 3]


def test_a_long_wait_ends_when_somebody_knows_better(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus(is_online=False)
    tried, taken = threading.Event(), threading.Event()

    class Noting:
        def publish(self, topic: str, payload: bytes) -> None:
            tried.set()
            nucleus.publish(topic, payload)
            taken.set()

    outbox.append("heartbeat", {})
    uplink = Uplink(outbox, Noting(), lambda: 0.0, limits=UplinkLimits(backoff=Backoff(600.0, 600.0)))
    uplink.start()
    assert tried.wait(10)
    nucleus.is_online = True
    for _ in range(100):
        uplink.retry_now()
        if taken.wait(0.1):
            break
    uplink.stop()
    assert taken.is_set()
    assert not uplink._thread.is_alive()


def test_recorded_at_is_the_outbox_clocks(open_outbox: OpenOutbox) -> None:
    outbox, nucleus = open_outbox(), InMemoryNucleus()
    outbox.append("heartbeat", {})
    make_uplink(outbox, nucleus).step()
    assert Envelope.from_bytes(nucleus.published[0][1]).recorded_at == datetime(2026, 3, 1, tzinfo=UTC)
