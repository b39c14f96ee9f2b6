"""One blocking connection: the conversation of conversation.py over a socket.

It knows nothing of retries: whatever breaks it raises ``OSError`` (:class:`Client` opens another) or a ``ClientError``
(the answer is what it is). Waiting is bounded by the kernel (``SO_RCVTIMEO``), which costs no system call per request
as long as the deadline stays the same; what takes several messages is bounded as a whole. (Python begins an interrupted wait
anew, PEP 475: in a program whose main thread has a signal handler run more often than the deadline, a runtime that hangs is
waited for without end. Ask from another thread there; one that answers, or goes away, is noticed as ever.)

Belongs to one thread at a time.
"""

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from numpy.typing import ArrayLike

from edge_component.client.answers import Answer, Array, AskAgainError
from edge_component.client.channel import TooSmallError
from edge_component.client.conversation import Conversation, Received, Result, Steps
from edge_component.client.errors import InputError
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Opened
from edge_component.contracts.unix_address import unix_address

SHORTEST_S = 0.000_001
"""Of a wait; the kernel takes 0 for ever."""


class Connection:
    """A connected, greeted socket and the channels opened on it."""

    def __init__(self, socket_path: Path, wait_s: float, conversation: Conversation | None = None) -> None:
        """Connect and agree on a protocol version; ``wait_s`` is then what every wait is bounded by.

        Raises:
            OSError: nobody listens, or it went away.
            ClientError: the runtime refused the connection.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wait_s = 0.0
        self._conversation = conversation or Conversation()
        self._channels = self._conversation.channels
        self._descriptor = self._socket.fileno()
        self._receive_into = self._socket.recv_into
        self._buffer = bytearray(MESSAGE_BYTES_MAX)
        try:
            self.wait_at_most(wait_s)
            with unix_address(socket_path) as address:
                self._socket.connect(address)
            self.server = self._drive(self._conversation.greet(threading.get_native_id()), wait_s)
        except BlockingIOError as error:
            self._socket.close()
            raise TimeoutError("the connection was not accepted in time") from error
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hang up; the runtime frees the channels."""
        self._socket.close()
        self._conversation.channels.clear()

    def wait_at_most(self, wait_s: float) -> None:
        """Bound every wait from now on; ``TimeoutError``'s kin (``BlockingIOError``) is raised beyond."""
        if wait_s == self.wait_s:
            return
        whole_s = int(wait_s)
        limit = struct.pack("@ll", whole_s, max(int((wait_s - whole_s) * 1_000_000), 1))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.wait_s = wait_s

    def predict(self, model: str, inputs: Mapping[str, ArrayLike], left_s: float, copy: bool) -> Answer:  # noqa: FBT001 - as Channel.answer
        """One request.

        Raises:
            OSError: the runtime went away or did not answer in time.
            ClientError: the answer is an error.
        """
        channel = self._channels.get(model)
        trouble: Exception | None = None
        if channel is not None:  # the way of nearly every request, without a step that it does not need
            try:
                os.write(self._descriptor, channel.request(inputs, left_s))  # cheaper than the socket's own send
                return channel.answer(self._buffer, self._receive_into(self._buffer), copy)
            except (InputError, TooSmallError, AskAgainError) as error:
                trouble = error
        steps = self._conversation.predict(model, inputs, left_s, copy=copy, trouble=trouble)
        return self._drive(steps, left_s)

    def look(self, model: str) -> Opened:
        """Who serves under a name, and with which tensors; raises as :meth:`predict`."""
        return self._drive(self._conversation.open(model, {}), self.wait_s).opened

    def prepare(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Views on shared memory where the next request's inputs will lie, holding these; raises as :meth:`predict`."""
        return self._drive(self._conversation.prepare(model, inputs), self.wait_s)

    def next_views(self, model: str) -> dict[str, Array]:
        """The same for a request of the shapes written last; empty if there was none."""
        return self._conversation.next_views(model)

    def _drive(self, steps: Steps[Result], left_s: float) -> Result:
        ends_at_s = time.monotonic() + left_s
        try:
            message = next(steps)
            while True:
                self.wait_at_most(max(ends_at_s - time.monotonic(), SHORTEST_S))
                received = self._exchange(message)
                try:
                    message = steps.send(received)
                finally:
                    if received.descriptor is not None:
                        os.close(received.descriptor)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _exchange(self, message: bytes | bytearray) -> Received:
        with suppress(BrokenPipeError):  # turned away before we could say anything: why is what waits to be read
            self._socket.send(message)
        return receive(self._socket)


def receive(connection: socket.socket) -> Received:
    """One message with its descriptor, if it carries one.

    Raises:
        OSError: as ``recv``; or EMFILE, where the kernel had to drop the descriptor for want of one.
    """
    message, descriptors, flags, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, 1)
    if flags & socket.MSG_CTRUNC and not descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return Received(message, descriptors[0] if descriptors else None)
