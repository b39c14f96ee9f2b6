"""One connection of the client: handshake, channels, and one request at a time.

It knows nothing of retries: whatever breaks it raises ``OSError`` (:class:`Client` opens another) or a ``ClientError``
(the answer is what it is). Waiting is bounded by the kernel (``SO_RCVTIMEO``), which costs no system call per request
as long as the deadline stays the same. Belongs to one thread at a time.
"""

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from numpy.typing import ArrayLike

from edge_component.client.channel import Array, Channel, room_of
from edge_component.client.errors import ProtocolError, error_of
from edge_component.contracts.codec import from_bytes
from edge_component.contracts.errors import ContractError
from edge_component.contracts.fastpath import (
    ANSWER_HEAD,
    FAILED_HEAD,
    MESSAGE_BYTES_MAX,
    MODEL_NAMED,
    Failure,
    Hello,
    Kind,
    Open,
    Opened,
    Welcome,
    pack_control,
    unpack_control,
    unpack_failure,
)
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.unix_address import unix_address

DEADLINE_US_MAX = 0xFFFFFFFF
CLIENT_NAME = "python"


class AskAgainError(Exception):
    """The channel no longer fits (other tensors, more room needed): open another and ask again."""

    def __init__(self, failure: Failure) -> None:
        """Keep what the runtime said."""
        super().__init__(failure.message)
        self.failure = failure


class Connection:
    """A connected, greeted socket and the channels opened on it."""

    def __init__(self, socket_path: Path, wait_s: float) -> None:
        """Connect and agree on a protocol version.

        Raises:
            OSError: nobody listens, or it went away.
            ClientError: the runtime refused the connection.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wait_s = 0.0
        self._sequence = 0
        self._channels: dict[str, Channel] = {}
        self._buffer = bytearray(MESSAGE_BYTES_MAX)
        self._seen = memoryview(self._buffer)
        try:
            self.wait_at_most(wait_s)
            with unix_address(socket_path) as address:
                self._socket.connect(address)
            self.server = self._greet()
        except BlockingIOError as error:
            self._socket.close()
            raise TimeoutError("the connection was not accepted in time") from error
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hang up; the runtime frees the channels."""
        self._socket.close()
        self._channels.clear()

    def wait_at_most(self, wait_s: float) -> None:
        """Bound every wait from now on; ``TimeoutError``'s kin (``BlockingIOError``) is raised beyond."""
        if wait_s == self._wait_s:
            return
        whole_s = int(wait_s)
        limit = struct.pack("@ll", whole_s, max(int((wait_s - whole_s) * 1_000_000), 1))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._wait_s = wait_s

    def channel(self, model: str) -> Channel | None:
        """The open channel to a model, if there is one."""
        return self._channels.get(model)

    def open(self, model: str, inputs: Mapping[str, ArrayLike], output_bytes: int = 0) -> Channel:
        """Open a channel with room for these inputs, in place of an earlier one to the same model."""
        earlier = self._channels.pop(model, None)
        if earlier is not None:
            self._control(Kind.CLOSE, {"channel": earlier.opened.channel}, Kind.CLOSED)
        wanted = Open(model, {name: room_of(name, value) for name, value in inputs.items()}, output_bytes)
        self._socket.send(pack_control(Kind.OPEN, wanted.to_document()))
        message, descriptors, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES_MAX, 1)
        try:
            opened = Opened.read(self._expect(message, Kind.OPENED))
            if not descriptors:
                raise ProtocolError("the runtime opened a channel without memory", "protocol-violation")
            channel = self._channels[model] = Channel(opened, descriptors[0])
        except (ContractError, ValueError) as error:
            raise ProtocolError(f"the runtime's channel cannot be used: {error}", "protocol-violation") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return channel

    def ask(
        self, channel: Channel, inputs: Mapping[str, ArrayLike], deadline_s: float, *, copy: bool
    ) -> tuple[dict[str, Array], ModelRef, int]:
        """One request; returns outputs, who answered, and how long the model ran in µs.

        Raises:
            OSError: the runtime went away or did not answer in time.
            AskAgainError: the channel must be opened again.
            ClientError: the answer is an error.
        """
        self._sequence = sequence = (self._sequence + 1) & 0xFFFFFFFF
        deadline_us = min(max(int(deadline_s * 1_000_000), 1), DEADLINE_US_MAX)
        self._socket.send(channel.write(inputs, sequence, deadline_us))
        size = self._socket.recv_into(self._buffer)
        kind = self._buffer[0] if size else None
        if kind != Kind.ANSWER:
            raise self._failure(kind, size)
        _, flags, _, answered, generation, run_us = ANSWER_HEAD.unpack_from(self._buffer)
        if answered != sequence:
            raise ProtocolError(f"the runtime answered request {answered}, not {sequence}", "protocol-violation")
        dimensions = channel.answer_dimensions.unpack_from(self._buffer, ANSWER_HEAD.size)
        if flags & MODEL_NAMED:
            named = self._seen[ANSWER_HEAD.size + channel.answer_dimensions.size : size]
            channel.models[generation] = ModelRef.read(from_bytes(bytes(named), MESSAGE_BYTES_MAX), "model")
        return channel.read(dimensions, sequence, copy=copy), channel.models[generation], run_us

    def _failure(self, kind: int | None, size: int) -> Exception:
        if kind is None:
            return ConnectionResetError("the runtime hung up")
        if kind not in (Kind.FAILED, Kind.REFUSED):
            return ProtocolError(f"the runtime answered with a message of kind {kind}", "protocol-violation")
        failure = unpack_failure(self._seen[FAILED_HEAD.size if kind == Kind.FAILED else 1 : size])
        if failure.code in ("stale-channel", "answer-too-large", "unknown-channel"):
            return AskAgainError(failure)
        return error_of(failure)

    def _greet(self) -> Welcome:
        with suppress(BrokenPipeError):  # turned away before we could say anything: why is what waits to be read
            self._socket.send(pack_control(Kind.HELLO, Hello(client=CLIENT_NAME).to_document()))
        return Welcome.read(self._expect(self._socket.recv(MESSAGE_BYTES_MAX), Kind.WELCOME))

    def _control(self, kind: Kind, document: Mapping[str, object], answer: Kind) -> Mapping[str, object]:
        self._socket.send(pack_control(kind, document))
        return self._expect(self._socket.recv(MESSAGE_BYTES_MAX), answer)

    def _expect(self, message: bytes, answer: Kind) -> Mapping[str, object]:
        if not message:
            raise ConnectionResetError("the runtime hung up")
        try:
            kind, document = unpack_control(message, answer, Kind.REFUSED)
            if kind is Kind.REFUSED:
                raise error_of(Failure.read(document))
        except ContractError as error:
            raise ProtocolError(f"the runtime's answer is not understood: {error}", "protocol-violation") from error
        return document
