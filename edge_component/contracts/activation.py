"""The activation event: one per attempt to change what a device serves, whatever came of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from edge_component.contracts.codec import NOTHING, Document, Fields, schema_name
from edge_component.contracts.heartbeat import ModelRef

OUTCOMES = ("activated", "already-active", "refused", "reverted", "restored", "deactivated", "floor-lowered")
"""Of this version; those of a later one are words, too."""
OUTCOME_PATTERN = re.compile(r"[a-z][a-z-]{0,39}")


@dataclass(frozen=True, slots=True)
class ActivationEvent:
    """The body of an ``activation`` message, version 1.

    Attributes:
        attempt_id: unique on the device.
        outcome: ``activated``; ``already-active`` (idempotent hand-over); ``refused`` (the old one serves on);
            ``reverted`` (after a switch); ``restored`` (at start of the runtime); ``deactivated`` (removed);
            ``floor-lowered`` (an operator has let older releases in again). A reader must expect outcomes that it does not
            know: they are history, too.
        model_name: whom it concerns; known even where the candidate could not be read; of a floor, the component.
        candidate: what was handed over, as far as it could be read.
        serving: what answers after the attempt; ``None`` if nothing does.
        phase: where it ended: ``receive verify store trial load warm-up golden shadow switch probation restore floor``.
        code: the error's stable code, empty on success.
        message: one sentence for a person, empty on success, but for what a floor was and is.
        duration_ms: of the whole attempt.
    """

    attempt_id: str
    outcome: str
    model_name: str
    candidate: ModelRef | None
    serving: ModelRef | None
    phase: str
    code: str = ""
    message: str = ""
    duration_ms: int = 0
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("activation", 1)
        return cls(
            attempt_id=fields.text("attempt_id"),
            outcome=fields.text("outcome", pattern=OUTCOME_PATTERN),
            model_name=fields.text("model_name"),
            candidate=fields.optional("candidate", lambda name: fields.nested(name, ModelRef.read)),
            serving=fields.optional("serving", lambda name: fields.nested(name, ModelRef.read)),
            phase=fields.text("phase"),
            code=fields.text("code"),
            message=fields.text("message"),
            duration_ms=fields.integer("duration_ms"),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("activation", 1),
            "attempt_id": self.attempt_id,
            "outcome": self.outcome,
            "model_name": self.model_name,
            "phase": self.phase,
            "code": self.code,
            "message": self.message,
            "duration_ms": self.duration_ms,
        }
        if self.candidate is not None:
            known["candidate"] = self.candidate.to_document()
        if self.serving is not None:
            known["serving"] = self.serving.to_document()
        return known
