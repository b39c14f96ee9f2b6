"""What may happen to one model's slot on this device: a pure transition table.

The failures this exists for: a device that serves nothing after a power cut in mid-swap, one that serves something
unverified, and one that reboots for ever into the model that kills it. The table is small enough to be explored whole:
the tests visit every reachable state with every signal and check that

* whatever has once been committed is followed by something that serves, until somebody removes it;
* only a candidate that passed its trial is ever acted on;
* from every state, the process being restarted again and again ends in a state that stays.

::

    IDLE ──Offered──▶ TRIAL ─────────────Passed─────▶ PENDING ──Confirmed──▶ IDLE (candidate active, old one previous)
      ▲                 │ └─Tried──▶ SHADOW ─Passed─▶   │
      │                 │Failed        │Failed          │ Doubted, Unloadable, too many starts
      └─────────────────┴──────────────┴────────────────┘ (old one active)

The shell (activator.py) persists the slot that :func:`step` returns *before* it acts, so that a process that dies finds,
in the journal, what it was about to do. A signal that makes no sense in a state raises :class:`ImpossibleSignalError`:
a defect of the shell, not of the device.
"""

from dataclasses import dataclass, replace
from enum import Enum

from edge_component.contracts.heartbeat import ModelRef


@dataclass(frozen=True, slots=True)
class Installed:
    """One stored, verified bundle."""

    ref: ModelRef
    component_name: str
    release: int


class Phase(Enum):
    """Where a slot stands."""

    IDLE = "idle"
    TRIAL = "trial"
    SHADOW = "shadow"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Slot:
    """Everything persisted about one model name.

    Attributes:
        phase: of the candidate; IDLE has none.
        active: committed; what serves but in PENDING.
        previous: what a revert brings back.
        candidate: on trial, compared with what serves (SHADOW), or (PENDING) serving on probation.
        starts_count: starts of the runtime while PENDING.
    """

    phase: Phase = Phase.IDLE
    active: Installed | None = None
    previous: Installed | None = None
    candidate: Installed | None = None
    starts_count: int = 0

    @property
    def wanted(self) -> Installed | None:
        """What should be answering in this state."""
        return self.candidate if self.phase is Phase.PENDING else self.active

    @property
    def wanted_ref(self) -> ModelRef | None:
        """The same, by name."""
        return self.wanted.ref if self.wanted is not None else None

    @property
    def answerable(self) -> tuple[ModelRef, ...]:
        """Versions that passed their trial here: what should be answering, then what a revert would bring back."""
        passed = self.candidate if self.phase is Phase.PENDING else None
        return tuple(held.ref for held in (passed, self.active, self.previous) if held is not None)

    @property
    def referenced(self) -> frozenset[str]:
        """Digests that the store must keep."""
        return frozenset(held.ref.digest for held in (self.active, self.previous, self.candidate) if held is not None)


WAY_BACK_S = 3600.0
"""After a commit: whichever deployment brought it has ended by then, well or badly."""
NEVER_S = float("inf")


def welcome_back(slot: Slot, committed_ago_s: float) -> frozenset[str]:
    """Digests that may be handed over although this device has committed a higher release.

    A nucleus that rolls a deployment back (Java) hands the version before over again, after the one that failed beside it
    was committed. So that one may come back: the very bundle that this device itself has committed last before, for
    ``WAY_BACK_S`` after the commit. It is what an operator's revert would bring, and nothing that was older then. What is
    committed now may always be handed over again: it is no way back, or only one from a probation, which no way of two
    leads from.

    Args:
        slot: of the model.
        committed_ago_s: how long ago what is active was committed by this process; ``NEVER_S`` if it was not: a restart,
            which whoever wants an older model may bring about, opens nothing.
    """
    may_go_back = slot.phase is not Phase.PENDING and committed_ago_s <= WAY_BACK_S
    held = (slot.active, slot.previous if may_go_back else None)
    return frozenset(installed.ref.digest for installed in held if installed is not None)


class Signal(Enum):
    """What can happen to a slot.

    OFFERED comes with a verified, stored bundle. TRIED: it passed its trial, and is to be compared on live requests before
    the switch; PASSED: it passed whatever comes before the switch. UNLOADABLE means: what :attr:`Slot.wanted` names could
    not be loaded. STARTED is the start of the runtime's process.
    """

    OFFERED = "offered"
    TRIED = "tried"
    PASSED = "passed"
    FAILED = "failed"
    CONFIRMED = "confirmed"
    DOUBTED = "doubted"
    UNLOADABLE = "unloadable"
    STARTED = "started"
    REVERT_ASKED = "revert-asked"
    REMOVAL_ASKED = "removal-asked"


class Act(Enum):
    """What the shell does after persisting the slot.

    TRY: the trial of the candidate. COMPARE: ask it what live requests ask of what serves. SERVE: let :attr:`Slot.wanted` answer (load it if it is not the one that does);
    if it cannot be loaded, signal UNLOADABLE. COLLECT: nothing changes for requests; unreferenced bundles may go.
    UNLOAD: stop answering.
    """

    NONE = "none"
    TRY = "try"
    COMPARE = "compare"
    SERVE = "serve"
    COLLECT = "collect"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Step:
    """The slot to persist, then the act to do."""

    slot: Slot
    act: Act


class ImpossibleSignalError(AssertionError):
    """The shell signalled something that cannot happen in this state."""


def step(  # noqa: C901, PLR0911 - a table reads best as one table
    slot: Slot, signal: Signal, offered: Installed | None = None, pending_starts_max: int = 3
) -> Step:
    """The table.

    Args:
        slot: as persisted.
        signal: what happened.
        offered: with OFFERED, the stored bundle.
        pending_starts_max: starts that a PENDING candidate may see.

    Raises:
        ImpossibleSignalError: the table has no such entry.
    """
    match slot.phase, signal:
        case Phase.IDLE, Signal.OFFERED if offered is not None:
            return Step(replace(slot, phase=Phase.TRIAL, candidate=offered), Act.TRY)
        case Phase.TRIAL, Signal.TRIED if slot.active is not None:
            return Step(replace(slot, phase=Phase.SHADOW), Act.COMPARE)
        case Phase.TRIAL | Phase.SHADOW, Signal.PASSED:
            return Step(replace(slot, phase=Phase.PENDING, starts_count=0), Act.SERVE)
        case Phase.TRIAL | Phase.SHADOW, Signal.FAILED:
            return Step(_without_candidate(slot), Act.COLLECT)
        case Phase.TRIAL | Phase.SHADOW, Signal.STARTED:
            return Step(_without_candidate(slot), _serve_if_any(slot))
        case Phase.PENDING, Signal.CONFIRMED:
            return Step(_committed(slot), Act.COLLECT)
        case Phase.PENDING, Signal.DOUBTED | Signal.UNLOADABLE | Signal.REVERT_ASKED:
            return Step(_without_candidate(slot), _serve_if_any(slot, otherwise=Act.UNLOAD))
        case Phase.PENDING, Signal.STARTED:
            return _started_pending(slot, pending_starts_max)
        case Phase.IDLE, Signal.STARTED:
            return Step(slot, _serve_if_any(slot))
        case Phase.IDLE, Signal.UNLOADABLE | Signal.REVERT_ASKED if slot.previous is not None:
            return Step(replace(slot, active=slot.previous, previous=_kept(slot, signal)), Act.SERVE)
        case Phase.IDLE, Signal.UNLOADABLE:
            return Step(slot, Act.NONE)
        case Phase.IDLE | Phase.PENDING, Signal.REMOVAL_ASKED:
            return Step(Slot(), Act.UNLOAD)
    raise ImpossibleSignalError(f"{signal} in {slot}")


def _committed(slot: Slot) -> Slot:
    same = slot.active is not None and slot.candidate is not None and slot.active.ref == slot.candidate.ref
    return Slot(active=slot.candidate, previous=slot.previous if same else slot.active or slot.previous)


def _without_candidate(slot: Slot) -> Slot:
    return replace(slot, phase=Phase.IDLE, candidate=None, starts_count=0)


def _started_pending(slot: Slot, pending_starts_max: int) -> Step:
    if slot.starts_count >= pending_starts_max:
        return Step(_without_candidate(slot), _serve_if_any(slot))
    return Step(replace(slot, starts_count=slot.starts_count + 1), Act.SERVE)


def _serve_if_any(slot: Slot, otherwise: Act = Act.NONE) -> Act:
    return Act.SERVE if slot.active is not None else otherwise


def _kept(slot: Slot, signal: Signal) -> Installed | None:
    """A revert keeps what it came from, to go back to; what cannot be loaded is nothing to go back to."""
    return slot.active if signal is Signal.REVERT_ASKED else None
