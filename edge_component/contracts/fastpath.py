"""The fast path's wire protocol, version 1: predictions between two processes of one device.

The failure this exists for: a model server whose hop costs a hundred times what the model does. So tensors never cross
the socket. They lie in shared memory that the *server* creates and seals (a client that could shrink its file would
crash the server), and the socket carries a few bytes that say "go" and "done".

Everything that a check depends on (shapes, slot, channel) travels in the message, which the sender cannot change any
more; shared memory holds tensor bytes only, and a client that scribbles there garbles its own answers and nobody else's.

The transport is a Unix socket of type ``SOCK_SEQPACKET``: one ``send`` is one message, so there is no framing to get
wrong. All numbers are little-endian. README.md beside this file specifies the protocol for writers of other clients.

This module packs and unpacks messages; it opens nothing. Its functions and values may be used from any thread.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from edge_component.contracts.codec import (
    NOTHING,
    Document,
    Fields,
    as_integer,
    from_bytes,
    schema_name,
    to_bytes,
)
from edge_component.contracts.errors import MalformedError
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec

SOCKET_NAME = "infer.sock"
"""Beneath the runtime component's work path."""

VERSIONS = (1,)
MESSAGE_BYTES_MAX = 65_536
ALIGNMENT_BYTES = 64
"""Every tensor begins at a multiple of this: a cache line, and what the widest vector loads want."""

REQUEST_HEAD = struct.Struct("<BBHII")
"""kind, slot, channel, sequence, deadline_us (0: the server's own limit); then each input's dimensions as ``u32``."""

ANSWER_HEAD = struct.Struct("<BBHIII")
"""kind, flags, channel, sequence, generation, run_us; then each output's dimensions; with MODEL_NAMED, a model's JSON."""

FAILED_HEAD = struct.Struct("<BBHI")
"""kind, flags (0), channel, sequence; then an error's JSON."""

MODEL_NAMED = 1
"""Flag of an answer: this generation answers for the first time on this channel, and is named after the dimensions."""


class Kind(IntEnum):
    """The first byte of every message. Below 16: that byte, then one JSON object."""

    HELLO = 1
    WELCOME = 2
    OPEN = 3
    OPENED = 4
    CLOSE = 5
    CLOSED = 6
    REFUSED = 7
    REQUEST = 16
    ANSWER = 17
    FAILED = 18


@dataclass(frozen=True, slots=True)
class Hello:
    """The client's first message. Its form stays for ever: it is how the two find out which version they share.

    ``thread_id`` is the kernel's number of the thread that will ask (``gettid``), so that the runtime can serve it on
    the core where it runs; a hint, and optional.
    """

    versions: tuple[int, ...] = VERSIONS
    client: str = ""
    thread_id: int | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode; raises ContractError naming the field."""
        fields = Fields(document)
        fields.schema("fastpath-hello", 1)
        return cls(
            fields.items("versions", as_integer),
            fields.text("client"),
            fields.optional("thread_id", fields.integer),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("fastpath-hello", 1),
            "versions": list(self.versions),
            "client": self.client,
        }
        if self.thread_id is not None:
            known["thread_id"] = self.thread_id
        return known


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's answer: the version that both will speak, and who serves."""

    version: int
    runtime_version: str
    process_id: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode; raises ContractError naming the field."""
        fields = Fields(document)
        fields.schema("fastpath-welcome", 1)
        return cls(
            fields.integer("version"), fields.text("runtime_version"), fields.integer("process_id"), fields.rest()
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("fastpath-welcome", 1),
            "version": self.version,
            "runtime_version": self.runtime_version,
            "process_id": self.process_id,
        }


@dataclass(frozen=True, slots=True)
class Open:
    """Ask for a channel to one model name, whatever version answers.

    Attributes:
        model: the model's name.
        input_bytes: room wanted for each input, by name; the server gives at least that, or refuses.
        output_bytes: room wanted for each output whose size is not fixed.
        key: whose requests these are, where versions share a name: the same key is always answered by the same one.
        sequence: whose state the runtime carries from request to request, where the model has any.
    """

    model: str
    input_bytes: Mapping[str, int] = NOTHING
    output_bytes: int = 0
    key: str | None = None
    sequence: str | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode; raises ContractError naming the field."""
        fields = Fields(document)
        fields.schema("fastpath-open", 1)
        return cls(
            fields.text("model"),
            fields.table("input_bytes", as_integer),
            fields.integer("output_bytes"),
            fields.optional("key", fields.text),
            fields.optional("sequence", fields.text),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("fastpath-open", 1),
            "model": self.model,
            "input_bytes": dict(self.input_bytes),
            "output_bytes": self.output_bytes,
        }
        for name in ("key", "sequence"):
            if (value := getattr(self, name)) is not None:
                known[name] = value
        return known


@dataclass(frozen=True, slots=True)
class Region:
    """Where one tensor lies in each slot: ``slot * slot_bytes + offset``, at most ``capacity_bytes`` long, C order."""

    spec: TensorSpec
    offset: int
    capacity_bytes: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``inputs`` or ``outputs``."""
        fields = Fields(value, where)
        return cls(
            fields.nested("spec", TensorSpec.read),
            fields.integer("offset"),
            fields.integer("capacity_bytes"),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {
            **self.extra,
            "spec": self.spec.to_document(),
            "offset": self.offset,
            "capacity_bytes": self.capacity_bytes,
        }


@dataclass(frozen=True, slots=True)
class Opened:
    """A channel; the memory's file descriptor comes with this message (``SCM_RIGHTS``), sealed against resizing.

    Attributes:
        channel: number to put into requests.
        model, generation: what serves now; an answer of another generation names its model itself.
        inputs, outputs: in the order in which requests and answers give dimensions.
        slot_count: requests use the slots in turn, so that the bytes of an answer stay untouched during the next
            ``slot_count - 1`` requests.
        slot_bytes, size_bytes: of one slot, and of the whole memory.
        nan_policy: ``accept`` or ``refuse``, as in the manifest.
    """

    channel: int
    model: ModelRef
    generation: int
    inputs: tuple[Region, ...]
    outputs: tuple[Region, ...]
    slot_count: int
    slot_bytes: int
    nan_policy: str = "accept"
    extra: Mapping[str, Any] = NOTHING

    @property
    def size_bytes(self) -> int:
        """Of the whole shared memory."""
        return self.slot_count * self.slot_bytes

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode; raises ContractError naming the field."""
        fields = Fields(document)
        fields.schema("fastpath-opened", 1)
        return cls(
            channel=fields.integer("channel", maximum=0xFFFF),
            model=fields.nested("model", ModelRef.read),
            generation=fields.integer("generation", maximum=0xFFFFFFFF),
            inputs=fields.items("inputs", Region.read),
            outputs=fields.items("outputs", Region.read),
            slot_count=fields.integer("slot_count", minimum=1),
            slot_bytes=fields.integer("slot_bytes"),
            nan_policy=fields.text("nan_policy"),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("fastpath-opened", 1),
            "channel": self.channel,
            "model": self.model.to_document(),
            "generation": self.generation,
            "inputs": [region.to_document() for region in self.inputs],
            "outputs": [region.to_document() for region in self.outputs],
            "slot_count": self.slot_count,
            "slot_bytes": self.slot_bytes,
            "nan_policy": self.nan_policy,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer; the stable ``code`` says whose move it is.

    ``stale-channel`` and ``answer-too-large`` (``needed_bytes`` says how large) ask the client to open a new channel and
    ask again: the request was not answered. ``overloaded`` (not begun; ``retry_after_ms`` says when it is worth asking
    again) and ``busy`` may be tried again later. All others are final for this request.
    """

    code: str
    message: str
    remedy: str = ""
    needed_bytes: int | None = None
    retry_after_ms: int | None = None
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode; raises ContractError naming the field."""
        fields = Fields(document)
        fields.schema("fastpath-error", 1)
        return cls(
            fields.text("code"),
            fields.text("message"),
            fields.text("remedy"),
            fields.optional("needed_bytes", fields.integer),
            fields.optional("retry_after_ms", fields.integer),
            fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        known: dict[str, Any] = {
            **self.extra,
            "schema": schema_name("fastpath-error", 1),
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
        }
        for name in ("needed_bytes", "retry_after_ms"):
            if (value := getattr(self, name)) is not None:
                known[name] = value
        return known


def pack_control(kind: Kind, document: Document) -> bytes:
    """A control message: its kind, then JSON."""
    return bytes((kind,)) + to_bytes(document)


def unpack_control(message: bytes | memoryview, *expected: Kind) -> tuple[Kind, Document]:
    """Split a control message.

    Raises:
        MalformedError: empty, of a kind that is not expected here, or not JSON.
    """
    if not message or message[0] not in expected:
        found = message[0] if message else "nothing"
        raise MalformedError(f"is {found}, where {' or '.join(kind.name for kind in expected)} belongs", "kind")
    return Kind(message[0]), from_bytes(bytes(message[1:]), MESSAGE_BYTES_MAX)


def pack_failed(channel: int, sequence: int, failure: Failure) -> bytes:
    """The answer to a request that has none."""
    return FAILED_HEAD.pack(Kind.FAILED, 0, channel, sequence) + to_bytes(failure.to_document())


def unpack_failure(body: bytes | memoryview) -> Failure:
    """The JSON after a FAILED head or in a REFUSED message; raises ContractError."""
    return Failure.read(from_bytes(bytes(body), MESSAGE_BYTES_MAX))


def shape_problem(spec: TensorSpec, shape: Sequence[int]) -> str:
    """One sentence on why ``shape`` does not fit ``spec`` (-1 fits any size), or an empty string."""
    fits = len(shape) == len(spec.shape) and all(
        wanted in (-1, found) for wanted, found in zip(spec.shape, shape, strict=True)
    )
    return "" if fits else f"{spec.name} has shape {tuple(shape)}, the model takes {tuple(spec.shape)}"


def aligned(size_bytes: int) -> int:
    """The next multiple of :data:`ALIGNMENT_BYTES`."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
