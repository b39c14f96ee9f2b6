"""The slots of all models: ask the table, persist, act; and act again on what the act brings.

The failure this exists for: acting before, or without, writing down what is about to be done. :meth:`Slots.signal` is the
only place where a slot changes. It saves the journal before it loads, switches or unloads anything.

A step *forward* (an offer, a switch, a commit, a removal) that cannot be persisted does not happen: ``StoreError``. A step
*back* happens even so, because the journal then still names something from which the next start ends in the same place.
Steps back, and what an operator asks for to get away from a model (a revert, a removal), may use the journal's reserve: a
full disk keeps nobody in the wrong place. Nor does a full memory budget: what was committed is loaded beyond it.

Changing slots is for one thread at a time (the activator's lock); :meth:`served` may be asked by any.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from edge_component.activation.journal import Journal, State
from edge_component.activation.live import LiveRequests
from edge_component.activation.table import NEVER_S, Act, Installed, Phase, Signal, Slot, step, welcome_back
from edge_component.bundles.store import Store
from edge_component.clock import Clock, believed
from edge_component.config import RuntimeConfig
from edge_component.contracts.codec import format_moment
from edge_component.contracts.heartbeat import ModelRef, ServedModel
from edge_component.errors import ActivationError, DeviceError, MemoryBudgetError, StoreError
from edge_component.inference.execution import session_options
from edge_component.inference.loading import AnnouncingLoader, StoreLoader
from edge_component.inference.router import Router
from edge_component.inference.session import Session
from edge_component.inference.versions import Loaded
from edge_component.telemetry_sink import TelemetrySink

log = logging.getLogger(__name__)

ERROR_CHARS_MAX = 300
LOADS_MAX = 3
LOAD_PAUSE_S = 0.05
STEPS_BACK = (Signal.STARTED, Signal.FAILED, Signal.DOUBTED, Signal.UNLOADABLE)
WAYS_BACK = (*STEPS_BACK, Signal.REVERT_ASKED, Signal.REMOVAL_ASKED)


@dataclass(frozen=True, slots=True)
class SlotParts:
    """What acting on a slot needs."""

    store: Store
    journal: Journal
    router: Router
    sink: TelemetrySink
    clock: Clock
    config: RuntimeConfig
    live: LiveRequests
    pause: Callable[[float], None] = time.sleep
    """Waits between two attempts to load, in seconds."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """Since when a model name stands as it does."""

    since_at: datetime
    since_s: float


class Slots:
    """See the module's text."""

    def __init__(self, parts: SlotParts) -> None:
        """Empty until :meth:`load`."""
        self._parts = parts
        self._loader = StoreLoader(parts.store, session_options(parts.config))
        parts.router.load_with(AnnouncingLoader(self._loader, parts.sink))
        self._standing: dict[str, _Standing] = {}
        self.state = State()
        self._committed_s: dict[str, float] = {}
        """When this process committed what is active, on the monotonic clock."""
        self._on_disk: tuple[State, ...] = ()
        """What the journal may hold as committed: a save that was refused may have been carried out all the same."""
        self._ahead: tuple[Installed, Loaded] | None = None
        """Loaded before its switch, for the shadow stage."""
        self.sheltered: frozenset[str] = frozenset()
        """Digests of bundles that are in the store but not yet offered: not to be collected."""

    def load(self) -> str:
        """Read the journal; returns a sentence if it was damaged and had to be set aside, else an empty string.

        Raises:
            StoreError: the work folder cannot be used at all.
        """
        self._parts.store.prepare()
        found = self._parts.journal.load()
        self.state = found.state
        self._on_disk = (found.state.committed(),)
        if found.problem:
            log.error("%s", found.problem)
        return found.problem

    def problems(self) -> tuple[str, ...]:
        """What is amiss with the journal now, in sentences."""
        return self._parts.journal.problems

    def tend_the_journal(self) -> None:
        """Ask for the reserves that it lacks; and where a save was refused, write down again what holds.

        What was refused may be on the disk all the same (a rename that nobody confirmed), and the next start would obey it.
        """
        self._parts.journal.ask_for_reserves()
        if len(self._on_disk) > 1:
            try:
                self._parts.journal.save(self.state)
            except StoreError as error:
                log.warning("what holds could not be written down again; it will be tried again: %s", error)
            else:
                self._on_disk = (self.state.committed(),)

    def signal(self, name: str, signal: Signal, offered: Installed | None = None) -> DeviceError | None:
        """Let something happen to a slot; returns why what it then wanted could not be loaded, if so.

        Raises:
            StoreError: a step forward could not be persisted; nothing changed.
        """
        if signal in (Signal.OFFERED, Signal.FAILED):
            self._ahead = None
        taken = step(self.state.slot(name), signal, offered, self._parts.config.pending_starts_max)
        self._persist(self.state.with_slot(name, taken.slot), signal)
        self._parts.router.hold(name, taken.slot.answerable)
        match taken.act:
            case Act.SERVE:
                return self._serve(name, taken.slot)
            case Act.UNLOAD:
                self._parts.router.remove(name)
            case Act.COLLECT:
                self.collect()
            case Act.TRY | Act.COMPARE | Act.NONE:
                pass
        if signal is Signal.CONFIRMED:
            self._stand(name)
            self._committed_s[name] = self._parts.clock.monotonic_s()
        return None

    def load_ahead(self, name: str) -> Session:
        """Load the candidate now; it is switched to later, or forgotten with the next offer.

        Raises:
            DeviceError: it cannot be loaded.
        """
        candidate = self.state.slot(name).candidate
        assert candidate is not None, "only a candidate is loaded ahead"
        loaded = self._loaded(candidate, is_committed=False)
        self._ahead = candidate, loaded
        return loaded.session

    def trust_time(self, at: datetime) -> None:
        """Remember the time that a validly signed manifest names; persisted with the next signal."""
        self.state = self.state.with_trusted(believed(at, self._parts.clock.now(), self.state.trusted_at))

    def lower_floor(self, component_name: str) -> str:
        """See :meth:`State.with_floor_lowered`; returns what changed, in a sentence, empty if nothing did.

        Raises:
            StoreError: it could not be persisted; nothing changed.
        """
        before, after = self.state, self.state.with_floor_lowered(component_name, self._parts.clock.now())
        if after == before:
            return ""
        self._on_disk += (after.committed(),)
        self._parts.journal.lower(after)
        self.state, self._on_disk = after, (after.committed(),)
        return f"floors were {_told_of_floors(before, component_name)}; are {_told_of_floors(after, component_name)}"

    def collect(self) -> None:
        """Remove what neither a slot nor the next start may need; failing is logged, since nothing depends on it.

        A refused candidate goes even if the disk could not be told: the next start then finds nothing to load, and
        goes back.
        """
        kept = self.state.referenced().union(self.sheltered, *(state.referenced() for state in self._on_disk))
        try:
            self._parts.store.collect(kept)
        except OSError as error:
            log.warning("old bundles could not be removed: %s", error)

    def answering(self, name: str) -> ModelRef | None:
        """What answers for a name now."""
        return self._parts.router.answering(name)

    def stands_for_s(self, name: str) -> float:
        """How long the name has stood as it does."""
        return self._parts.clock.monotonic_s() - self._standing[name].since_s

    def welcome(self) -> frozenset[str]:
        """Digests that no release floor keeps out; see table.py."""
        now_s = self._parts.clock.monotonic_s()
        committed_ago_s = {name: now_s - at_s for name, at_s in self._committed_s.items()}
        slots = self.state.slots.items()
        return frozenset().union(*(welcome_back(slot, committed_ago_s.get(name, NEVER_S)) for name, slot in slots))

    def served(self) -> tuple[ServedModel, ...]:
        """What every model name stands at, for heartbeat and status."""
        slots = sorted(self.state.slots.items())
        return tuple(self._served(name, slot, wanted) for name, slot in slots if (wanted := slot.wanted) is not None)

    def _persist(self, state: State, signal: Signal) -> None:
        if state == self.state and signal is not Signal.OFFERED:
            return
        self._on_disk += (state.committed(),)
        try:
            self._parts.journal.save(state, is_way_back=signal in WAYS_BACK)
        except StoreError as error:
            if signal not in STEPS_BACK:
                raise
            log.warning("a step back (%s) could not be persisted, and is taken even so: %s", signal.value, error)
        else:
            self._on_disk = (state.committed(),)
        self.state = state
        self._parts.live.follow(state.changing())

    def _serve(self, name: str, slot: Slot) -> DeviceError | None:
        """Let what the slot wants answer: loaded and warm before the switch, the old one until then."""
        wanted = slot.wanted
        assert wanted is not None, "the table serves only what there is"
        if self.answering(name) != wanted.ref:
            try:
                loaded = self._take_ahead(wanted) or self._loaded(wanted, is_committed=slot.phase is not Phase.PENDING)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the slot must not go on wanting this one
                error = failure if isinstance(failure, DeviceError) else unforeseen(failure)
                log.error("%s %s cannot be loaded: %s", name, wanted.ref.version, error)  # noqa: TRY400 - a sentence
                self._stand(name)
                self.signal(name, Signal.UNLOADABLE)
                return error
            self._parts.router.switch(wanted.ref, loaded.manifest, loaded.session, loaded.size_bytes)
            self._parts.sink.model_switched(wanted.ref, loaded.baseline, loaded.manifest)
        self._stand(name)
        return None

    def _take_ahead(self, wanted: Installed) -> Loaded | None:
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead is not None and ahead[0] == wanted else None

    def _loaded(self, wanted: Installed, *, is_committed: bool) -> Loaded:
        """Load a bundle; one that an I/O error kept from being read is read again, before anything goes back for it."""
        try:
            self._parts.router.make_room(wanted.ref)
        except MemoryBudgetError as error:
            if not is_committed:
                raise
            log.warning("%s; it is loaded even so, being what is to serve", error)
        for _ in range(LOADS_MAX - 1):
            try:
                return self._loader.load(wanted.ref)
            except DeviceError as error:
                log.warning("%s %s: %s; trying again", wanted.ref.name, wanted.ref.version, error)
                self._parts.pause(LOAD_PAUSE_S)
        return self._loader.load(wanted.ref)

    def _stand(self, name: str) -> None:
        self._standing[name] = _Standing(self._parts.clock.now(), self._parts.clock.monotonic_s())

    def _served(self, name: str, slot: Slot, wanted: Installed) -> ServedModel:
        answering = self.answering(name)
        standing = self._standing.get(name)
        previous = slot.active if slot.phase is Phase.PENDING else slot.previous
        totals = self._parts.router.totals(name)
        return ServedModel(
            active=answering or wanted.ref,
            state=_state_of(slot, answering, wanted),
            since_at=standing.since_at if standing is not None else self._parts.clock.now(),
            previous=previous.ref if previous is not None else None,
            answered_count=totals.answered_count,
            failed_count=totals.failed_count,
        )


def unforeseen(error: Exception) -> ActivationError:
    """A defect, or a machine at its end, as whoever reads the events is told of it."""
    return ActivationError(f"an unforeseen error: {error!r}"[:ERROR_CHARS_MAX])


def _told_of_floors(state: State, component_name: str) -> str:
    floor, trusted_at = state.floors.get(component_name), state.trusted_at
    return f"{f'release {floor.number}' if floor else 'no release'}, {format_moment(trusted_at) if trusted_at else 'no time'}"


def _state_of(slot: Slot, answering: ModelRef | None, wanted: Installed) -> str:
    if answering is None:
        return "failed"
    return "probation" if slot.phase is Phase.PENDING and answering == wanted.ref else "serving"
