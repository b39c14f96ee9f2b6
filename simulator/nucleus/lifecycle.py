"""The life of one step's process as a transition table, the way systemd leads it for Greengrass Lite. Pure.

The failure it exists for: a simulator that restarts what the field does not (a component that exits 0 stays down) and
forgives what the field does not (three failures within an hour, and a component is BROKEN until the next deployment).

Three kinds: ``install`` (oneshot: exit 0 is the goal), ``startup`` (notify: READY=1 is the goal; exit 0 before it is a
failure where systemd leads; afterwards the step stays active without a process), ``run`` (exec: running is the goal,
exit 0 ends it for good). A failure is tried again after a delay, as long as the window holds fewer starts than allowed.

Source: Lite's recipe2unit (Type=, RemainAfterExit, Restart=on-failure, StartLimitBurst=3 within 3600 s, RestartSec=1),
gghealthd's mapping of unit states, and what was measured on Lite. The shell that spawns is ``unit.py``.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """What counts as success."""

    INSTALL = "install"
    STARTUP = "startup"
    RUN = "run"


class State(StrEnum):
    """Where a unit stands."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"  # active without a process: its goal is reached
    STOPPING = "stopping"
    WAITING = "waiting"  # for the next try
    FINISHED = "finished"
    BROKEN = "broken"


HAS_PROCESS = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
ACTIVE = frozenset({State.RUNNING, State.EXITED})

GREENGRASS_STATE = {
    State.NEW: "INSTALLED",
    State.STARTING: "STARTING",
    State.WAITING: "STARTING",
    State.RUNNING: "RUNNING",
    State.EXITED: "RUNNING",
    State.STOPPING: "STOPPING",
    State.FINISHED: "FINISHED",
    State.BROKEN: "BROKEN",
}


class Event(StrEnum):
    """What happens to a unit."""

    START = "start"  # somebody wants it active
    STOP = "stop"  # somebody wants it gone
    READY = "ready"  # it announced READY=1
    LEAVING = "leaving"  # it announced STOPPING=1
    EXITED_WELL = "exited well"
    EXITED_BADLY = "exited badly"
    OVERDUE = "overdue"  # its timeout passed before its goal
    RETRY = "retry"  # the delay after a failure is over
    FORGIVE = "forgive"  # a deployment or a restart of the nucleus forgets the failures


class Action(StrEnum):
    """What the shell must do."""

    NOTHING = "nothing"
    SPAWN = "spawn"
    KILL = "kill"
    RETRY_LATER = "retry later"


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a failing unit is tried: ``tries`` starts within ``window_s``."""

    tries: int = 3
    window_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Unit:
    """One step's life so far.

    Attributes:
        starts_at_s: monotonic times of its latest starts.
        asked_to_stop: whether its present end is wanted.
        overdue: whether its present end was forced by its timeout.
        needs_notice: a startup that exits 0 without READY=1 has failed.
    """

    kind: Kind
    limits: Limits = Limits()
    needs_notice: bool = True
    state: State = State.NEW
    starts_at_s: tuple[float, ...] = ()
    asked_to_stop: bool = False
    overdue: bool = False


def step(unit: Unit, event: Event, now_s: float) -> tuple[Unit, Action]:
    """Apply an event; one that means nothing in the present state changes nothing.

    Args:
        unit: as it stands.
        event: what happened.
        now_s: monotonic.
    """
    if event in {Event.START, Event.RETRY}:
        return _start(unit, event, now_s)
    if event in {Event.EXITED_WELL, Event.EXITED_BADLY}:
        return _exit(unit, event)
    if event in {Event.READY, Event.LEAVING}:
        return _announce(unit, event), Action.NOTHING
    if event is Event.FORGIVE:
        forgiven = State.FINISHED if unit.state is State.BROKEN else unit.state
        return replace(unit, starts_at_s=(), state=forgiven), Action.NOTHING
    return _stop(unit) if event is Event.STOP else _overdue(unit)


def _start(unit: Unit, event: Event, now_s: float) -> tuple[Unit, Action]:
    startable = {State.WAITING} if event is Event.RETRY else {State.NEW, State.FINISHED, State.BROKEN}
    if unit.state not in startable:
        return unit, Action.NOTHING
    recent = tuple(at_s for at_s in unit.starts_at_s if now_s - at_s < unit.limits.window_s)
    if len(recent) >= unit.limits.tries:
        return replace(unit, state=State.BROKEN, starts_at_s=recent), Action.NOTHING
    state = State.RUNNING if unit.kind is Kind.RUN else State.STARTING
    started = replace(unit, state=state, starts_at_s=(*recent, now_s), asked_to_stop=False, overdue=False)
    return started, Action.SPAWN


def _stop(unit: Unit) -> tuple[Unit, Action]:
    if unit.state in HAS_PROCESS:
        return replace(unit, state=State.STOPPING, asked_to_stop=True), Action.KILL
    if unit.state in {State.WAITING, State.EXITED}:
        return replace(unit, state=State.FINISHED), Action.NOTHING
    return unit, Action.NOTHING


def _announce(unit: Unit, event: Event) -> Unit:
    if unit.kind is not Kind.STARTUP or unit.overdue:
        return unit
    before, after = (State.STARTING, State.RUNNING) if event is Event.READY else (State.RUNNING, State.STOPPING)
    return replace(unit, state=after) if unit.state is before else unit


def _overdue(unit: Unit) -> tuple[Unit, Action]:
    return (replace(unit, overdue=True), Action.KILL) if unit.state is State.STARTING else (unit, Action.NOTHING)


def _exit(unit: Unit, event: Event) -> tuple[Unit, Action]:
    if unit.state not in HAS_PROCESS:
        return unit, Action.NOTHING
    if unit.asked_to_stop:
        return replace(unit, state=State.FINISHED), Action.NOTHING
    if event is Event.EXITED_WELL and not unit.overdue:
        reached = _after_success(unit)
        if reached is not None:
            return replace(unit, state=reached), Action.NOTHING
    return replace(unit, state=State.WAITING), Action.RETRY_LATER


def _after_success(unit: Unit) -> State | None:
    if unit.kind is Kind.INSTALL:
        return State.EXITED
    if unit.kind is Kind.RUN or unit.state is State.STOPPING:
        return State.FINISHED
    announced = unit.state is State.RUNNING
    return State.EXITED if announced or not unit.needs_notice else None
