"""The table of a step's life: exact chains, and laws over any sequence of events."""

import pytest
from hypothesis import given, strategies as st

from simulator.nucleus.lifecycle import HAS_PROCESS, Action, Event, Kind, Limits, State, Unit, step

START, STOP, READY, LEAVING = Event.START, Event.STOP, Event.READY, Event.LEAVING
WELL, BADLY, OVERDUE, RETRY, FORGIVE = (
    Event.EXITED_WELL, Event.EXITED_BADLY, Event.OVERDUE, Event.RETRY, Event.FORGIVE,
)  # fmt: skip

CHAINS = [
    # kind, events, states after each
    ("run", [START, WELL, RETRY], ["running", "finished", "finished"]),
    ("run", [START, BADLY, RETRY, BADLY, RETRY, BADLY, RETRY], [
        "running", "waiting", "running", "waiting", "running", "waiting", "broken"]),
    ("run", [START, BADLY, RETRY, BADLY, RETRY, BADLY, RETRY, FORGIVE, START], [
        "running", "waiting", "running", "waiting", "running", "waiting", "broken", "finished", "running"]),
    ("run", [START, STOP, BADLY, RETRY], ["running", "stopping", "finished", "finished"]),
    ("run", [START, BADLY, STOP, RETRY], ["running", "waiting", "finished", "finished"]),
    ("startup", [START, READY, WELL, START], ["starting", "running", "exited", "exited"]),
    ("startup", [START, WELL], ["starting", "waiting"]),  # exit 0 unannounced: a failure to systemd
    ("startup", [START, READY, LEAVING, WELL], ["starting", "running", "stopping", "finished"]),
    ("startup", [START, READY, BADLY, RETRY], ["starting", "running", "waiting", "starting"]),  # Debian 12's --stopping
    ("startup", [START, OVERDUE, READY, WELL], ["starting", "starting", "starting", "waiting"]),
    ("startup", [START, READY, WELL, STOP, START], ["starting", "running", "exited", "finished", "starting"]),
    ("install", [START, READY, WELL], ["starting", "starting", "exited"]),
    ("install", [START, BADLY, RETRY, WELL], ["starting", "waiting", "starting", "exited"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "events", "states"), CHAINS)
def test_chains(kind: str, events: list[Event], states: list[str]) -> None:
    unit, seen = Unit(Kind(kind)), []
    for event in events:
        unit, _ = step(unit, event, 0.0)
        seen.append(unit.state.value)
    assert seen == states


def test_where_systemd_does_not_lead_exit_0_completes_a_startup() -> None:
    unit, _ = step(Unit(Kind.STARTUP, needs_notice=False), START, 0.0)
    assert step(unit, WELL, 0.0)[0].state is State.EXITED


def test_failures_outside_the_window_are_not_counted() -> None:
    unit = Unit(Kind.RUN, Limits(tries=3, window_s=3600.0))
    for at_s in range(0, 20_000, 2_000):
        unit, action = step(unit, RETRY if unit.state is State.WAITING else START, float(at_s))
        assert action is Action.SPAWN
        unit, _ = step(unit, BADLY, float(at_s))


@given(st.sampled_from(list(Kind)), st.lists(st.tuples(st.sampled_from(list(Event)), st.floats(0, 4_000)), max_size=40))
def test_no_sequence_spawns_beside_a_living_process_or_beyond_the_limit(
    kind: Kind, events: list[tuple[Event, float]]
) -> None:
    unit, alive, now_s, spawns = Unit(kind), False, 0.0, []
    for event, pause_s in events:
        if event in {WELL, BADLY} and not alive:
            continue  # only a process can exit
        now_s += pause_s
        before = unit.state
        unit, action = step(unit, event, now_s)
        alive = alive and event not in {WELL, BADLY}
        if action is Action.SPAWN:
            assert not alive
            assert before not in HAS_PROCESS
            alive = True
            spawns.append(now_s)
        if event is FORGIVE:
            spawns.clear()
        recent = [at_s for at_s in spawns if now_s - at_s < 3600]
        assert len(recent) <= 3
        assert alive == (unit.state in HAS_PROCESS)
