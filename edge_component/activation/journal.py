"""``activation.json``: every model's slot, the release floors and the trusted time, in one durable file.

The failure this exists for: a process that dies between two acts and cannot know which of them it had done. The journal
is written (write, fsync, rename, fsync the folder) before each act, so that after any crash it says what was about to
happen. It is one file for all models, hence one rename for each change: there is no state in which two files disagree.

A disk that damages just that file must cost neither what serves nor the protection against rollback. So
``committed.json`` follows it, after each change of what is committed: active and previous models, floors, trusted time,
nothing of a candidate. Both carry a checksum (sealed.py). It is read only to raise floors that the journal lacks, and in the place of a journal that cannot
be read; what it names was verified, tried and committed, so nothing comes to serve that should not.

Both have a reserve (reserved.py): on a full disk, what was served can still be served again, or be removed. A disk that was
full before it could give one (an upgrade from a version without) is asked again, and told of until it has.

It decides nothing (table.py does). One writer at a time.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from edge_component.activation.table import Installed, Phase, Slot
from edge_component.bundles.unpack import store_error
from edge_component.bundles.verification import Release
from edge_component.clock import is_believable
from edge_component.contracts.codec import (
    DIGEST_PATTERN,
    NOTHING,
    Document,
    Fields,
    format_moment,
    schema_name,
)
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.errors import StoreDamagedError, StoreError
from edge_component.reserved import ReservedFile
from edge_component.sealed import seal, unseal

log = logging.getLogger(__name__)

JOURNAL_FILE = "activation.json"
COMMITTED_FILE = "committed.json"
JOURNAL_BYTES_MAX = 1_000_000
READS_MAX = 4
"""An I/O error may pass; damage is believed after so many of them, ``READ_PAUSE_S`` apart."""
READ_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class State:
    """What the journal holds.

    Attributes:
        slots: by model name.
        floors: by component name: the highest release ever committed, which outlives the model's removal.
        trusted_at: the latest time that a validly signed manifest has named.
    """

    slots: Mapping[str, Slot] = field(default_factory=dict)
    floors: Mapping[str, Release] = field(default_factory=dict)
    trusted_at: datetime | None = None
    extra: Mapping[str, Any] = NOTHING

    def slot(self, model_name: str) -> Slot:
        """A model's slot; empty if it has none."""
        return self.slots.get(model_name, Slot())

    def floor(self, component_name: str) -> Release | None:
        """What an offer is held against: the component's floor, or what is on probation, which the offer would commit."""
        on_probation = (slot.candidate for slot in self.slots.values() if slot.phase is Phase.PENDING)
        floors = [self.floors[component_name]] if component_name in self.floors else []
        floors += [
            Release(held.release, held.ref.digest)
            for held in on_probation
            if held is not None and held.component_name == component_name
        ]
        return max(floors, key=lambda floor: floor.number, default=None)

    def with_slot(self, model_name: str, slot: Slot) -> "State":
        """Replace a slot; an empty one is left out. What is active without a candidate raises its component's floor."""
        slots = {**self.slots, model_name: slot}
        if slot == Slot():
            del slots[model_name]
        floors = dict(self.floors)
        if slot.phase is Phase.IDLE and slot.active is not None:
            held = slot.active
            if held.component_name not in floors or held.release > floors[held.component_name].number:
                floors[held.component_name] = Release(held.release, held.ref.digest)
        return replace(self, slots=MappingProxyType(slots), floors=MappingProxyType(floors))

    def with_trusted(self, at: datetime) -> "State":
        """Raise the trusted time; it never goes back."""
        return replace(self, trusted_at=max(at, self.trusted_at or at))

    def with_floor_lowered(self, component_name: str, now: datetime) -> "State":
        """A component's releases count from what is committed of it.

        And the trusted time becomes that of a clock which it alone keeps from being believed.
        """
        floors = {name: floor for name, floor in self.floors.items() if name != component_name}
        committed = [
            Release(held.release, held.ref.digest)
            for held in (slot.active for slot in self.slots.values())
            if held is not None and held.component_name == component_name
        ]
        if committed:  # more than one, where the model's name has changed
            floors[component_name] = max(committed, key=lambda floor: floor.number)
        trusted_at = self.trusted_at
        if is_believable(now, None) and not is_believable(now, trusted_at):
            trusted_at = now
        return replace(self, floors=MappingProxyType(floors), trusted_at=trusted_at)

    def with_floors_of(self, other: "State") -> "State":
        """Raise the floors and the trusted time to the other's, where those are higher."""
        floors = dict(self.floors)
        for name, floor in other.floors.items():
            if name not in floors or floor.number > floors[name].number:
                floors[name] = floor
        raised = replace(self, floors=MappingProxyType(floors))
        return raised.with_trusted(other.trusted_at) if other.trusted_at is not None else raised

    def committed(self) -> "State":
        """The same without candidates."""
        held = {name: Slot(active=slot.active, previous=slot.previous) for name, slot in self.slots.items()}
        return replace(self, slots=MappingProxyType({name: slot for name, slot in held.items() if slot != Slot()}))

    def changing(self) -> frozenset[str]:
        """Digests of what answers, or may come to answer, under names that are being changed."""
        changing = [slot for slot in self.slots.values() if slot.phase is not Phase.IDLE]
        return frozenset().union(*(replace(slot, previous=None).referenced for slot in changing))

    def referenced(self) -> frozenset[str]:
        """Digests that the store must keep."""
        return frozenset().union(*(slot.referenced for slot in self.slots.values()))

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("activation-journal", 1)
        return cls(
            slots=fields.table("slots", _read_slot),
            floors=fields.table("floors", _read_release),
            trusted_at=fields.optional("trusted_at", fields.moment),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("activation-journal", 1),
            "slots": {name: _slot_document(slot) for name, slot in self.slots.items()},
            "floors": {name: {"number": floor.number, "digest": floor.digest} for name, floor in self.floors.items()},
        }
        if self.trusted_at is not None:
            known["trusted_at"] = format_moment(self.trusted_at)
        return known


@dataclass(frozen=True, slots=True)
class Found:
    """What the disk gave; ``problem`` is a sentence if the journal itself could not be read, else empty."""

    state: State
    problem: str = ""


class Journal:
    """The durable file, and the one that follows it."""

    def __init__(self, work_path: Path, pause: Callable[[float], None] = time.sleep) -> None:
        """Address the files; ``pause`` waits between two attempts to read, in seconds."""
        self._path = work_path / JOURNAL_FILE
        self._committed_path = work_path / COMMITTED_FILE
        self._file, self._committed_file = ReservedFile(self._path), ReservedFile(self._committed_path)
        self._pause = pause
        self._followed: State | None = None
        """What ``committed.json`` holds, as far as that is known."""

    def load(self) -> Found:
        """What was last saved; an empty state if nothing ever was.

        A journal that cannot be read is kept as ``activation.json.damaged``, and what was last committed takes its place.

        Raises:
            StoreError: it can be neither read nor set aside.
        """
        loss = ""
        try:
            self._followed = self._read(self._committed_path)
        except (ContractError, OSError) as error:
            loss = f"; nor can {COMMITTED_FILE} ({error}): models must be deployed again, and older ones could be"
        committed = self._followed or State()
        try:
            state = self._read(self._path)
        except (ContractError, OSError) as error:
            kept_as = self._set_aside()
            return self._stand_in(committed, f"cannot be read ({error}); it is kept as {kept_as}{loss}")
        if state is None:
            return self._stand_in(committed, f"is gone{loss}") if self._followed or loss else Found(State())
        state = state.with_floors_of(committed)
        self._file.reserve()
        self._follow(state.committed())
        return Found(state)

    def _stand_in(self, committed: State, what: str) -> Found:
        try:
            self.save(committed)
        except StoreError as error:
            log.warning("%s; the next start will find what this one found", error)
        return Found(committed, f"{JOURNAL_FILE} {what}")

    def peek(self) -> State:
        """What was last saved, for a reader beside the runtime, which must change nothing.

        Raises:
            StoreDamagedError: it cannot be read.
        """
        try:
            return self._read(self._path) or State()
        except (ContractError, OSError) as error:
            raise StoreDamagedError(f"{self._path} cannot be read: {error}") from error

    def save(self, state: State, *, is_way_back: bool = False) -> None:
        """Persist; after this returns it survives a power cut. A way back may use what is reserved for a full disk.

        Raises:
            StoreError: the disk refused; what was saved before still holds.
        """
        try:
            self._file.replace(seal(state.to_document()), may_use_reserve=is_way_back)
        except OSError as error:
            raise store_error(error, f"writing {JOURNAL_FILE}") from error
        self._follow(state.committed(), is_way_back=is_way_back)

    def lower(self, state: State) -> None:
        """Persist floors that are lower than before: in the copy first, which would raise them again at the next start.

        Raises:
            StoreError: the disk refused; the floors of before hold.
        """
        try:
            self._committed_file.replace(seal(state.committed().to_document()), may_use_reserve=False)
        except OSError as error:
            raise store_error(error, f"writing {COMMITTED_FILE}") from error
        self._followed = state.committed()
        self.save(state)

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences on reserves that the disk has not given."""
        return tuple(file.problem for file in (self._file, self._committed_file) if file.problem)

    def ask_for_reserves(self) -> None:
        """Once more, for those that the disk has not given yet."""
        for file in (self._file, self._committed_file):
            if file.problem:
                file.reserve()

    def _follow(self, committed: State, *, is_way_back: bool = False) -> None:
        """Nothing depends on this one while the journal can be read, so a failure is made good with the next save."""
        if committed == self._followed:
            self._committed_file.reserve()
            return
        try:
            self._committed_file.replace(seal(committed.to_document()), may_use_reserve=is_way_back)
        except OSError as error:
            self._followed = None
            log.warning("%s could not be written; it will be, with the next change: %s", COMMITTED_FILE, error)
        else:
            self._followed = committed

    def _read(self, path: Path) -> State | None:
        for attempt in range(1, READS_MAX + 1):
            try:
                return State.read(unseal(path.read_bytes(), JOURNAL_BYTES_MAX))
            except FileNotFoundError:
                break
            except OSError:
                if attempt == READS_MAX:
                    raise
                self._pause(READ_PAUSE_S)
        return None

    def _set_aside(self) -> str:
        aside = self._path.with_name(f"{JOURNAL_FILE}.damaged")
        try:
            self._path.replace(aside)
        except OSError as error:
            raise StoreError(f"{JOURNAL_FILE} can be neither read nor set aside: {error}") from error
        return aside.name


def _read_slot(value: object, where: str) -> Slot:
    fields = Fields(value, where)
    return Slot(
        phase=Phase(fields.choice("phase", tuple(phase.value for phase in Phase))),
        active=fields.optional("active", lambda name: fields.nested(name, _read_installed)),
        previous=fields.optional("previous", lambda name: fields.nested(name, _read_installed)),
        candidate=fields.optional("candidate", lambda name: fields.nested(name, _read_installed)),
        starts_count=fields.integer("starts_count"),
    )


def _read_installed(value: object, where: str) -> Installed:
    fields = Fields(value, where)
    return Installed(
        fields.nested("ref", ModelRef.read), fields.text("component_name"), fields.integer("release", minimum=1)
    )


def _read_release(value: object, where: str) -> Release:
    fields = Fields(value, where)
    return Release(fields.integer("number", minimum=1), fields.text("digest", pattern=DIGEST_PATTERN))


def _slot_document(slot: Slot) -> Document:
    known: dict[str, Any] = {"phase": slot.phase.value, "starts_count": slot.starts_count}
    for name in ("active", "previous", "candidate"):
        held: Installed | None = getattr(slot, name)
        if held is not None:
            known[name] = {
                "ref": held.ref.to_document(),
                "component_name": held.component_name,
                "release": held.release,
            }
    return known
