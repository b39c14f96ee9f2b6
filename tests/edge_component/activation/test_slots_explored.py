"""The real shell around the table, explored whole: each reachable state, each signal, each fault of its disk.

A world is what the disk holds (journal, its copy, bundles), what the process holds, and what answers. From each world
every possible signal is sent to a real :class:`Slots`, once without and once with each fault below; a process that dies
is started again, and may be struck once more while it starts. In every world that is reached:

* what is committed is followed by something that answers, until it is removed;
* what answers has passed its trial, is what the slot wants, and lies in the store;
* a floor never falls, and a committed bundle is never collected;
* starting again and again ends in a state that stays.
"""

import logging
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_component.activation.journal import Found, State
from edge_component.activation.live import LiveRequests
from edge_component.activation.slots import SlotParts, Slots
from edge_component.activation.table import Installed, Phase, Signal, Slot
from edge_component.clock import ManualClock
from edge_component.config import RuntimeConfig
from edge_component.contracts.heartbeat import ModelRef
from edge_component.errors import StoreDamagedError, StoreError
from edge_component.inference.router import Router
from edge_component.inference.versions import Loaded
from edge_component.telemetry_sink import NullSink
from tests.edge_component.activation.test_table import ALL
from tests.edge_component.inference.test_session import MANIFEST

STARTS_MAX = 2
NAME = "m"
CONFIG = RuntimeConfig(pending_starts_max=STARTS_MAX)
OFFERS = ALL[:2]
"""Two are enough for every phase with and without something before it; the table alone is explored with three."""


class DiedError(BaseException):
    """kill -9, or the power."""


@dataclass(frozen=True)
class Fault:
    """What strikes during one signal.

    ``journal``: ``refused``, ``refused late`` (the rename is done, the sync fails), ``dies before`` or ``dies after``;
    ``stays``: the disk refuses the following writes as well. ``copy_lags``: ``committed.json`` is not written.
    ``unloadable``: what is not committed cannot be loaded this time. ``journal_lost``: at the next start, the copy stands in.
    """

    journal: str = ""
    stays: bool = False
    copy_lags: bool = False
    unloadable: bool = False
    journal_lost: bool = False


NO_FAULT = Fault()
FAULTS = (
    NO_FAULT,
    *(Fault(journal, stays) for journal in ("refused", "refused late") for stays in (False, True)),
    Fault("dies before"),
    Fault("dies after"),
    Fault("dies after", copy_lags=True),
    Fault("dies after", unloadable=True),
    Fault("dies after", journal_lost=True),
    Fault(copy_lags=True),
    Fault(unloadable=True),
)


@dataclass(frozen=True)
class World:
    """``disk`` and ``copy``: the two files; ``state``: the process's."""

    disk: State = field(default_factory=State)
    copy: State = field(default_factory=State)
    stored: frozenset[str] = frozenset()
    state: State = field(default_factory=State)
    answering: Installed | None = None
    tried: frozenset[str] = frozenset()
    on_disk: frozenset[str] = frozenset()
    """Digests that the process believes the journal may refer to."""

    @property
    def slot(self) -> Slot:
        return self.state.slot(NAME)

    def key(self) -> object:
        parts = tuple((part.slot(NAME), frozenset(part.floors.values())) for part in (self.disk, self.copy, self.state))
        return parts, self.stored, self.answering, self.tried, self.on_disk


class Disk:
    """Journal and store in memory, both of one world, under one fault."""

    def __init__(self, world: World, fault: Fault) -> None:
        self.disk, self.copy, self.stored = world.disk, world.copy, set(world.stored)
        held = [file.slot(NAME) for file in (world.disk, world.copy, world.state)]
        self._committed = {bundle.ref.digest for slot in held for bundle in (slot.active, slot.previous) if bundle}
        self._fault = fault
        self._struck = False

    def load(self) -> Found:
        held = self.copy.referenced()
        if self._fault.journal_lost and held <= self.stored:  # else two faults: it also lagged behind a removal
            self.disk = self.copy
            return Found(self.copy, "lost")
        self.copy = self.disk.committed()
        return Found(self.disk)

    def save(self, state: State, *, is_way_back: bool = False) -> None:
        journal = self._fault.journal if self._fault.stays or not self._struck else ""
        self._struck = True
        if journal == "dies before":
            raise DiedError
        if journal == "refused":
            raise StoreError("EIO")
        self.disk = state
        if journal == "refused late":
            raise StoreError("EIO")
        if not self._fault.copy_lags:
            self.copy = state.committed()
        if journal == "dies after":
            raise DiedError

    def prepare(self) -> None:
        """Nothing to make."""

    def path(self, digest: str) -> Path:
        return Path(digest)

    def collect(self, kept: Collection[str]) -> None:
        self.stored &= set(kept)

    def read(self, digest: str) -> Any:
        if digest not in self.stored or (self._fault.unloadable and digest not in self._committed):
            raise StoreDamagedError("it is gone, or cannot be loaded")
        return MANIFEST


class NoOrtLoader:
    """What the store gives can be loaded."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def load(self, ref: ModelRef) -> Loaded:
        return Loaded(self._disk.read(ref.digest), None)  # type: ignore[arg-type]

    def needed_bytes(self, ref: ModelRef) -> int:
        return 0


@dataclass(frozen=True)
class BelievedState:
    """Only what it refers to."""

    digests: frozenset[str]

    def referenced(self) -> frozenset[str]:
        return self.digests


def made(world: World, disk: Disk) -> Slots:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    live = LiveRequests(lambda observer: None)
    parts = SlotParts(disk, disk, Router(), NullSink(), clock, CONFIG, live, lambda pause_s: None)  # type: ignore[arg-type]
    slots = Slots(parts)
    slots._loader = NoOrtLoader(disk)  # type: ignore[assignment]
    slots.state = world.state
    slots._on_disk = (BelievedState(world.on_disk),)  # type: ignore[assignment]
    if world.answering is not None:
        slots._parts.router.switch(world.answering.ref, MANIFEST, None)  # type: ignore[arg-type]
    return slots


def seen(world: World, slots: Slots, disk: Disk) -> World:
    ref = slots.answering(NAME)
    answering = next((bundle for bundle in ALL if bundle.ref == ref), None)
    return replace(
        world, disk=disk.disk, copy=disk.copy, stored=frozenset(disk.stored), state=slots.state, answering=answering,
        on_disk=frozenset().union(*(state.referenced() for state in slots._on_disk)),
    )  # fmt: skip


def started(world: World, fault: Fault) -> World:
    """The process begins anew, as :meth:`Activator.restore` does; one that dies of the fault begins once more."""
    dead = replace(world, state=State(), answering=None)
    disk = Disk(dead, fault)
    slots = made(dead, disk)
    try:
        problem = slots.load()
        for name in sorted(slots.state.slots):
            slots.signal(name, Signal.STARTED)
    except DiedError:
        return started(seen(dead, slots, disk), NO_FAULT)
    if not problem:
        slots.collect()
    return seen(dead, slots, disk)


def sent(world: World, signal: Signal, offered: Installed | None, fault: Fault) -> World:
    if offered is not None:
        world = replace(world, stored=world.stored | {offered.ref.digest})
    if signal in (Signal.TRIED, Signal.PASSED) and world.slot.candidate is not None:
        world = replace(world, tried=world.tried | {world.slot.candidate.ref.digest})
    if signal is Signal.STARTED:
        return started(world, fault)
    disk = Disk(world, fault)
    slots = made(world, disk)
    try:
        try:
            slots.signal(NAME, signal, offered)
            if signal is Signal.REMOVAL_ASKED:
                slots.collect()
        except StoreError:
            if signal in (Signal.TRIED, Signal.PASSED):  # what the activator does with a candidate in mid-offer
                slots.signal(NAME, Signal.FAILED)
            slots.collect()
    except DiedError:
        return started(seen(world, slots, disk), Fault(journal_lost=fault.journal_lost))
    return seen(world, slots, disk)


def possible(world: World) -> Iterator[tuple[Signal, Installed | None]]:
    yield Signal.STARTED, None
    match world.slot.phase:
        case Phase.IDLE:
            yield from ((Signal.OFFERED, bundle) for bundle in OFFERS)
            if world.slot.previous is not None:
                yield Signal.REVERT_ASKED, None
            if world.slot.active is not None:
                yield Signal.REMOVAL_ASKED, None
        case Phase.TRIAL | Phase.SHADOW as phase:
            yield from ((signal, None) for signal in (Signal.PASSED, Signal.FAILED))
            if phase is Phase.TRIAL and world.slot.active is not None:
                yield Signal.TRIED, None
        case Phase.PENDING:
            answers = (Signal.CONFIRMED, Signal.DOUBTED, Signal.REVERT_ASKED, Signal.REMOVAL_ASKED)
            yield from ((signal, None) for signal in answers)


@dataclass(frozen=True)
class Edge:
    before: World
    signal: Signal
    fault: Fault
    now: World

    def __str__(self) -> str:
        return f"{self.before}\n--{self.signal} with {self.fault}-->\n{self.now}"


def explore() -> tuple[list[World], list[Edge]]:
    logging.disable()  # a sentence for each fault, tens of thousands of them; other tests read them
    try:
        return explored_from(World())
    finally:
        logging.disable(logging.NOTSET)


def explored_from(first: World) -> tuple[list[World], list[Edge]]:
    reached, ahead, edges = {first.key(): first}, deque([first]), []
    while ahead:
        world = ahead.popleft()
        for signal, offered in possible(world):
            for fault in FAULTS:
                now = sent(world, signal, offered, fault)
                edges.append(Edge(world, signal, fault, now))
                if now.key() not in reached:
                    reached[now.key()] = now
                    ahead.append(now)
    return list(reached.values()), edges


@pytest.fixture(scope="module")
def explored() -> tuple[list[World], list[Edge]]:
    return explore()


Explored = tuple[list[World], list[Edge]]


def test_the_exploration_reaches_what_matters(explored: Explored) -> None:
    worlds, edges = explored
    assert {world.slot.phase for world in worlds} == set(Phase)
    assert any(world.disk != world.state for world in worlds), "a process that knows more than its disk"
    assert {edge.fault for edge in edges} == set(FAULTS)
    assert len(worlds) > 200


def served_until_then(edge: Edge) -> bool:
    if edge.signal is not Signal.STARTED:
        refused_removal_was_done = edge.before.disk.slot(NAME) == Slot()  # the rename was, its sync was not
        return (
            edge.before.slot.active is not None and edge.before.answering is not None and not refused_removal_was_done
        )
    file = edge.before.copy if edge.fault.journal_lost else edge.before.disk
    return file.slot(NAME).active is not None and file.referenced() <= edge.before.stored


def removes(edge: Edge) -> bool:
    return edge.signal is Signal.REMOVAL_ASKED and edge.now.slot == Slot()


def test_what_is_committed_is_followed_by_something_that_answers(explored: Explored) -> None:
    """With the journal lost: what the copy knows of, unless that was removed when the copy could not be written."""
    for edge in explored[1]:
        if served_until_then(edge) and not removes(edge):
            if edge.signal is not Signal.STARTED and edge.fault.journal_lost and edge.before.copy != edge.before.disk:
                continue  # two faults: the copy lagged before, and the journal is lost now
            assert edge.now.answering is not None, edge


def test_what_answers_was_tried_is_wanted_and_lies_in_the_store(explored: Explored) -> None:
    for edge in explored[1]:
        answering = edge.now.answering
        if answering is not None:
            assert answering.ref.digest in edge.now.tried, edge
            assert answering == edge.now.slot.wanted, edge
            assert answering.ref.digest in edge.now.stored, edge


def test_what_the_disk_calls_committed_was_tried_and_is_not_collected(explored: Explored) -> None:
    for edge in explored[1]:
        held = edge.now.disk.slot(NAME).active
        if held is not None:
            assert held.ref.digest in edge.now.tried, edge
        if held is not None and edge.now.slot.active == held and edge.now.answering is not None:
            assert held.ref.digest in edge.now.stored, edge


def test_a_floor_never_falls(explored: Explored) -> None:
    for edge in explored[1]:
        kept = edge.before.copy if edge.fault.journal_lost else edge.before.state
        for name, floor in kept.floors.items():
            assert edge.now.state.floors[name].number >= floor.number, edge


@pytest.mark.parametrize("fault", [NO_FAULT, Fault("refused", stays=True), Fault("refused late", stays=True)])
def test_every_path_ends(explored: Explored, fault: Fault) -> None:
    """Started again and again, on a whole disk and on one that takes nothing any more."""
    for world in explored[0]:
        at = world
        for _ in range(STARTS_MAX + 2):
            at = started(at, fault)
        if fault == NO_FAULT:
            assert at.slot.phase is Phase.IDLE, world
        assert started(at, fault).answering == at.answering, world
        committed = world.disk.slot(NAME).active
        if committed is not None and committed.ref.digest in world.stored:
            assert at.answering is not None, world
