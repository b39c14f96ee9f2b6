"""``activation.json``: every model's slot, the release floors and the trusted time, in one durable file.

The failure this exists for: a process that dies between two acts and cannot know which of them it had done. The journal
is written (write, fsync, rename, fsync the folder) before each act, so that after any crash it says what was about to
happen. It is one file for all models, hence one rename for each change: there is no state in which two files disagree.

It decides nothing (table.py does). One writer at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from edge_component.activation.table import Installed, Phase, Slot
from edge_component.bundles.unpack import store_error
from edge_component.bundles.verification import Release
from edge_component.contracts.codec import (
    DIGEST_PATTERN,
    NOTHING,
    Document,
    Fields,
    format_moment,
    from_bytes,
    schema_name,
    to_bytes,
)
from edge_component.contracts.errors import ContractError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.durable import replace_file
from edge_component.errors import JournalDamagedError

JOURNAL_FILE = "activation.json"
JOURNAL_BYTES_MAX = 1_000_000


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


class Journal:
    """The durable file."""

    def __init__(self, work_path: Path) -> None:
        """Address the file."""
        self._path = work_path / JOURNAL_FILE

    def load(self) -> State:
        """What was last saved; an empty state if nothing ever was.

        Raises:
            JournalDamagedError: it cannot be read; it was set aside as ``activation.json.damaged``.
        """
        try:
            return State.read(from_bytes(self._path.read_bytes(), JOURNAL_BYTES_MAX))
        except FileNotFoundError:
            return State()
        except (ContractError, OSError) as error:
            aside = self._path.with_name(f"{JOURNAL_FILE}.damaged")
            self._path.replace(aside)
            raise JournalDamagedError(f"{JOURNAL_FILE} cannot be read ({error}); it is kept as {aside.name}") from error

    def save(self, state: State) -> None:
        """Persist; after this returns it survives a power cut.

        Raises:
            StoreError: the disk refused; what was saved before still holds.
        """
        try:
            replace_file(self._path, to_bytes(state.to_document()))
        except OSError as error:
            raise store_error(error, f"writing {JOURNAL_FILE}") from error


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
