"""The transition table, explored whole: every reachable state, every signal, and the promises of its docstring."""

from collections import deque
from dataclasses import dataclass, field, replace

import pytest

from edge_component.activation.table import (
    NEVER_S,
    WAY_BACK_S,
    Act,
    ImpossibleSignalError,
    Installed,
    Phase,
    Signal,
    Slot,
    Step,
    step,
    welcome_back,
)
from edge_component.contracts.heartbeat import ModelRef

STARTS_MAX = 3
LATE_S = WAY_BACK_S + 1


def installed(number: int) -> Installed:
    ref = ModelRef("m", f"1.0.{number}", f"{number:x}" * 64)
    return Installed(ref, "com.edgewright.model.M", number)


ALL = tuple(installed(number) for number in (1, 2, 3))


@dataclass(frozen=True)
class World:
    """The slot, and what a faithful shell has made of the acts: what answers, and what has passed its trial."""

    slot: Slot = field(default_factory=Slot)
    answering: Installed | None = None
    tried: frozenset[str] = frozenset()
    committed_once: bool = False


def signals_of(world: World) -> list[tuple[Signal, Installed | None]]:
    """What can happen next: a shell sends TRIED, PASSED and FAILED before the switch only, and never offers during a change."""
    phase = world.slot.phase
    possible: list[tuple[Signal, Installed | None]] = [(Signal.STARTED, None)]
    if phase is Phase.IDLE:
        possible += [(Signal.OFFERED, bundle) for bundle in ALL]
        if world.slot.previous is not None:
            possible.append((Signal.REVERT_ASKED, None))
        if world.slot.active is not None:
            possible.append((Signal.REMOVAL_ASKED, None))
    if phase in (Phase.TRIAL, Phase.SHADOW):
        possible += [(Signal.PASSED, None), (Signal.FAILED, None)]
    if phase is Phase.TRIAL and world.slot.active is not None:
        possible.append((Signal.TRIED, None))
    if phase is Phase.PENDING:
        possible += [
            (signal, None) for signal in (Signal.CONFIRMED, Signal.DOUBTED, Signal.REVERT_ASKED, Signal.REMOVAL_ASKED)
        ]
    return possible


def after(world: World, signal: Signal, offered: Installed | None, *, loads: bool) -> World:
    """A faithful shell: persists, acts, and signals UNLOADABLE where a load fails (``loads`` is for the candidate)."""
    answering = None if signal is Signal.STARTED else world.answering
    tried = world.tried
    if signal in (Signal.PASSED, Signal.TRIED) and world.slot.candidate is not None:
        tried |= {world.slot.candidate.ref.digest}
    taken = step(world.slot, signal, offered, STARTS_MAX)
    if taken.act is Act.SERVE and taken.slot.wanted != answering:
        if not loads and taken.slot.phase is Phase.PENDING:
            taken = step(taken.slot, Signal.UNLOADABLE)
        if taken.act is Act.SERVE:
            answering = taken.slot.wanted
    if taken.act is Act.UNLOAD:
        answering = None
    removed = signal is Signal.REMOVAL_ASKED
    committed = not removed and (world.committed_once or taken.slot.active is not None)
    return World(taken.slot, answering, tried, committed)


def explore() -> tuple[set[World], list[tuple[World, World]]]:
    seen, edges, ahead = {World()}, [], deque([World()])
    while ahead:
        world = ahead.popleft()
        for signal, offered in signals_of(world):
            for loads in (True, False):
                following = after(world, signal, offered, loads=loads)
                edges.append((world, following))
                if following not in seen:
                    seen.add(following)
                    ahead.append(following)
    return seen, edges


WORLDS, EDGES = explore()


def test_the_exploration_reaches_what_matters() -> None:
    assert len(WORLDS) > 300
    assert {world.slot.phase for world in WORLDS} == set(Phase)
    assert any(world.slot.starts_count == STARTS_MAX for world in WORLDS)


def test_what_was_once_committed_is_followed_by_something_that_serves() -> None:
    for world in WORLDS:
        if world.committed_once:
            assert world.answering is not None, world


def test_nothing_answers_that_never_passed_its_trial() -> None:
    for world in WORLDS:
        if world.answering is not None:
            assert world.answering.ref.digest in world.tried, world


def test_what_answers_is_what_the_slot_wants_and_the_store_keeps_it() -> None:
    for world in WORLDS:
        if world.answering is not None:
            assert world.answering == world.slot.wanted, world
            assert world.answering.ref.digest in world.slot.referenced


@pytest.mark.parametrize("loads", [True, False])
def test_restarting_again_and_again_ends_in_a_state_that_stays(loads: bool) -> None:
    for world in WORLDS:
        at = world
        for _ in range(STARTS_MAX + 2):
            at = after(at, Signal.STARTED, None, loads=loads)
        assert at.slot.phase is Phase.IDLE
        assert after(at, Signal.STARTED, None, loads=loads) == at
        if world.committed_once:
            assert at.answering is not None


def test_a_refused_candidate_leaves_no_trace() -> None:
    for world in WORLDS:
        if world.slot.phase in (Phase.TRIAL, Phase.SHADOW):
            before = replace(world.slot, phase=Phase.IDLE, candidate=None)
            assert step(world.slot, Signal.FAILED) == Step(before, Act.COLLECT)


def test_a_commit_keeps_what_it_replaces() -> None:
    for before, now in EDGES:
        old, new = before.slot.active, now.slot.active
        committed = before.slot.phase is Phase.PENDING and now.slot.phase is Phase.IDLE and new == before.slot.candidate
        if committed and old is not None and new is not None and old != new:
            assert now.slot.previous == old


def test_a_signal_that_makes_no_sense_is_a_defect_and_says_so() -> None:
    with pytest.raises(ImpossibleSignalError):
        step(Slot(), Signal.PASSED)
    with pytest.raises(ImpossibleSignalError):
        step(Slot(), Signal.REVERT_ASKED)
    with pytest.raises(ImpossibleSignalError):
        step(Slot(phase=Phase.TRIAL, candidate=ALL[0]), Signal.OFFERED, ALL[1])
    with pytest.raises(ImpossibleSignalError):
        step(Slot(phase=Phase.TRIAL, candidate=ALL[0]), Signal.TRIED)


ONE, TWO, THREE = ALL


@pytest.mark.parametrize(
    ("slot", "committed_ago_s", "welcome"),
    [
        (Slot(), 0.0, ()),
        (Slot(active=TWO), 0.0, (TWO,)),
        (Slot(active=TWO, previous=ONE), 0.0, (TWO, ONE)),
        (Slot(active=TWO, previous=ONE), WAY_BACK_S, (TWO, ONE)),
        (Slot(active=TWO, previous=ONE), LATE_S, (TWO,)),
        (Slot(active=TWO, previous=ONE), NEVER_S, (TWO,)),
        (Slot(active=ONE, previous=TWO), LATE_S, (ONE,)),
        (Slot(Phase.TRIAL, TWO, ONE, THREE), 0.0, (TWO, ONE)),
        (Slot(Phase.PENDING, TWO, ONE, THREE), 0.0, (TWO,)),
        (Slot(Phase.PENDING, candidate=THREE), 0.0, ()),
    ],
)
def test_only_what_was_committed_here_may_come_back_and_the_one_before_for_a_while(
    slot: Slot, committed_ago_s: float, welcome: tuple[Installed, ...]
) -> None:
    assert welcome_back(slot, committed_ago_s) == {held.ref.digest for held in welcome}
