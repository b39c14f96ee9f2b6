"""What a client says on one connection and what it makes of the answers, without any I/O.

The failure this exists for: a blocking and an asyncio client that drift apart. Both drive the same steps: a generator
that yields each message to send and is sent what came back. (The blocking one goes to an open channel directly first,
since a step of a generator costs as much as a small model's whole copy.)

It knows nothing of retries; what it raises is a ``ClientError`` (the answer is what it is) or ``ConnectionResetError``.
Belongs to one connection, and one request at a time.
"""

from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

from numpy.typing import ArrayLike

from edge_component.client.answers import Answer, Array, AskAgainError
from edge_component.client.channel import Channel, TooSmallError, room_of
from edge_component.client.errors import InputError, ProtocolError, RefusedError, error_of
from edge_component.contracts.errors import ContractError
from edge_component.contracts.fastpath import (
    VERSIONS,
    Failure,
    Hello,
    Kind,
    Open,
    Opened,
    Welcome,
    pack_control,
    unpack_control,
)

CLIENT_NAME = "python"
REOPENS_MAX = 8
"""Channels opened anew for one request: each is a swap to other tensors, or an answer that outgrew its room."""


class Received(NamedTuple):
    """One message, and the descriptor that came with it; empty when the runtime has hung up."""

    message: bytes
    descriptor: int | None = None


Result = TypeVar("Result")
Steps = Generator[bytes | bytearray, Received, Result]
"""Yields what to send, is sent what came back, returns its result."""


class Conversation:
    """The open channels of one connection, and what is said on it."""

    def __init__(self, key: str | None = None, stream: str | None = None) -> None:
        """Nothing has been said; key and stream are told with each channel that is opened."""
        self._key, self._stream = key, stream
        self.channels: dict[str, Channel] = {}

    def greet(self, thread_id: int) -> Steps[Welcome]:
        """Agree on a protocol version; ``thread_id`` is the one that will ask, as the kernel numbers it."""
        hello = Hello(client=CLIENT_NAME, thread_id=thread_id)
        received = yield pack_control(Kind.HELLO, hello.to_document())
        document = _expect(received, Kind.WELCOME)
        try:
            welcome = Welcome.read(document)
        except ContractError as error:
            raise ProtocolError(f"the runtime's welcome is not understood: {error}", "protocol-violation") from error
        if welcome.version not in VERSIONS:
            raise ProtocolError(f"the runtime speaks version {welcome.version}", "unsupported-protocol")
        return welcome

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        left_s: float,
        *,
        copy: bool,
        trouble: Exception | None = None,
    ) -> Steps[Answer]:
        """Ask, on a channel that is opened first if it must be, and opened anew if a swap has brought other tensors.

        ``trouble`` is what a first try ended in that was made without these steps.

        Raises:
            ClientError: the answer is an error.
            ConnectionResetError: the runtime hung up.
        """
        known = self.channels.get(model)
        channel, is_fresh = known or (yield from self.open(model, inputs)), known is None
        for _ in range(REOPENS_MAX):
            try:
                if trouble is not None:
                    raise trouble
                received = yield channel.request(inputs, left_s)
                return channel.answer(received.message, len(received.message), copy)
            except InputError as error:
                if is_fresh or error.code == "input-nan":
                    raise
                channel, is_fresh = (yield from self.open(model, inputs)), True  # a swap may have brought other inputs
            except TooSmallError:
                channel = yield from self.open(model, inputs)
            except AskAgainError as again:
                channel = yield from self.open(model, inputs, again.failure.needed_bytes or 0)
            trouble = None
        raise RefusedError(f"{model} changed its tensors {REOPENS_MAX} times in one request", "stale-channel")

    def prepare(self, model: str, inputs: Mapping[str, ArrayLike]) -> Steps[dict[str, Array]]:
        """Where the next request's inputs will lie in shared memory: views that hold these."""
        known = self.channels.get(model)
        if known is not None:
            with suppress(TooSmallError, InputError):  # a swap may have brought other inputs, as in predict
                return known.fill_next(inputs)
        channel = yield from self.open(model, inputs)
        return channel.fill_next(inputs)

    def open(self, model: str, inputs: Mapping[str, ArrayLike], output_bytes: int = 0) -> Steps[Channel]:
        """Open a channel with room for these inputs, in place of an earlier one to the same model.

        Where the runtime gives this connection no more of them, the one opened first makes room: an application may ask
        more models than a connection has channels.
        """
        yield from self._close(model)
        rooms = {name: room_of(name, value) for name, value in inputs.items()}
        asked = Open(model, rooms, output_bytes, self._key, self._stream)
        try:
            message = pack_control(Kind.OPEN, asked.to_document())
        except ContractError as error:
            raise InputError(
                f"{model!r} cannot be asked: {error}", "input-name", "Give names that are text."
            ) from error
        try:
            return (yield from self._open(asked, message))
        except RefusedError as error:
            if error.code != "channel-limit" or not self.channels:
                raise
        yield from self._close(next(iter(self.channels)))
        return (yield from self._open(asked, message))

    def _close(self, model: str) -> Steps[None]:
        channel = self.channels.pop(model, None)
        if channel is not None:
            closed = yield pack_control(Kind.CLOSE, {"channel": channel.opened.channel})
            _expect(closed, Kind.CLOSED)

    def _open(self, asked: Open, message: bytes) -> Steps[Channel]:
        received = yield message
        try:
            opened = Opened.read(_expect(received, Kind.OPENED))
            if received.descriptor is None:
                raise ProtocolError("the runtime opened a channel without memory", "protocol-violation")
            channel = self.channels[asked.model] = Channel(opened, received.descriptor)
        except (ContractError, ValueError) as error:
            raise ProtocolError(f"the runtime's channel cannot be used: {error}", "protocol-violation") from error
        return channel

    def next_views(self, model: str) -> dict[str, Array]:
        """Where the next request's inputs will lie, if the channel is open and has been written to."""
        channel = self.channels.get(model)
        return channel.next_views() if channel is not None else {}


def _expect(received: Received, answer: Kind) -> Mapping[str, object]:
    if not received.message:
        raise ConnectionResetError("the runtime hung up")
    try:
        kind, document = unpack_control(received.message, answer, Kind.REFUSED)
        if kind is Kind.REFUSED:
            raise error_of(Failure.read(document))
    except ContractError as error:
        raise ProtocolError(f"the runtime's answer is not understood: {error}", "protocol-violation") from error
    return document
