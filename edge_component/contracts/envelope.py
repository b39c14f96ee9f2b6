"""The envelope around everything a device sends, so that the cloud can order and de-duplicate without reading further.

Delivery is at least once. ``(thing name, epoch, sequence)`` is the key: ``sequence`` grows by one for each message a
device's outbox accepts, and ``epoch`` changes when the outbox had to begin anew (a lost disk, a re-imaged device). A
gap in ``sequence`` within an epoch is a message that was dropped or is still under way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from edge_component.contracts.codec import NOTHING, Document, Fields, format_moment, from_bytes, schema_name, to_bytes
from edge_component.contracts.errors import TooLargeError
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.topics import KINDS


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message from a device, its ``body`` still a document of the contract named by ``kind``.

    Attributes:
        kind: ``heartbeat``, ``window`` or ``activation``.
        thing_name: as the device believes; the cloud trusts the topic instead, and refuses a message where they differ.
        epoch: opaque id of the outbox's life, at most ``LIMITS.epoch_chars_max`` characters.
        sequence: from 1.
        recorded_at: the device's clock when the message was made.
    """

    kind: str
    thing_name: str
    epoch: str
    sequence: int
    recorded_at: datetime
    body: Document
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("message", 1)
        return cls(
            kind=fields.choice("kind", KINDS),
            thing_name=fields.text("thing_name"),
            epoch=fields.text("epoch", chars_max=LIMITS.epoch_chars_max),
            sequence=fields.integer("sequence", minimum=1),
            recorded_at=fields.moment("recorded_at"),
            body=fields.nested("body", lambda value, where: Fields(value, where).rest()),
            extra=fields.rest(),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode a publish's payload; see :meth:`read`."""
        return cls.read(from_bytes(data, LIMITS.publish_bytes_max))

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("message", 1),
            "kind": self.kind,
            "thing_name": self.thing_name,
            "epoch": self.epoch,
            "sequence": self.sequence,
            "recorded_at": format_moment(self.recorded_at),
            "body": dict(self.body),
        }

    def to_bytes(self) -> bytes:
        """A publish's payload.

        Raises:
            TooLargeError: above ``LIMITS.publish_bytes_max``; the sender must split (windows) or shorten (texts).
        """
        data = to_bytes(self.to_document())
        if len(data) > LIMITS.publish_bytes_max:
            raise TooLargeError(f"{len(data)} bytes; a publish holds at most {LIMITS.publish_bytes_max}")
        return data
