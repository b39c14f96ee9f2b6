"""Change what this device serves: take a bundle in, try it, switch, watch it, and go back where that is right.

The failure this exists for: a swap that is interrupted, fails half-way, or is asked for twice. Each method turns one
request into signals for the table (slots.py persists and acts) and tells telemetry what came of it. The answers come
from the router all the while: no request waits for anything here.

One lock makes changes one at a time: a device has one disk and few cores. Reading what serves needs no lock.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_component.activation.attempt import FOREVER_S, Attempt
from edge_component.activation.intake import Intake, Taken, digest_in, take_in
from edge_component.activation.live import UNTIMED
from edge_component.activation.probation import Evidence, Verdict, judge
from edge_component.activation.shadow import comparable, compare_live, objection
from edge_component.activation.slots import SlotParts, Slots, unforeseen
from edge_component.activation.table import Phase, Signal, Slot
from edge_component.bundles.verification import Asked, Circumstances
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.codec import VERSION_PATTERN
from edge_component.contracts.heartbeat import ModelRef, ServedModel
from edge_component.errors import (
    ActivationDeadlineError,
    DeviceError,
    InterruptedActivationError,
    NothingToLowerError,
    NothingToRevertError,
    StoreError,
    TooManyStartsError,
    UnknownModelError,
    WrongComponentError,
)
from edge_component.inference.trial import Trial, TrialFailedError

log = logging.getLogger(__name__)

RESERVES_EVERY_S = 30.0
"""How often a disk that gave no reserve for the journal, or refused to write it, is asked again."""
AGAIN_S, AGAIN_S_MAX = 60.0, 3600.0
"""After which what should serve and could not be loaded is tried again: twice as late each time, up to the second."""


@dataclass(frozen=True, slots=True)
class ActivatorParts:
    """What the activator works with; each part can be replaced by a fake.

    Attributes:
        slots: see slots.py.
        intake: store, trusted keys and caps.
        trial: how a stored bundle is first loaded.
        platform: this device's, such as ``linux/x86_64``.
    """

    slots: SlotParts
    intake: Intake
    trial: Trial
    platform: str


class Activator:
    """See the module's text."""

    def __init__(self, parts: ActivatorParts) -> None:
        """Read nothing yet; see :meth:`restore`."""
        self._parts = parts
        self._clock = parts.slots.clock
        self._config = parts.slots.config
        self._slots = Slots(parts.slots)
        self._lock = threading.Lock()
        self._reserves_asked_s = self._clock.monotonic_s()
        self._again_s: dict[str, float] = {}

    def restore(self) -> tuple[str, ...]:
        """Read the journal and serve what it says; called once, before any door opens.

        A model that cannot be restored is reported and skipped: the others serve. Returns sentences on what is amiss.

        Raises:
            StoreError: the work folder cannot be used at all.
        """
        with self._lock:
            problem = self._slots.load()
            for name in sorted(self._slots.state.slots):
                self._restore_one(name)
            if not problem:  # with the journal gone, nobody knows what the other bundles are for: leave them
                self._slots.collect()
        return (problem,) if problem else ()

    def activate(self, archive: Path, asked: Asked, allowed_s: float) -> ActivationEvent:
        """Make a handed-over bundle serve; idempotent.

        Returns:
            The event ``activated`` or ``already-active``.

        Raises:
            DeviceError: refused; what served before serves on. Telemetry has been told ``refused``.
        """
        attempt = Attempt(self._clock, asked.component_name, allowed_s)
        with self._alone(allowed_s):
            try:
                return self._activate(archive, asked, attempt)
            except TrialFailedError as failure:
                attempt.phase = failure.phase
                self._refused(attempt, failure.error)
                raise failure.error from failure
            except DeviceError as error:
                self._refused(attempt, error)
                raise
            except Exception as error:  # whoever reads the events is to know all the same
                self._refused(attempt, unforeseen(error))
                raise

    def revert(self, model_name: str, allowed_s: float = FOREVER_S) -> ActivationEvent:
        """Bring the previous version back (on probation: what served before the candidate).

        Raises:
            UnknownModelError, NothingToRevertError, StoreError, ActivationDeadlineError: nothing changed.
        """
        attempt = Attempt(self._clock, model_name, phase="switch")
        with self._alone(allowed_s):
            slot = self._known(model_name)
            if (slot.active if slot.phase is Phase.PENDING else slot.previous) is None:
                raise NothingToRevertError(f"there is no previous version of {model_name} on this device")
            attempt.candidate = slot.wanted_ref
            error = self._slots.signal(model_name, Signal.REVERT_ASKED)
            if error is not None:
                raise error
            return self._tell(attempt, "reverted")

    def deactivate(self, model_name: str, component_name: str = "", allowed_s: float = FOREVER_S) -> ActivationEvent:
        """Stop serving a model and forget its bundles; its release floor stays.

        ``component_name``, where given, is the component that must have brought the model: the name may have gone to
        another one since, and a retired component is asked to leave at every start of the device.

        Raises:
            UnknownModelError, StoreError, ActivationDeadlineError: nothing changed.
        """
        attempt = Attempt(self._clock, model_name, phase="switch")
        with self._alone(allowed_s):
            slot = self._known(model_name)
            if component_name and _owner(slot) != component_name:
                raise UnknownModelError(f"{model_name} is not {component_name}'s but {_owner(slot)}'s")
            attempt.candidate = slot.wanted_ref
            self._slots.signal(model_name, Signal.REMOVAL_ASKED)
            self._slots.collect()
            return self._tell(attempt, "deactivated")

    def lower_floor(self, component_name: str, allowed_s: float = FOREVER_S) -> ActivationEvent:
        """Undo what a trusted signer has got wrong: a release or a time so high that nothing after it is accepted.

        Whoever may ask this could change the work folder as well. What serves, serves on; log and cloud are told.

        Raises:
            NothingToLowerError, StoreError, ActivationDeadlineError: nothing changed.
        """
        attempt = Attempt(self._clock, component_name, phase="floor")
        with self._alone(allowed_s):
            changed = self._slots.lower_floor(component_name)
            if not changed:
                raise NothingToLowerError(f"no floor of {component_name} is above what is committed")
            log.warning("%s: %s, as was asked on this device", component_name, changed)
            return self._tell(attempt, "floor-lowered", told=changed)

    def tick(self) -> None:
        """Judge every model on probation, try again what could not be gone back to, and have what a full disk is survived with.

        Called about once a second.

        Does nothing while a change is under way.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._tend_the_journal()
            for name, slot in self._slots.state.slots.items():
                if slot.phase is Phase.PENDING:
                    self._judge(name, self._slots.stands_for_s(name))
                elif self._slots.answering(name) != slot.wanted_ref:
                    self._try_again(name)
        except StoreError as error:
            log.warning("a verdict on probation could not be persisted; it will be tried again: %s", error)
        finally:
            self._lock.release()

    def _tend_the_journal(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._reserves_asked_s >= RESERVES_EVERY_S:
            self._reserves_asked_s = now_s
            self._slots.tend_the_journal()

    def problems(self) -> tuple[str, ...]:
        """What is amiss with what is kept on the disk, now, in sentences."""
        return self._slots.problems()

    def models(self) -> tuple[ServedModel, ...]:
        """What every model name stands at, for heartbeat and status."""
        return self._slots.served()

    @contextmanager
    def _alone(self, allowed_s: float) -> Iterator[None]:
        """Behind the change that is under way; whoever gave up waiting must not be obeyed later."""
        if not self._lock.acquire(timeout=min(allowed_s, threading.TIMEOUT_MAX)):
            raise ActivationDeadlineError(f"another change was under way for all of {allowed_s:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _activate(self, archive: Path, asked: Asked, attempt: Attempt) -> ActivationEvent:
        claimed = digest_in(archive)
        self._recognise(asked, claimed, attempt)
        if self._answers_already(claimed, asked, attempt):
            self._mend(archive, asked, attempt)
            return self._tell(attempt, "already-active")
        taken = self._take_in(archive, asked, attempt)
        name = taken.manifest.model_name
        attempt.model_name, attempt.candidate = name, taken.installed.ref
        self._slots.sheltered = frozenset({taken.installed.ref.digest})
        self._check_owner(name, asked)
        if self._slots.state.slot(name).phase is Phase.PENDING:  # an offer ends an earlier probation, as it stands
            self._judge(name, FOREVER_S)
        self._slots.trust_time(taken.created_at)
        self._slots.signal(name, Signal.OFFERED, taken.installed)
        self._slots.sheltered = frozenset()
        error = self._try_and_switch(taken, attempt)
        if error is not None:
            raise error
        if self._config.probation_s == 0:
            self._confirm_now(name)
        return self._tell(attempt, "activated")

    def _recognise(self, asked: Asked, claimed: str | None, attempt: Attempt) -> None:
        """What it says it is, for the event of a refusal; a component's earlier hand-over tells its model's name.

        Nothing but the event depends on it: what is verified takes its place.
        """
        owned = (name for name, slot in self._slots.state.slots.items() if _owner(slot) == asked.component_name)
        attempt.model_name = next(owned, asked.component_name)
        if claimed is not None and VERSION_PATTERN.fullmatch(asked.version):
            attempt.candidate = ModelRef(attempt.model_name, asked.version, claimed)

    def _answers_already(self, digest: str | None, asked: Asked, attempt: Attempt) -> bool:
        for name, slot in self._slots.state.slots.items():
            held, answering = slot.wanted, self._slots.answering(name)
            if held is None or answering is None or not held.ref.digest == answering.digest == digest:
                continue
            if (held.component_name, held.ref.version) == (asked.component_name, asked.version):
                attempt.model_name, attempt.candidate = name, held.ref
                return True
        return False

    def _mend(self, archive: Path, asked: Asked, attempt: Attempt) -> None:
        """Replace a copy that was damaged after it had been loaded: the next start would go back to an older model for it."""
        served, phase = attempt.candidate, attempt.phase
        if served is None or self._parts.slots.store.holds(served.digest):
            return
        try:
            self._take_in(archive, asked, attempt)
        except DeviceError as error:  # it serves all the same, from memory
            log.warning("%s %s: its copy on the disk is damaged, and stays so: %s", served.name, served.version, error)
        else:
            log.warning("%s %s: its copy on the disk was damaged, and is replaced", served.name, served.version)
        attempt.phase = phase

    def _take_in(self, archive: Path, asked: Asked, attempt: Attempt) -> Taken:
        state = self._slots.state
        floor = state.floor(asked.component_name)
        circumstances = Circumstances(
            self._parts.platform, self._clock.now(), state.trusted_at, floor, self._slots.welcome()
        )
        return take_in(self._parts.intake, archive, asked, circumstances, attempt)

    def _check_owner(self, name: str, asked: Asked) -> None:
        held = self._slots.state.slot(name).wanted
        if held is not None and held.component_name != asked.component_name:
            raise WrongComponentError(
                f"the model name {name} belongs to {held.component_name}",
                f"Remove it first (`edgewright-edge deactivate {name}`), or publish under another model name.",
            )

    def _try_and_switch(self, taken: Taken, attempt: Attempt) -> DeviceError | None:
        """Trial, then switch; where this raises, the slot is as it was before the offer."""
        name = taken.manifest.model_name
        try:
            attempt.phase = "trial"
            self._parts.trial(taken.folder, taken.manifest, attempt.left_s())
            attempt.check_time()
            self._compare(name, taken, attempt)
            attempt.phase = "switch"
            return self._slots.signal(name, Signal.PASSED)
        except BaseException:
            has_passed = self._slots.state.slot(name).phase is Phase.PENDING
            self._slots.signal(name, Signal.DOUBTED if has_passed else Signal.FAILED)
            raise

    def _compare(self, name: str, taken: Taken, attempt: Attempt) -> None:
        """The shadow stage, where one is configured and there is something to compare with."""
        active, live, config = self._parts.slots.router.active(name), self._parts.slots.live, self._config
        if not config.shadow_s or active is None or active.ref == taken.installed.ref:
            return
        if not comparable(active, taken.manifest):
            log.warning("%s %s takes other tensors than what serves: not compared", name, taken.installed.ref.version)
            return
        attempt.phase = "shadow"
        self._slots.signal(name, Signal.TRIED)
        candidate = self._slots.load_ahead(name)
        allowed_s = min(config.shadow_s, attempt.left_s() / 2)
        compared = compare_live(live, active, candidate, config, self._clock, allowed_s)
        log.info("%s agreed on %d of %d live requests", name, compared.agreed_count, compared.compared_count)
        if (error := objection(compared, config)) is not None:
            raise error
        attempt.check_time()

    def _confirm_now(self, name: str) -> None:
        try:
            self._slots.signal(name, Signal.CONFIRMED)
        except StoreError as error:
            log.warning("%s serves, but could not be committed yet: %s", name, error)

    def _judge(self, name: str, elapsed_s: float) -> None:
        judgement = judge(self._evidence(name, elapsed_s), self._config)
        if judgement.verdict is Verdict.CONFIRM:
            self._slots.signal(name, Signal.CONFIRMED)
        elif judgement.verdict is Verdict.DOUBT:
            attempt = Attempt(self._clock, name, phase="probation")
            attempt.candidate = self._slots.state.slot(name).wanted_ref
            self._slots.signal(name, Signal.DOUBTED)
            self._tell(attempt, "reverted", judgement.error)

    def _evidence(self, name: str, elapsed_s: float) -> Evidence:
        slot, router, live = self._slots.state.slot(name), self._parts.slots.router, self._parts.slots.live
        totals = router.totals(name, router.generation(name))
        now, before = (live.latency(held.ref.digest) if held else UNTIMED for held in (slot.candidate, slot.active))
        return Evidence(elapsed_s, totals, now, before)

    def _restore_one(self, name: str) -> None:
        before = self._slots.state.slot(name)
        attempt = Attempt(self._clock, name, phase="restore")
        attempt.candidate = before.candidate.ref if before.candidate is not None else before.wanted_ref
        error = self._slots.signal(name, Signal.STARTED)
        if before.phase in (Phase.TRIAL, Phase.SHADOW):
            stage = "trial" if before.phase is Phase.TRIAL else "comparison"
            self._tell(attempt, "refused", InterruptedActivationError(f"the runtime was stopped during its {stage}"))
            return
        if error is None and before.phase is Phase.PENDING and self._slots.state.slot(name).phase is Phase.IDLE:
            error = TooManyStartsError(f"the runtime was started {before.starts_count + 1} times during its probation")
        outcome = "restored" if error is None else "reverted" if self._slots.answering(name) else "refused"
        self._tell(attempt, outcome, error)

    def _try_again(self, name: str) -> None:
        """To serve what should; a fault of the disk, or of want, may have passed since it could not be loaded."""
        again_s = self._again_s.get(name, AGAIN_S)
        if self._slots.stands_for_s(name) < again_s:
            return
        attempt = Attempt(self._clock, name, phase="restore")
        attempt.candidate = self._slots.state.slot(name).wanted_ref
        if self._slots.signal(name, Signal.STARTED) is None:
            self._again_s.pop(name, None)
            self._tell(attempt, "restored")
        else:
            self._again_s[name] = min(2 * again_s, AGAIN_S_MAX)

    def _known(self, model_name: str) -> Slot:
        slot = self._slots.state.slot(model_name)
        if slot.wanted is None:
            raise UnknownModelError(f"no model named {model_name!r}; there are {sorted(self._slots.state.slots)}")
        return slot

    def _refused(self, attempt: Attempt, error: DeviceError) -> None:
        self._slots.sheltered = frozenset()
        self._slots.collect()
        self._tell(attempt, "refused", error)

    def _tell(
        self, attempt: Attempt, outcome: str, error: DeviceError | None = None, told: str = ""
    ) -> ActivationEvent:
        event = attempt.event(outcome, self._slots.answering(attempt.model_name), error, told)
        version = attempt.candidate.version if attempt.candidate is not None else "?"
        log.info("%s %s: %s%s", event.model_name, version, outcome, f" ({event.message})" if error else "")
        self._parts.slots.sink.activation(event)
        return event


def _owner(slot: Slot) -> str:
    return slot.wanted.component_name if slot.wanted is not None else ""
